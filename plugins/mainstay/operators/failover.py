"""Fail over to a mirror: look, and when a person has approved, do it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from include.engine.verbs import failover as verb
from mainstay.operators.judge import told
from mainstay.operators.mirror import MirrorStep
from mainstay.operators.plan_page import plain
from mainstay.operators.restore import approver
from mainstay.operators.step import Summary, clock

if TYPE_CHECKING:
    from airflow.sdk import Context


class PlanFailoverOperator(MirrorStep):
    """Say what a fail-over would find, also with a dead source.  Changes nothing.

    Its summary has the plan as a page for the person who approves it (``page``).
    """

    def execute(self, context: Context) -> Summary:
        """Look."""
        plan = verb.plan(self.opened, clock)
        page = page_of(plan, context["params"]["reason"])
        self.log.info("%s", page)
        return {
            "mirror": plan.mirror,
            "source_answers": plan.source_answers,
            "caught_up": plan.caught_up,
            "offsets": plan.offsets,
            "page": page,
        }


class FailoverOperator(MirrorStep):
    """Fail over.  A FAIL is a result: the task after this one judges it.

    :param approval: what the person answered (templated)
    :param patience: for how long a source that still answers is copied to its end
    """

    template_fields = ("mirror", "approval")

    def __init__(self, *, approval: Any, patience: timedelta = timedelta(minutes=5), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.approval = approval
        self.patience = patience

    def execute(self, context: Context) -> Summary:
        """Fail over."""
        who = approver(self.approval)
        reason = context["params"]["reason"]
        self.log.info("failing over to %s, approved by %s: %s", self.mirror, who, reason)
        with self.progress() as progress:
            report = verb.failover(
                self.opened, reason=reason, patience=self.patience, progress=progress, stop=self.stop, clock=clock
            )
        for check in report.checks:
            self.log.info("%s %s: %s", check.verdict, check.name, check.detail)
        return {
            "what": f"fail-over to {self.mirror}",
            "verdict": str(report.verdict),
            "problems": told(report.checks),
            "source_answered": report.source_answered,
            "seconds": (report.finished - report.started).total_seconds(),
            "reason": reason,
            "approved_by": who,
        }


def page_of(plan: verb.FailoverPlan, reason: str) -> str:
    """Write the plan as Markdown for the person who approves it."""
    lacks = ", ".join(plan.missing[:5]) or "nothing"
    facts = [
        ("Mirror", f"`{plan.mirror}`"),
        ("The source", "answers" if plan.source_answers else "**does not answer**"),
        ("The copy lacks", "**not known**" if plan.offsets is None else plain(f"{plan.offsets} offsets: {lacks}")),
        ("Reason", plain(reason)),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| **{name}** | {value} |" for name, value in facts)])
    warnings = "".join(f"\n> **Warning:** {plain(one)}\n" for one in plan.warnings)
    steps = "\n".join(f"{number}. {plain(step)}" for number, step in enumerate(plan.steps, start=1))
    return f"{table}\n{warnings}\n**Steps**\n\n{steps}\n"
