"""Expire: apply retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.engine.cli import figures
from mainstay.operators.step import Step, Summary, clock

if TYPE_CHECKING:
    from airflow.sdk import Context


class ExpireOperator(Step):
    """Remove what the inventory's retention no longer keeps, and log the reason for everything that stays."""

    def __init__(self, *, runbook: str = "upkeep-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    def execute(self, context: Context) -> Summary:
        """Expire."""
        from include.engine.verbs import retention

        report = retention.expire(self.pipeline, dry_run=False, clock=clock)
        for set_id, reasons in report.plan.sets.items():
            self.log.info("set %s stays: %s", set_id, ", ".join(reasons))
        for what in report.plan.cannot:
            self.log.warning("%s", what)
        done = report.done
        assert done is not None  # it was no dry run
        for one in done.backups:
            self.log.info("%s %s is gone: %s", one.target, one.backup, figures.size(one.bytes))
        for key in done.refused:
            self.log.warning("the store did not delete %s: it is locked", key)
        return {
            "sets_deleted": len(done.sets),
            "backups_deleted": len(done.backups),
            "sets_kept": len(report.plan.sets),
            "bytes": done.bytes + sum(report.archive_bytes.values()),
        }
