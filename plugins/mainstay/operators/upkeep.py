"""Upkeep: what must be looked after between backups."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowSkipException

from include.engine.cli import figures
from include.engine.errors import Misconfigured
from include.engine.systems.airflow import metadata, task_logs
from mainstay.hooks.mainstay import AirflowConnections
from mainstay.operators.judge import require_checks
from mainstay.operators.step import Step, Summary, clock

if TYPE_CHECKING:
    from airflow.sdk import Context

METADATA_CONNECTION = "airflow_metadata"


class UpkeepStep(Step):
    """A step of upkeep."""

    def __init__(self, *, runbook: str = "upkeep-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)


class SweepOperator(UpkeepStep):
    """Remove what dead attempts left: objects that no manifest names, uploads that nobody will end.

    Reads the param ``dry_run``.  Nothing younger than the engine's age floor, and nothing of a running backup, is touched.
    """

    def execute(self, context: Context) -> Summary:
        """Sweep."""
        from include.engine.verbs import upkeep

        dry_run: bool = context["params"]["dry_run"]
        report = upkeep.sweep_orphans(self.pipeline, dry_run=dry_run, clock=clock)
        orphans = sum(len(one.orphans) for one in report.targets)
        refused = sum(len(one.refused) for one in report.targets)
        for one in report.targets:
            for held in one.held:
                self.log.info("%s: left alone, a backup is running: %s", one.target, held)
        self.log.info(
            "%s orphans, %s%s", orphans, figures.size(report.bytes), " would be removed" if dry_run else " removed"
        )
        if refused:
            self.log.warning("the store did not delete %s objects: they are locked", refused)
        return {"dry_run": dry_run, "orphans": orphans, "refused": refused, "bytes": report.bytes}


class AuditOperator(UpkeepStep):
    """Walk every log archive in the bucket, and fail on a gap: recovery past it is not possible."""

    def __init__(self, *, runbook: str = "wal-gap", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    def execute(self, context: Context) -> Summary:
        """Audit."""
        from include.engine.verbs import upkeep

        checks = upkeep.audit_archives(self.pipeline, clock=clock)
        for check in checks:
            self.log.info("%s %s: %s", check.verdict, check.name, check.detail)
        if not checks:
            raise AirflowSkipException("no target has a log archive")
        require_checks("log archives", checks, runbook=self.runbook)
        return {"checks": len(checks)}


class CheckCatalogOperator(UpkeepStep):
    """Check that every set is whole, and that every target has a backup."""

    def execute(self, context: Context) -> Summary:
        """Check."""
        from include.engine.verbs import upkeep

        checks = upkeep.check_catalog(self.pipeline)
        require_checks("catalog", checks, runbook=self.runbook)
        self.log.info("%s checks have passed", len(checks))
        return {"checks": len(checks)}


class CleanMetadataOperator(UpkeepStep):
    """Delete old rows from Airflow's own database.  Reads the params ``dry_run`` and ``metadata_days``.

    Skipped when Airflow has no connection ``airflow_metadata``: that connection is how a person permits it.
    """

    def execute(self, context: Context) -> Summary:
        """Clean."""
        try:
            connection = AirflowConnections().get(METADATA_CONNECTION)
        except Misconfigured as error:
            raise AirflowSkipException(
                f"there is no connection {METADATA_CONNECTION}, so nobody has permitted this task to clean Airflow's database; "
                "define it, or run `airflow db clean` beside the scheduler"
            ) from error
        days: int = context["params"]["metadata_days"]
        before = clock() - timedelta(days=days)
        if context["params"]["dry_run"]:
            self.log.info("rows older than %s would be deleted", figures.moment(before))
            return {"dry_run": True}
        said = metadata.clean(connection, before=before, stop=self.stop)
        self.log.info("rows older than %s are deleted. Airflow said:\n%s", figures.moment(before), said)
        return {"dry_run": False, "before": before.isoformat()}


class CleanLogsOperator(UpkeepStep):
    """Delete old task logs from this worker's disk.  Reads the params ``dry_run`` and ``log_days``.

    Logs in an object store are the business of its lifecycle rules.
    """

    def execute(self, context: Context) -> Summary:
        """Clean."""
        folder = Path(conf.get("logging", "base_log_folder"))
        days: int = context["params"]["log_days"]
        before = clock() - timedelta(days=days)
        if context["params"]["dry_run"]:
            self.log.info("logs in %s older than %s would be deleted", folder, figures.moment(before))
            return {"dry_run": True}
        removed = task_logs.remove_old(folder, before=before, stop=self.stop)
        self.log.info("%s logs older than %s are deleted from %s", removed.files, figures.moment(before), folder)
        return {"dry_run": False, "files": removed.files, "bytes": removed.bytes}
