"""Mirror: plan, apply, wait without a worker, prove."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from airflow.sdk.exceptions import AirflowSkipException

from include.engine.errors import PermanentError
from include.engine.mirroring import Mirror, MirrorProgress
from include.engine.model import worst
from include.engine.verbs import mirror as verb
from mainstay.hooks.mainstay import MainstayHook
from mainstay.operators.judge import told
from mainstay.operators.step import Step, Summary, clock
from mainstay.triggers.mirror import CaughtUpTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class MirrorStep(Step):
    """A step on one mirror.

    :param mirror: ``<system>/<name>/<mirror>`` (templated)
    """

    template_fields: Sequence[str] = ("mirror",)

    def __init__(self, *, mirror: str, runbook: str = "mirror-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.mirror = mirror

    @cached_property
    def opened(self) -> Mirror:
        """The mirror, with Airflow's connections."""
        return MainstayHook().mirror(self.mirror)

    def may_resume(self, context: Context) -> bool:
        """Say whether a person typed the mirror's name, so that it goes on though it was stopped."""
        return bool(context["params"].get("confirm") == self.mirror)


class PlanMirrorOperator(MirrorStep):
    """Say what would change in the connectors, and have Connect check it.  Changes nothing."""

    def execute(self, context: Context) -> Summary:
        """Plan.

        :raises AirflowSkipException: when a person asked for another mirror, and when the clock runs one that was failed over:
            nobody asked, and the sweep says so
        """
        asked = context["params"].get("mirror")
        if asked and asked != self.mirror:
            raise AirflowSkipException(f"only the mirror {asked} was asked for")
        scheduled = context["dag_run"].run_type == "scheduled"
        if scheduled and not self.may_resume(context) and (stopped := self.opened.stopped()):
            raise AirflowSkipException(
                f"{self.mirror} was stopped, as a fail-over does, and copies nothing: {stopped}. What to do next: "
                "include/runbooks/mirror-stopped.md"
            )
        planned = verb.plan(self.opened, resume=self.may_resume(context))
        for line in (*planned.changes, *planned.warnings):
            self.log.info("%s: %s", self.mirror, line)
        return {"changes": list(planned.changes), "topics": len(planned.topics), "warnings": list(planned.warnings)}


class ApplyMirrorOperator(MirrorStep):
    """Make the connectors what was declared, and note what the source has now.  Its summary is that note."""

    def execute(self, context: Context) -> Summary:
        """Apply."""
        self.opened.apply(resume=self.may_resume(context))
        return self.opened.cut(clock)


class WaitForMirrorOperator(MirrorStep):
    """Wait, deferred, until everything up to the cut is on the mirror.

    :param cut: the summary of :class:`ApplyMirrorOperator` (templated)
    :param patience: after which it counts as not caught up
    """

    template_fields: Sequence[str] = ("mirror", "cut")

    def __init__(self, *, cut: Any, patience: timedelta = timedelta(hours=1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cut = cut
        self.patience = patience

    def execute(self, context: Context) -> NoReturn:
        """Step aside."""
        until = time.time() + self.patience.total_seconds()
        self.defer(
            trigger=CaughtUpTrigger(mirror=self.mirror, cut=self.cut, until=until), method_name="execute_complete"
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Summary:
        """Take what the trigger has seen.

        :raises PermanentError: when a part of the mirror has failed
        """
        seen = msgspec.convert(event, MirrorProgress)
        if seen.failed:
            raise PermanentError(
                f"the mirror {self.mirror} has failed: {'; '.join(seen.failed)}",
                hint="see the Connect worker's log; mend the cause and run the mirror again",
            )
        return event


class ProveMirrorOperator(MirrorStep):
    """Compare samples and move the groups.  A FAIL is a result: the task after this one judges it.

    :param cut: the summary of :class:`ApplyMirrorOperator` (templated)
    :param seen: the summary of :class:`WaitForMirrorOperator` (templated)
    """

    template_fields: Sequence[str] = ("mirror", "cut", "seen")

    def __init__(self, *, cut: Any, seen: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cut = cut
        self.seen = seen

    def execute(self, context: Context) -> Summary:
        """Prove."""
        checks = verb.conclude(self.opened, self.cut, msgspec.convert(self.seen, MirrorProgress))
        for check in checks:
            self.log.info("%s %s: %s", check.verdict, check.name, check.detail)
        return {
            "what": f"mirror {self.mirror}",
            "verdict": str(worst([check.verdict for check in checks])),
            "problems": told(checks),
        }
