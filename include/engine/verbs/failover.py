"""Fail over to a mirror: catch up as far as the source allows, move the readers, stop the copying, say what is missing.

After this, producers and consumers are pointed at the copy by a person; nothing here changes the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import MainstayError, Refused
from include.engine.mirroring import Mirror, MirrorProgress
from include.engine.model import Check, Verdict, worst
from include.engine.verbs.mirror import prove, wait

MINIMUM_REASON = 10


class FailoverReport(Struct, frozen=True, kw_only=True):
    """What a person must know before pointing the pipeline at the copy."""

    mirror: str
    reason: str
    started: datetime
    finished: datetime
    source_answered: bool
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """What the checks say together: with a dead source never PASS, as nobody can tell what it still had."""
        return worst([check.verdict for check in self.checks])


class FailoverPlan(Struct, frozen=True, kw_only=True):
    """What a fail-over would find now.  Nothing was changed to learn it."""

    mirror: str
    source_answers: bool
    caught_up: bool
    offsets: int | None  # that the copy lacks; nothing when nobody can tell
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    steps: tuple[str, ...]


def plan(mirror: Mirror, clock: Clock) -> FailoverPlan:
    """Say what a fail-over would find, also when the source is dead."""
    warnings: list[str] = []
    answers = True
    seen = MirrorProgress(caught_up=False)
    try:
        cut = mirror.cut(clock)
    except MainstayError as error:
        answers = False
        warnings.append(
            f"the source cannot be asked ({error.message}): what it has more than the copy will stay unknown, and groups "
            "continue where the last run of the mirror put them"
        )
    else:
        seen, trouble = _progress(mirror, cut)
        warnings += trouble
    warnings += [f"the mirror has failed, so the copy gets no more: {cause}" for cause in seen.failed]
    offsets = seen.offsets if seen.caught_up or seen.failed or seen.offsets else None
    steps: tuple[str, ...] = ("stop the mirror's connectors",)
    if answers:
        steps = (
            "the copy has all now"
            if seen.caught_up
            else f"wait until the copy has the {_count(offsets)} that it lacks",
            "compare the last records of every partition",
            "put every consumer group on the copy at its next record",
            *steps,
        )
    return FailoverPlan(
        mirror=mirror.name,
        source_answers=answers,
        caught_up=seen.caught_up,
        offsets=offsets,
        missing=seen.missing,
        warnings=tuple(warnings),
        steps=(*steps, "by a person: point producers and consumers at the copy"),
    )


def _progress(mirror: Mirror, cut: Mapping[str, object]) -> tuple[MirrorProgress, list[str]]:
    """Give how far the copy is, or why that cannot be told: it is not the source that does not answer."""
    try:
        return mirror.progress(cut), []
    except MainstayError as error:
        said = (
            f"how far the copy is cannot be told ({error.message}): nobody may be copying, and the copying may not stop"
        )
        return MirrorProgress(caught_up=False), [said]


def _count(offsets: int | None) -> str:
    return "offsets, nobody knows how many," if offsets is None else f"{offsets} offsets"


def failover(
    mirror: Mirror, *, reason: str, patience: timedelta, progress: Progress, stop: Stop, clock: Clock
) -> FailoverReport:
    """Fail over.

    :param patience: how long a source that still answers is given to be copied to its end
    :raises Refused: without a reason
    """
    if len(reason.strip()) < MINIMUM_REASON:
        raise Refused("a fail-over needs a reason", hint=f"say why, in at least {MINIMUM_REASON} characters")
    started = clock()
    answered = True
    checks: tuple[Check, ...]
    try:
        cut = mirror.cut(clock)
    except MainstayError as error:
        stop.check()
        answered = False
        progress.say(f"{mirror.name}: the source does not answer: {error.message}")
        checks = (_unknown(mirror.name, error),)
    else:
        checks = _brought_over(mirror, cut, patience, progress, stop)
    checks = (*checks, _stopped(mirror, f"failed over at {clock():%Y-%m-%d %H:%M} UTC, {reason.strip()}"))
    return FailoverReport(
        mirror=mirror.name,
        reason=reason,
        started=started,
        finished=clock(),
        source_answered=answered,
        checks=checks,
    )


def _brought_over(
    mirror: Mirror, cut: Mapping[str, object], patience: timedelta, progress: Progress, stop: Stop
) -> tuple[Check, ...]:
    """Catch up, compare and move the groups.  A copy that gets no more is still the one to move them to."""
    try:
        seen = wait(mirror, cut, patience=patience, stop=stop)
    except MainstayError as error:
        stop.check()
        progress.say(f"{mirror.name}: it does not catch up: {error.message}")
        check = Check(name=f"{mirror.name}: caught up", verdict=Verdict.FAIL, detail=str(error))
        return (check, *mirror.move_groups(cut))
    checks = prove(mirror, cut, seen)
    return checks if seen.caught_up else (*checks, *mirror.move_groups(cut))


def _unknown(name: str, error: MainstayError) -> Check:
    return Check(
        name=f"{name}: what is missing",
        verdict=Verdict.UNVERIFIED,
        detail=f"the source cannot be asked ({error.message}); groups are where the last run of the mirror put them",
    )


def _stopped(mirror: Mirror, why: str) -> Check:
    name = f"{mirror.name}: stopped"
    try:
        mirror.stop(why)
    except MainstayError as error:
        return Check(name=name, verdict=Verdict.FAIL, detail=str(error))
    return Check(
        name=name, verdict=Verdict.PASS, detail="nothing is copied over what is written to the copy from now on"
    )
