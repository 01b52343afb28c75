"""Sweep: look at each system, judge what was seen, tell who must know."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from include.engine.cli import figures
from include.engine.errors import Incomplete, MainstayError
from include.engine.model import Verdict
from mainstay.hooks.mainstay import MainstayHook
from mainstay.operators.step import Step, Summary, clock
from mainstay.params import UNREMEMBERED

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

    from include.engine.health.findings import Finding
    from include.engine.verbs.sweep import Watch

_MOST_TOLD = 20


class SweepStep(Step):
    """A step of a sweep."""

    report = "findings"

    def __init__(self, *, runbook: str = "not-read", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    @cached_property
    def watch(self) -> Watch:
        """What a sweep needs, with Airflow's connections."""
        return MainstayHook().watch()


class LookOperator(SweepStep):
    """Read everything of one system.  Its result is the looks, packed: whatever could not be read is in them, and fails no task.

    :param system: one of the inventory's (templated; map over it)
    """

    template_fields: Sequence[str] = ("system",)

    def __init__(self, *, system: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.system = system

    def execute(self, context: Context) -> Summary:
        """Look."""
        from include.engine.health.looks import pack
        from include.engine.verbs import sweep

        began = time.monotonic()
        looks = sweep.look(self.watch, [self.system], clock=clock)
        seconds = time.monotonic() - began
        for one in looks:
            if one.trouble is not None:
                self.log.warning("%s %s: %s. %s", one.subject, one.probe, one.trouble.message, one.trouble.hint)
        readings = sum(len(one.readings) for one in looks)
        self.log.info("%s: %s readings in %s", self.system, readings, figures.duration(seconds))
        return {"system": self.system, "readings": readings, "seconds": seconds, "looks": pack(looks)}


class JudgeSweepOperator(SweepStep):
    """Judge what was seen by the rules, and remember it.  A system whose task gave nothing is a finding.

    :param looks: the results of :class:`LookOperator` (templated)
    :param systems: all that should have been looked at
    """

    template_fields: Sequence[str] = ("looks",)

    def __init__(self, *, looks: Any, systems: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.looks = looks
        self.systems = list(systems)

    def execute(self, context: Context) -> Summary:
        """Judge."""
        from include.engine.health.looks import unpack
        from include.engine.verbs import sweep

        given = [one for one in self.looks or [] if one]
        looks = [look for one in given for look in unpack(one["looks"])]
        seconds = max((one["seconds"] for one in given), default=0.0)
        report, history = sweep.conclude(self.watch, looks, self.systems, clock=clock, seconds=seconds)
        for change in report.changes:
            self.log.warning("%s: %s", change.kind, _told(change.finding))
        self.log.info(
            "%s: %s readings, %s findings, %s changes; remembered in %s",
            report.verdict,
            report.readings,
            len(report.findings),
            len(report.changes),
            report.history,
        )
        problems = [f"{one.verdict} {_told(one)}" for one in report.findings if one.verdict is not Verdict.PASS]
        return {
            "what": "the sweep",
            "verdict": str(report.verdict),
            "readings": report.readings,
            "findings": len(report.findings),
            "changes": len(report.changes),
            "problems": problems[:_MOST_TOLD],
            "report": "findings",
            "unremembered": [msgspec.to_builtins(one) for one in report.changes] if history.forgets else [],
        }


class TellOperator(SweepStep):
    """Tell every receiver what it was not told yet, and thin the history.  One that does not answer keeps no other from being told.

    :param notifiers: one for each receiver
    :param summary: of :class:`JudgeSweepOperator`, which holds the changes when nothing could remember them (templated)
    """

    template_fields: Sequence[str] = ("summary",)

    def __init__(self, *, notifiers: Sequence[BaseNotifier], summary: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notifiers = list(notifiers)
        self.summary = summary

    def execute(self, context: Context) -> Summary:
        """Tell."""
        failed = []
        told: Any = {**context, UNREMEMBERED: (self.summary or {}).get("unremembered", [])}
        for notifier in self.notifiers:
            try:
                notifier.notify(told)
            except Exception as error:  # noqa: BLE001 - told below, when the others know
                self.log.warning("%s: %s", getattr(notifier, "receiver", notifier), error)
                failed.append(str(getattr(notifier, "receiver", notifier)))
        self._thin()
        if failed:
            raise Incomplete(
                f"not everybody could be told: {', '.join(failed)}",
                hint="check their connections; the next sweep tells them what they missed",
            )
        return {"receivers": len(self.notifiers)}

    def _thin(self) -> None:
        """Thin the history; one that does not let us is no reason to tell nobody, and the next sweep tries again."""
        try:
            removed = self.watch.remembered().thin(clock())
        except MainstayError as error:
            self.log.warning("the history was not thinned: %s. %s", error.message, error.hint)
        else:
            self.log.info("%s old points went from the history", removed)


def _told(finding: Finding) -> str:
    value = "" if finding.value is None else f" {figures.number(finding.value, finding.unit)}"
    return f"{finding.subject} {finding.rule}{value}: {finding.detail}"
