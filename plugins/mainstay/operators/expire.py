"""Expire: apply retention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from include.engine.verbs import retention
from mainstay.operators.step import Step, Summary, clock

if TYPE_CHECKING:
    from airflow.sdk import Context


class ExpireOperator(Step):
    """Remove what the inventory's retention no longer keeps, and log the reason for every backup that stays.

    :param dry_run: only say what would go (templated)
    """

    template_fields: Sequence[str] = ("dry_run",)

    def __init__(self, *, dry_run: bool | str = False, runbook: str = "upkeep-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.dry_run = dry_run

    def execute(self, context: Context) -> Summary:
        """Expire."""
        report = retention.expire(self.pipeline, dry_run=bool(self.dry_run), clock=clock)
        return {"dry_run": bool(self.dry_run), "report": report}
