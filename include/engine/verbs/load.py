"""Load test: ask for leave, clear up after the dead, measure, judge, remove, keep the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import MainstayError, Refused
from include.engine.loading.comparison import Comparison, compare
from include.engine.loading.concluding import concluded, notes_of
from include.engine.loading.contracts import CrossChecked, LoadEngine, LoadRun
from include.engine.loading.guarding import Guard
from include.engine.loading.naming import ours, prefix_of
from include.engine.loading.permission import CANARY, LoadPermission, admit
from include.engine.loading.profiles import Profile
from include.engine.loading.schedule import Schedule
from include.engine.loading.workers import machine, trial_of
from include.engine.model import LoadResult, Reading, Verdict
from include.engine.probing import Probe, sometimes
from include.engine.store.loads import Loads
from include.engine.verbs.load_course import PREPARED_WITHIN, Course
from include.engine.verbs.load_page import with_page

_AROUND = timedelta(minutes=10)  # besides the load itself and its preparation: to remove it
_PATIENCE = 60.0  # seconds that a guard's question may take, at most
_SHORTEST = 2.0  # and what it may take, however low the limit: to connect is part of it


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a person or a schedule asks for."""

    profile: Profile
    target: str
    permission: LoadPermission
    rate: float | None = None  # instead of the profile's stages
    seconds: float | None = None  # instead of the profile's
    search: bool = False
    reason: str = ""
    baseline: str | None = None  # id of the test to compare with, besides the last ones
    cross_check: bool = False  # ask a stock tool for a second opinion; the profile may wish for it, too

    @property
    def wants_cross_check(self) -> bool:
        """Whether either asks for a second opinion."""
        return self.cross_check or self.profile.workload.second_opinion


def run(
    pipeline: str,
    loads: Loads,
    engine: LoadEngine,
    wish: Wish,
    *,
    id_: str,
    probes: Sequence[Probe] = (),
    progress: Progress,
    stop: Stop,
    clock: Clock,
) -> LoadResult:
    """Run one load test.  A retry of a test that has a result gives that result.

    :param pipeline: its name, which everything that the test creates carries
    :param probes: where the guards' metrics come from, besides the engine's own question
    :raises Refused: when the inventory does not allow it, or a guard has tripped before it began
    :raises Contended: when another load test runs
    :raises Interrupted: when a person stopped it; what it had created is removed all the same
    """
    kept = _kept(loads, id_, wish)
    if kept is not None:
        return kept
    schedule = wish.profile.schedule(rate=wish.rate, seconds=wish.seconds)
    longest = admitted(wish, schedule, engine)
    if wish.baseline:
        loads.get(wish.baseline)  # a wrong name is told before the load, and not after it
    started = clock()
    with loads.alone(until=started + timedelta(seconds=longest) + PREPARED_WITHIN + _AROUND, clock=clock):
        guard = _guard(engine, probes, wish, clock)
        progress.stage("clear up")
        prefix = prefix_of(pipeline)
        removed = _remove(engine, prefix)
        environment = {**machine(), **engine.environment()}
        running = LoadRun(
            name=f"{prefix}_{id_.lower()}",
            progress=progress,
            stop=_also_stopped_by(stop),
            clock=clock,
            most=wish.permission.max_rate,
        )
        course = Course(engine=engine, profile=wish.profile, run=running, max_bytes=wish.permission.max_bytes)
        left = ""
        try:
            course.go(None if wish.search else schedule, guard=guard, stop=stop, cross_check=wish.wants_cross_check)
        finally:
            progress.stage("remove")
            left = _left(engine, prefix)
        result = _result(id_, wish, course, environment, removed, began=started, ended=clock())
        result = concluded(result, guard.check(), stopped=course.stopped, lost=course.lost, left=left)
        return loads.commit(*with_page(loads, result, wish.baseline))


def comparison(loads: Loads, before: str, after: str) -> Comparison:
    """Compare two load tests; what tests of the same profile before the first one differ by counts as noise."""
    first, second = loads.get(before), loads.get(after)
    others = loads.newest(profile=first.profile, target=first.target, before=first.id)
    return compare(first, second, earlier=others)


def _kept(loads: Loads, id_: str, wish: Wish) -> LoadResult | None:
    """Give the result that a test of this name has already."""
    kept = loads.find(id_)
    if kept is not None and (kept.profile, kept.target) != (wish.profile.name, wish.target):
        raise Refused(
            f"the load test {id_} is one of {kept.profile} on {kept.target}",
            hint="start a new run: a test is named after its run, and a result is never overwritten",
        )
    return kept


