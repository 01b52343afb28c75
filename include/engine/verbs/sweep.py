"""Sweep: look at everything at once, judge it, remember it, and say what changed.

The history may be gone or full: the sweep still judges and tells, from a file on this machine, or in the end from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.errors import MainstayError, NotFound
from include.engine.health.findings import Advanced, Change, Finding, State, advance, verdict_of
from include.engine.health.history import History
from include.engine.health.judging import Judgement, Limits, judge
from include.engine.health.looks import Look, Trouble
from include.engine.health.rules import RuleBook
from include.engine.model import Verdict
from include.engine.verbs.looking import Asked, look_at
from include.engine.watching import CUSTOM

HISTORY = "history/main"  # the subject that findings about the history itself are of


@dataclass(frozen=True)
class Watch:
    """Everything that a sweep needs.  Built by ``wiring``.

    :param asked: gives the probes of a system, made anew for every sweep; asks no server yet
    :param histories: from the best to the last resort, each opened when it is needed
    :param left_behind: opens the history that took over when the best did not answer; nothing when there is none
    """

    systems: Sequence[str]
    asked: Callable[[str], Sequence[Asked]]
    book: RuleBook
    limits: Limits
    histories: Sequence[Callable[[], History]]
    timeout: timedelta
    settle: timedelta
    team: str
    links: Mapping[str, str] = field(default_factory=dict)
    left_behind: Callable[[], History | None] = lambda: None

    def history(self) -> History:
        """Open the history, to read from it.

        :raises Unreachable: when it does not answer
        """
        return self.histories[0]()

    def remembered(self) -> History:
        """Open the best history that answers: where the last sweep was remembered, too.

        :raises Unreachable: when none does
        """
        for opener in self.histories[:-1]:  # the last is in memory, and knows nothing
            try:
                return opener()
            except MainstayError as error:
                failed = error
        raise failed


class SweepReport(Struct, frozen=True, kw_only=True):
    """What a sweep has seen, and what follows."""

    at: datetime
    seconds: float
    verdict: Verdict
    looks: tuple[Look, ...]
    findings: tuple[Finding, ...]  # those that are not closed
    changes: tuple[Change, ...]
    history: str  # where it was remembered

    @property
    def readings(self) -> int:
        """How many numbers were read."""
        return sum(len(look.readings) for look in self.looks)


def look(watch: Watch, systems: Sequence[str], *, clock: Clock) -> list[Look]:
    """Look at some systems, all their probes at once.

    :raises NotFound: naming a system that the inventory does not have
    """
    unknown = sorted(set(systems) - set(watch.systems))
    if unknown:
        raise NotFound(f"nothing of {', '.join(unknown)} is watched", hint=f"there are: {', '.join(watch.systems)}")
    asked: list[Asked] = []
    troubles: list[Look] = []
    for system in systems:
        try:
            asked += watch.asked(system)
        except MainstayError as error:  # a connection that is not defined hides none of the other systems
            troubles.append(
                _trouble(f"{system}/main", "inventory", "what the inventory says", Trouble.of(error), clock())
            )
    return [*look_at(asked, clock=clock, timeout=watch.timeout.total_seconds()), *troubles]


def conclude(
    watch: Watch,
    looks: Sequence[Look],
    systems: Sequence[str],
    *,
    clock: Clock,
    seconds: float,
    counted: bool = True,
) -> tuple[SweepReport, History]:
    """Judge what was seen, remember it, and say what changed; give the history that took it, too.

    :param systems: those that were to be looked at: one that gave nothing was not looked at, and that is a finding
    :param counted: whether it proves that the pipeline is watched: what a checklist reads for itself does not
    """
    now = clock()
    seen = [*looks, *_missing(watch, looks, systems, now)]
    everything = set(systems) >= set(watch.systems)
    aside, left = _aside(watch)
    for open_history in watch.histories:
        judgement = judge(watch.book, seen, limits=watch.limits, now=now)

        def step(
            known: Mapping[str, Finding], judgement: Judgement = judgement, left: Mapping[str, Finding] = left
        ) -> Advanced:
            both = taken_over(known, left)
            return advance(both, judgement, now=now, settle=watch.settle, team=watch.team, everything=everything)

        def verdict(advanced: Advanced) -> Verdict:
            return verdict_of(advanced.findings, looked=bool(seen))

        try:
            history = open_history()
            advanced = history.conclude(seen, step, verdict, now=now, seconds=seconds, counted=counted and everything)
        except MainstayError as error:
            seen.append(_trouble(HISTORY, type(error).__name__, "the history", Trouble.of(error), now))
            left = {}  # the one that takes over knows them itself
            continue
        if aside is not None and left:
            with suppress(MainstayError):  # then the next sweep takes them over again, and knows them
                aside.forget()
        report = SweepReport(
            at=now,
            seconds=seconds,
            verdict=verdict(advanced),
            looks=tuple(seen),
            findings=tuple(one for one in advanced.findings if one.state is not State.CLOSED),
            changes=tuple(advanced.changes),
            history=history.where,
        )
        return report, history
    raise AssertionError("the last resort is in memory and takes everything")


def taken_over(known: Mapping[str, Finding], left: Mapping[str, Finding]) -> Mapping[str, Finding]:
    """Join what a history knows with what another has found while this one did not answer.  Pure."""
    return {**known, **{key: finding for key, finding in left.items() if _is_news(known.get(key), finding)}}


def _is_news(known: Finding | None, found: Finding) -> bool:
    if known is None or (known.closed is not None and known.closed < found.seen):
        return True
    # Only suspected here, and told from there: its end must be told, too.
    return known.state is State.PENDING and found.state is not State.PENDING


def _aside(watch: Watch) -> tuple[History | None, Mapping[str, Finding]]:
    """Give the history that took over for a while, and what it has found."""
    try:
        history = watch.left_behind()
        return history, history.hand_over() if history is not None else {}
    except MainstayError:
        return None, {}  # it is no more: what it has found is found again


def _missing(watch: Watch, looks: Sequence[Look], systems: Sequence[str], now: datetime) -> list[Look]:
    seen = {one.system for one in looks}
    trouble = Trouble(
        kind="NotLookedAt",
        message="nobody looked at it in this sweep",
        hint="read the log of the sweep's task for it",
    )
    return [
        _trouble(f"{system}/main", "sweep", "the sweep's task", trouble, now)
        for system in systems
        if system not in seen and system in watch.systems and (system != CUSTOM or watch.asked(system))
    ]


def _trouble(subject: str, probe: str, source: str, trouble: Trouble, now: datetime) -> Look:
    return Look(
        subject=subject, probe=probe, source=source, metrics=(), at=now, seconds=0.0, trouble=trouble, whole=True
    )
