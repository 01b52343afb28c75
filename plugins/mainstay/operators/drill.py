"""Drill: choose what to restore, restore it into a sandbox on the worker, record the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.engine.cli import figures
from include.engine.model import Target, backup_id
from mainstay.operators.judge import told
from mainstay.operators.step import Step, Summary, clock

if TYPE_CHECKING:
    from airflow.sdk import Context


class ChooseOperator(Step):
    """Choose what to drill: the params ``set`` and ``target``, else all parts of the newest set."""

    def __init__(self, *, runbook: str = "drill-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    def execute(self, context: Context) -> Summary:
        """Choose."""
        from include.engine.verbs import drill

        params = context["params"]
        target = Target.parse(params["target"]) if params["target"] else None
        chosen = drill.choose(self.pipeline, target=target, set_id=params["set"])
        self.report = f"sets/{chosen.set_id}"
        backups = [[str(target), backup] for target, backup in chosen.backups]
        self.log.info("set %s: %s", chosen.set_id, ", ".join(f"{target} {backup}" for target, backup in backups))
        return {"set": chosen.set_id, "backups": backups}


class DrillOperator(Step):
    """Restore what was chosen into a sandbox, check it, measure RPO and RTO, tear down, record.

    A FAIL is a result, not an error: the task after this one judges it.

    :param chosen: the summary of :class:`ChooseOperator` (templated)
    """

    template_fields = ("chosen",)

    def __init__(self, *, chosen: Any, runbook: str = "drill-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.chosen = chosen

    def execute(self, context: Context) -> Summary:
        """Drill."""
        from include.engine.verbs import drill

        backups = tuple((Target.parse(target), backup) for target, backup in self.chosen["backups"])
        # Named after this try, not after the run: to drill again is to measure again, and every measurement is kept.
        drill_id = backup_id(clock())
        self.report = f"drills/{drill_id}"
        with self.progress() as progress:
            report = drill.drill(
                self.pipeline,
                drill.Exercise(set_id=self.chosen["set"], backups=backups),
                drill_id=drill_id,
                point=context["params"]["point"],
                progress=progress,
                stop=self.stop,
                clock=clock,
            )
        for check in report.checks:
            self.log.info("%s %s: %s", check.verdict, check.name, check.detail)
        self.log.info(
            "drill %s: %s, RTO %s of %s, RPO %s of %s",
            drill_id,
            report.verdict,
            figures.duration(report.rto_seconds),
            figures.duration(report.rto_objective),
            figures.duration(report.rpo_seconds),
            figures.duration(report.rpo_objective),
        )
        return {
            "what": f"drill {drill_id} of set {report.set_id}",
            "id": drill_id,
            "report": self.report,
            "verdict": str(report.verdict),
            "problems": told(report.checks),
            "checks": len(report.checks),
            "bytes": report.bytes,
            "rto_seconds": report.rto_seconds,
            "rpo_seconds": report.rpo_seconds,
            "stages": {stage.name: round(stage.seconds, 3) for stage in report.stages},
        }