def admitted(wish: Wish, schedule: Schedule, engine: LoadEngine | None = None) -> float:
    """Refuse what the inventory does not allow; give how many seconds the load may be on."""
    profile, permission = wish.profile, wish.permission
    load = profile.workload
    longest = schedule.seconds
    rate = schedule.highest_rate
    if wish.search:
        if wish.rate is not None or wish.seconds is not None:
            raise Refused(
                "a search takes its rates and how long each is held from the profile",
                hint=f"leave rate and duration out, or change `search` in the profile {profile.name}",
            )
        plan = profile.plan(most=permission.max_rate)
        first = plan.seconds_at(plan.begin) + plan.warm_up
        if first > plan.limit:
            raise Refused(
                f"to say anything about {plan.begin:,.6g} operations a second takes {first:,.0f} s, and the search ends"
                f" after {plan.limit:,.0f} s",
                hint=f"in the profile {profile.name}, begin the search at a higher rate, or give it a later `limit`",
            )
        schedule, longest, rate = Schedule.steady(plan.begin, first), plan.limit, plan.begin
    longest += profile.seconds_after + _cross_check_seconds(wish, engine)
    prepared = load.prepared_bytes
    if load.tried_out:
        trial = trial_of(rate)
        longest, prepared = longest + trial.seconds, prepared + trial.operations * load.operation_bytes
    admit(
        wish.target,
        permission,
        schedule,
        bytes_each=load.operation_bytes,
        prepared=prepared,
        seconds=longest,
    )
    return longest


def _cross_check_seconds(wish: Wish, engine: object) -> float:
    if not wish.wants_cross_check:
        return 0.0
    if not isinstance(engine, CrossChecked):
        raise Refused(
            f"{wish.target} has no stock tool that could be asked for a second opinion",
            hint="leave the cross-check out: Kafka's loads have one",
        )
    return engine.cross_check_seconds


def _guard(engine: LoadEngine, probes: Sequence[Probe], wish: Wish, clock: Clock) -> Guard:
    """Give the guards.

    :raises Refused: when one has tripped already
    """
    guards = wish.permission.guards
    limit = guards[CANARY].above if CANARY in guards else None
    timeout = min(max(2 * limit if limit else _PATIENCE, _SHORTEST), _PATIENCE)
    wanted = [probe for probe in probes if {*probe.metrics, *sometimes(probe)} & set(guards)]

    def read() -> Sequence[Reading]:
        return [
            *engine.canary(clock, timeout=timeout),
            *(reading for probe in wanted for reading in probe.read(clock, timeout=timeout)),
        ]

    # Not every client keeps to its timeout when a server hangs: whoever does not answer by then has answered.
    guard = Guard(wish.permission, read, patience=min(timeout * (1 + len(wanted)), _PATIENCE) + _SHORTEST)
    tripped = guard.look()
    if tripped:
        raise Refused(
            f"{wish.target} is not loaded now: {tripped}", hint="see to production first; load tests come after it"
        )
    return guard


def _also_stopped_by(stop: Stop) -> Stop:
    """Give a stop that guards may pull, too."""
    own = Stop()
    stop.on_stop(lambda: own.stop(stop.reason))
    return own


def _result(
    id_: str,
    wish: Wish,
    course: Course,
    environment: Mapping[str, str],
    removed: Sequence[str],
    *,
    began: datetime,
    ended: datetime,
) -> LoadResult:
    """Put what was measured together, without checks and a verdict."""
    index = course.ended.index
    return LoadResult(
        id=id_,
        profile=wish.profile.name,
        target=wish.target,
        reason=wish.reason,
        started=began,
        finished=ended,
        environment=dict(environment),
        declared={**wish.profile.declared(), "rate": wish.rate, "seconds": wish.seconds, "searched": wish.search},
        limit=course.limit,
        steps=tuple(course.steps),
        judged=index,
        histograms=course.histograms[index] if index is not None else {},
        checks=(),
        verdict=Verdict.UNVERIFIED,
        stopped=course.stopped or course.lost,
        notes=tuple(notes_of(course.ended, course.limit, course.steps, removed, course.cross_check)),
        cross_check=course.cross_check,
    )


def _remove(engine: LoadEngine, prefix: str) -> Sequence[str]:
    names = ours(prefix, engine.leftovers(prefix))
    if names:
        engine.remove(names)
    return names


def _left(engine: LoadEngine, prefix: str) -> str:
    """Remove what the test has created; say why something is still there, if it is."""
    try:
        _remove(engine, prefix)
        still = ours(prefix, engine.leftovers(prefix))
    except MainstayError as error:
        return f"what the test had created could not be removed: {error.message}"
    except Exception as error:  # noqa: BLE001 - whatever a client raises: what was measured is not lost to it
        return f"what the test had created could not be removed: {type(error).__name__}: {error}"
    return f"{', '.join(still)} is still there" if still else ""
