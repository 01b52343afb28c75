"""Load test: ask for leave, clear up after the dead, measure, judge, remove, keep the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import Interrupted, MainstayError, Refused, Unreachable
from include.engine.loading.comparison import Comparison, compare
from include.engine.loading.concluding import concluded, notes_of
from include.engine.loading.contracts import LoadEngine, LoadRun, Measured, measured_until
from include.engine.loading.gates import judged
from include.engine.loading.guarding import Guard
from include.engine.loading.naming import ours, prefix_of
from include.engine.loading.permission import CANARY, LoadPermission, admit
from include.engine.loading.profiles import Profile
from include.engine.loading.schedule import Schedule
from include.engine.loading.search import Found, found, next_rate
from include.engine.loading.workers import machine
from include.engine.model import LoadResult, LoadStep, Reading, Verdict
from include.engine.probing import Probe
from include.engine.store.loads import Loads
from include.engine.verbs.load_page import with_page

_AROUND = timedelta(minutes=10)  # besides the load itself: to prepare and to remove
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


@dataclass
class _Seen:
    """What has been measured so far: a guard may end it at any time."""

    steps: list[LoadStep] = field(default_factory=list)
    histograms: list[dict[str, str]] = field(default_factory=list)
    stopped: str = ""
    lost: str = ""
    cut: bool = False  # the last step is what was measured until then


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
    profile = wish.profile
    schedule = profile.schedule(rate=wish.rate, seconds=wish.seconds)
    longest = admitted(wish, schedule)
    if wish.baseline:
        loads.get(wish.baseline)  # a wrong name is told before the load, and not after it
    started = clock()
    with loads.alone(until=started + timedelta(seconds=longest) + _AROUND, clock=clock):
        guard = Guard(wish.permission, _reader(engine, probes, wish.permission, clock))
        refused = guard.look()
        if refused:
            raise Refused(
                f"{wish.target} is not loaded now: {refused}", hint="see to production first; load tests come after it"
            )
        progress.stage("clear up")
        prefix = prefix_of(pipeline)
        removed = _remove(engine, prefix)
        progress.stage("measure the generator")
        environment = {**machine(), **engine.environment()}
        limit = engine.limit()
        inner = Stop()
        stop.on_stop(lambda: inner.stop(stop.reason))
        most = wish.permission.max_rate
        running = LoadRun(name=f"{prefix}_{id_.lower()}", progress=progress, stop=inner, clock=clock, most=most)
        seen = _Seen()
        ended, cleared = _loaded(engine, running, wish, schedule, seen, guard=guard, stop=stop, prefix=prefix)
        result = LoadResult(
            id=id_,
            profile=profile.name,
            target=wish.target,
            reason=wish.reason,
            started=started,
            finished=clock(),
            environment=environment,
            declared={**profile.declared(), "rate": wish.rate, "seconds": wish.seconds, "searched": wish.search},
            limit=limit,
            steps=tuple(seen.steps),
            judged=ended.index,
            histograms=seen.histograms[ended.index] if ended.index is not None else {},
            checks=(),
            verdict=Verdict.UNVERIFIED,
            stopped=seen.stopped or seen.lost,
            notes=tuple(notes_of(ended, limit, seen.steps, removed)),
        )
        result = concluded(result, guard.check(), stopped=seen.stopped, lost=seen.lost, cleared=cleared)
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


def admitted(wish: Wish, schedule: Schedule) -> float:
    """Refuse what the inventory does not allow; give how many seconds the load may be on."""
    profile, permission = wish.profile, wish.permission
    load = profile.workload
    longest = schedule.seconds
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
        schedule, longest = Schedule.steady(plan.begin, first), plan.limit
    longest += profile.seconds_after
    admit(
        wish.target,
        permission,
        schedule,
        bytes_each=load.operation_bytes,
        prepared=load.prepared_bytes,
        seconds=longest,
    )
    return longest


def _measure(engine: LoadEngine, run: LoadRun, wish: Wish, schedule: Schedule, seen: _Seen) -> Found:
    gates = wish.profile.limits()

    def once(one: Schedule) -> None:
        try:
            measured: Measured = engine.measure(run, one)
        except (Interrupted, Unreachable) as error:
            part = measured_until(error)
            if part is not None:  # it is shown, and not judged
                seen.steps.append(part.step)
                seen.histograms.append(part.histograms)
                seen.cut = True
            raise
        seen.steps.append(judged(measured.step, gates))
        seen.histograms.append(measured.histograms)

    if not wish.search:
        once(schedule)
        return Found(index=0, why="")
    plan, began = wish.profile.plan(most=wish.permission.max_rate), time.monotonic()
    load, made = wish.profile.workload, 0
    while (rate := next_rate(plan, seen.steps, time.monotonic() - began)) is not None:
        one = Schedule.steady(rate, plan.seconds_at(rate), warm_up=plan.warm_up)
        made += one.operations
        if made * load.operation_bytes + load.prepared_bytes > wish.permission.max_bytes:
            ended = found(plan, seen.steps, time.monotonic() - began)
            return Found(index=ended.index, why=f"{ended.why}; ended before {rate:,.6g} a second by max_bytes")
        run.progress.say(f"{rate:,.6g} operations a second")
        once(one)
        last = seen.steps[-1]
        run.progress.say(f"{rate:,.6g} a second: {last.verdict}, p99 {last.from_intended.p99:,.1f} ms")
    return found(plan, seen.steps, time.monotonic() - began)


def _loaded(
    engine: LoadEngine,
    running: LoadRun,
    wish: Wish,
    schedule: Schedule,
    seen: _Seen,
    *,
    guard: Guard,
    stop: Stop,
    prefix: str,
) -> tuple[Found, bool]:
    """Prepare, measure, remove; give what a search has found, and whether all is removed."""
    progress = running.progress
    ended, cleared, loading = Found(index=None, why=""), True, False
    try:
        with guard.watching(running.stop):  # to fill a database is a load, too
            progress.stage("prepare")
            engine.prepare(running)
            running.stop.check()
            progress.stage("load")
            loading = True
            ended = _measure(engine, running, wish, schedule, seen)
    except Interrupted:
        stop.check()  # a person's wish ends it all; a guard's ends the load, and has a result
        seen.stopped = running.stop.reason
    except Unreachable as error:
        if stop.stopped or not loading:
            raise
        seen.lost = error.message  # that the target died is a result, not a reason to load it again
    finally:
        progress.stage("remove")
        cleared = _cleared(engine, prefix)
    return Found(index=len(seen.steps) - 1, why="") if seen.cut else ended, cleared


def _reader(
    engine: LoadEngine, probes: Sequence[Probe], permission: LoadPermission, clock: Clock
) -> Callable[[], Sequence[Reading]]:
    limit = permission.guards[CANARY].above if CANARY in permission.guards else None
    timeout = 2 * limit if limit else _PATIENCE
    timeout = min(max(timeout, _SHORTEST), _PATIENCE)
    wanted = [probe for probe in probes if set(probe.metrics) & set(permission.guards)]

    def read() -> Sequence[Reading]:
        return [
            *engine.canary(clock, timeout=timeout),
            *(reading for probe in wanted for reading in probe.read(clock, timeout=timeout)),
        ]

    return read


def _remove(engine: LoadEngine, prefix: str) -> Sequence[str]:
    names = ours(prefix, engine.leftovers(prefix))
    if names:
        engine.remove(names)
    return names


def _cleared(engine: LoadEngine, prefix: str) -> bool:
    try:
        _remove(engine, prefix)
        return not ours(prefix, engine.leftovers(prefix))
    except MainstayError:
        return False  # the result says so, and the next test tries again
