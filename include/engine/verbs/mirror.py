"""Mirror: plan what would change, apply it, wait until the copy has caught up, compare samples, move the readers, report.

Airflow runs the steps as tasks and waits in a trigger; the shell runs :func:`mirror`, which waits here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import Misconfigured, PermanentError, Refused
from include.engine.mirroring import Mirror, MirrorPlan, MirrorProgress
from include.engine.model import Check, Verdict, worst

_PAUSE = 0.25  # seconds between two looks


class MirrorReport(Struct, frozen=True, kw_only=True):
    """What was seen of a mirror."""

    mirror: str
    started: datetime
    finished: datetime
    changes: tuple[str, ...]
    seconds_to_catch_up: float | None
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """What the checks say together."""
        return worst([check.verdict for check in self.checks])


def plan(mirror: Mirror, *, resume: bool = False) -> MirrorPlan:
    """Say what would change.

    :param resume: whether a mirror that was stopped may go on
    :raises Misconfigured: with every problem that was found
    :raises Refused: when it was stopped and may not go on
    """
    stopped = "" if resume else mirror.stopped()
    if stopped:  # first: after a fail-over the source may answer nothing any more
        raise Refused(
            f"the mirror {mirror.name} was stopped, as a fail-over does ({stopped}). Copying on would write over what is new on "
            "the copy",
            hint="turn the mirror round or take it out of the inventory; when the source is in charge again, type the mirror's "
            "name to confirm that it copies on",
        )
    planned = mirror.plan()
    if planned.problems:
        raise Misconfigured(
            f"the mirror {planned.mirror} cannot run: {'; '.join(planned.problems)}",
            hint="mend the mirror in the inventory",
        )
    return planned


def wait(
    mirror: Mirror,
    cut: Mapping[str, object],
    *,
    patience: timedelta,
    stop: Stop,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> MirrorProgress:
    """Wait until everything up to *cut* is on the copy, and give how it stands when patience ends.

    :raises PermanentError: when a part of the mirror has failed: waiting would not help
    """
    deadline = monotonic() + patience.total_seconds()
    while True:
        stop.check()
        seen = mirror.progress(cut)
        if seen.failed:
            raise PermanentError(
                f"the mirror {mirror.name} has failed: {'; '.join(seen.failed)}",
                hint="see the worker's log; mend the cause and run the mirror again",
            )
        if seen.caught_up or monotonic() >= deadline:
            return seen
        sleep(_PAUSE)


def prove(mirror: Mirror, cut: Mapping[str, object], seen: MirrorProgress) -> tuple[Check, ...]:
    """Give what can be said about the copy: it has caught up, samples are the same, every reader is where it should be."""
    caught_up = Check(
        name=f"{mirror.name}: caught up",
        verdict=Verdict.PASS if seen.caught_up else Verdict.FAIL,
        detail="every committed record up to the cut is there"
        if seen.caught_up
        else f"{seen.offsets} offsets are missing: {', '.join(seen.missing[:5])}",
    )
    if not seen.caught_up:
        return (caught_up,)
    return (caught_up, *mirror.compare(cut), *mirror.move_groups(cut))


def conclude(mirror: Mirror, cut: Mapping[str, object], seen: MirrorProgress) -> tuple[Check, ...]:
    """Give what :func:`prove` gives, and have the mirror remember it when all of it passed.

    Not when there was a fail-over meanwhile: readers stay where they have gone on to.
    """
    if stopped := mirror.stopped():
        detail = f"it was stopped meanwhile, as a fail-over does ({stopped}): no group was moved"
        return (Check(name=f"{mirror.name}: still copied", verdict=Verdict.UNVERIFIED, detail=detail),)
    checks = prove(mirror, cut, seen)
    if worst([check.verdict for check in checks]) is Verdict.PASS:
        mirror.proved(cut)
    return checks


def mirror(
    mirror: Mirror,
    *,
    patience: timedelta,
    progress: Progress,
    stop: Stop,
    clock: Clock,
    dry_run: bool = False,
    resume: bool = False,
) -> MirrorReport:
    """Do all of it.

    :param resume: go on with a mirror that was stopped
    """
    started = clock()
    planned = plan(mirror, resume=resume)
    for line in (*planned.changes, *planned.warnings):
        progress.say(f"{planned.mirror}: {line}")
    checks: tuple[Check, ...] = ()
    seconds = None
    if not dry_run:
        mirror.apply(resume=resume)
        cut = mirror.cut(clock)
        began = time.monotonic()
        seen = wait(mirror, cut, patience=patience, stop=stop)
        seconds = time.monotonic() - began if seen.caught_up else None
        checks = conclude(mirror, cut, seen)
    return MirrorReport(
        mirror=planned.mirror,
        started=started,
        finished=clock(),
        changes=planned.changes,
        seconds_to_catch_up=seconds,
        checks=checks,
    )
