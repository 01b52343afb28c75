"""Checklists: go through one, have it signed where it must be, judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from include.engine import wiring
from mainstay.hooks.mainstay import MainstayHook
from mainstay.operators.judge import told
from mainstay.operators.step import Step, Summary, clock, run_name

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.engine.model import ChecklistReport

SIGN, REFUSE = "Sign", "Refuse"


class ChecklistStep(Step):
    """A step of a checklist.

    :param kind: morning, evening or predeployment
    """

    def __init__(self, *, kind: str, runbook: str = "checklist-open", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.kind = kind


class InspectOperator(ChecklistStep):
    """Look at everything, and go through the checklist.  What is wrong is in its report: the task after this one judges it.

    :param to_be_signed: whether a person's name is missing as yet
    """

    def __init__(self, *, to_be_signed: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.to_be_signed = to_be_signed

    def execute(self, context: Context) -> Summary:
        """Inspect."""
        from include.engine.verbs import checklist

        hook = MainstayHook()
        report = checklist.inspect(
            self.kind,
            hook.inventory,
            self.pipeline,
            hook.watch(),
            name=run_name(context),
            project=wiring.PROJECT,
            clock=clock,
        )
        if self.to_be_signed:
            report = checklist.unsigned(report)
        kept = checklist.keep(self.pipeline.catalog.bucket, report)
        self.report = page_of(kept)
        summary = _summary(kept)
        self.log.info("%s: %s", summary["what"], summary["verdict"])
        for problem in summary["problems"]:
            self.log.info("%s", problem)
        return summary


class SignOperator(ChecklistStep):
    """Put the name of the person who answered under the report.

    :param answer: the result of the task that asked (templated)
    """

    template_fields: Sequence[str] = ("answer",)

    def __init__(self, *, answer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.answer = answer

    def execute(self, context: Context) -> Summary:
        """Sign."""
        from include.engine.model import SignOff
        from include.engine.verbs import checklist

        bucket = self.pipeline.catalog.bucket
        unsigned = checklist.read(bucket, self.kind, run_name(context))
        signature = SignOff(
            by=signer(self.answer),
            at=clock(),
            accepted=list(self.answer.get("chosen_options") or []) == [SIGN],
            note=str((self.answer.get("params_input") or {}).get("note") or ""),
        )
        kept = checklist.keep(bucket, checklist.sign(unsigned, signature))
        self.report = page_of(kept)
        return _summary(kept)


def signer(answer: Mapping[str, Any]) -> str:
    """Name the person who answered; nobody is named when Airflow does not know."""
    user = answer.get("responded_by_user") or {}
    return str(user.get("name") or user.get("id") or "")


def page_of(report: ChecklistReport) -> str:
    """Give the page that shows a report."""
    return f"checklists/{report.kind}/{report.id}"


def _summary(report: ChecklistReport) -> Summary:
    from include.engine.health import pages

    items = [item for chapter in report.chapters for item in chapter.items]
    return {
        "what": f"{pages.title(report)} {report.id}",
        "verdict": str(report.verdict),
        "problems": told([item.as_check() for item in items]),
        "report": page_of(report),
        "page": pages.markdown(report),
    }
