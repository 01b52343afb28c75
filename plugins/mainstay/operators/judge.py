"""From verdicts to a failed task: whatever was not proved is not green."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from include.engine.errors import PermanentError
from include.engine.model import Check, Verdict, worst
from mainstay.operators.step import Step, Summary

if TYPE_CHECKING:
    from airflow.sdk import Context

MOST_TOLD = 20  # checks that a summary carries; the report in the bucket has all
LONGEST_DETAIL = 300


class NotProved(PermanentError):
    """A check failed, or could not be made."""


def told(checks: Sequence[Check]) -> list[str]:
    """Write the checks that did not pass, failures first, short enough for a summary."""
    order = (Verdict.FAIL, Verdict.UNVERIFIED)
    bad = sorted((check for check in checks if check.verdict in order), key=lambda check: order.index(check.verdict))
    lines = [f"{check.verdict} {check.name}: {check.detail[:LONGEST_DETAIL]}" for check in bad[:MOST_TOLD]]
    return lines if len(bad) <= MOST_TOLD else [*lines, f"and {len(bad) - MOST_TOLD} more"]


def require_pass(what: str, verdict: Verdict, problems: Sequence[str], *, runbook: str) -> None:
    """Raise unless *verdict* is PASS.

    :raises NotProved: with every problem, and the runbook as the hint
    """
    if verdict is Verdict.PASS:
        return
    lines = "".join(f"\n  {problem}" for problem in problems) or "\n  nothing was checked"
    raise NotProved(f"{what}: {verdict}{lines}\n", hint=f"runbook: include/runbooks/{runbook}.md")


def require_checks(what: str, checks: Sequence[Check], *, runbook: str) -> None:
    """Raise unless every one of *checks* has passed, and there was one.

    :raises NotProved: with those that have not
    """
    require_pass(what, worst([check.verdict for check in checks]), told(checks), runbook=runbook)


class JudgeOperator(Step):
    """Fail unless a summary's verdict is PASS.  Its own task, so that the grid shows a drill that ran and did not pass.

    What is UNVERIFIED only because there is nothing yet to prove it by is skipped: it is not green, and calls nobody.

    :param summary: of the task before: ``what``, ``verdict``, ``problems``, ``report``, and ``waits``: what is yet to come, when
        nothing else keeps it from a PASS (templated)
    :param unverified_runbook: instead of ``runbook`` when the verdict is UNVERIFIED
    """

    template_fields = ("summary",)

    def __init__(self, *, summary: Any, unverified_runbook: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.summary = summary
        self.unverified_runbook = unverified_runbook

    def execute(self, context: Context) -> Summary:
        """Judge."""
        if not self.summary:  # the task before it failed, and this one runs whatever happened
            raise NotProved("there is nothing to judge", hint="read the log of the task before this one")
        verdict = Verdict(self.summary["verdict"])
        self.report = self.summary.get("report", "")
        waits = self.summary.get("waits")
        if verdict is Verdict.UNVERIFIED and waits:
            raise AirflowSkipException(f"{self.summary['what']}: {verdict}, and nothing is wrong: {'; '.join(waits)}")
        if verdict is Verdict.UNVERIFIED and self.unverified_runbook:
            self.runbook = self.unverified_runbook
        require_pass(self.summary["what"], verdict, self.summary["problems"], runbook=self.runbook)
        self.log.info("%s: %s", self.summary["what"], verdict)
        return {"verdict": str(verdict)}
