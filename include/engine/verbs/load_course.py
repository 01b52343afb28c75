"""One load on its course: prepared, measured with as many processes as it takes, and removed whatever happens."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from include.engine.contracts import Stop
from include.engine.errors import Interrupted, MainstayError, Unreachable
from include.engine.loading.contracts import CrossChecked, LoadEngine, LoadRun, measured_until
from include.engine.loading.crew import Crew
from include.engine.loading.gates import judged
from include.engine.loading.guarding import Guard
from include.engine.loading.profiles import Profile
from include.engine.loading.schedule import Schedule
from include.engine.loading.search import Found, found, next_rate
from include.engine.loading.second_opinion import beside
from include.engine.loading.workers import trial_of
from include.engine.model import CrossCheck, GeneratorLimit, LoadStep
from include.engine.verbs.deadline import within

PREPARED_WITHIN = timedelta(minutes=10)
_OPEN = Found(index=None, why="")


@dataclass
class Course:
    """What has become of a load so far: a guard may end it at any time.

    :param max_bytes: that the inventory allows all of it to write
    """

    engine: LoadEngine
    profile: Profile
    run: LoadRun
    max_bytes: int
    steps: list[LoadStep] = field(default_factory=list)
    histograms: list[dict[str, str]] = field(default_factory=list)
    ended: Found = _OPEN
    cross_check: CrossCheck | None = None
    stopped: str = ""
    lost: str = ""
    loading: bool = False
    operations: int = 0

    def __post_init__(self) -> None:
        self._crew = Crew(self.engine, self.profile)

    @property
    def limit(self) -> GeneratorLimit | None:
        """What the generator itself can do, as far as that was measured."""
        return self._crew.limit

    def go(self, schedule: Schedule | None, *, guard: Guard, stop: Stop, cross_check: bool) -> None:
        """Prepare, measure, ask for a second opinion.

        :param schedule: or nothing, to search for the highest rate
        :param stop: a person's wish; the run's own is pulled by guards, too
        :raises Interrupted: when a person stopped it
        """
        try:
            with guard.watching(self.run.stop):  # to fill a database is a load, too
                self.run.progress.stage("prepare")
                late = f"it was not prepared within {PREPARED_WITHIN.total_seconds() / 60:g} minutes"
                with within(PREPARED_WITHIN, self.run.stop, why=late):
                    self.engine.prepare(self.run)
                self.run.stop.check()
                self.loading = True
                if schedule is None:
                    self._search()
                else:
                    self._once(schedule, schedule.highest_rate)
                    self.ended = Found(index=0, why="")
                if cross_check:
                    self._ask_another()
        except Interrupted:
            stop.check()  # a person's wish ends it all; a guard's ends the load, and has a result
            self.stopped = self.run.stop.reason
        except Unreachable as error:
            if stop.stopped or not self.loading:
                raise
            self.lost = error.message  # that the target died is a result, not a reason to load it again

    def _once(self, schedule: Schedule, rate: float) -> None:
        if not self.steps:
            self.run.progress.stage("measure the generator")
            self.operations += trial_of(rate).operations if self.profile.workload.tried_out else 0
        run = self._crew.chosen(self.run, rate)
        if not self.steps:
            self.run.progress.stage("load")
        if run.processes > 1:
            self.run.progress.say(f"{run.processes} processes make {rate:,.6g} operations a second")
        try:
            measured = self.engine.measure(run, schedule)
        except (Interrupted, Unreachable) as error:
            part = measured_until(error)
            if part is not None:  # it is shown, and not judged
                self._keep(msgspec.structs.replace(part.step, processes=run.processes), part.histograms)
                self.ended = Found(index=len(self.steps) - 1, why="")
            raise
        self.operations += schedule.operations
        step = msgspec.structs.replace(measured.step, processes=run.processes)
        self._keep(judged(step, self.profile.limits()), measured.histograms)

    def _keep(self, step: LoadStep, histograms: dict[str, str]) -> None:
        self.steps.append(step)
        self.histograms.append(histograms)

    def _search(self) -> None:
        plan, began, progress = self.profile.plan(most=self.run.most or 0.0), time.monotonic(), self.run.progress
        while (rate := next_rate(plan, self.steps, time.monotonic() - began)) is not None:
            one = Schedule.steady(rate, plan.seconds_at(rate), warm_up=plan.warm_up)
            if not self._allowed(one.operations):
                ended = found(plan, self.steps, time.monotonic() - began)
                why = f"{ended.why}; ended before {rate:,.6g} a second by max_bytes"
                self.ended = Found(index=ended.index, why=why)
                return
            progress.say(f"{rate:,.6g} operations a second")
            self._once(one, rate)
            last = self.steps[-1]
            progress.say(f"{rate:,.6g} a second: {last.verdict}, p99 {last.from_intended.p99:,.1f} ms")
        self.ended = found(plan, self.steps, time.monotonic() - began)

    def _allowed(self, operations: int) -> bool:
        """Say whether so many operations more are within the bytes that the inventory allows."""
        load = self.profile.workload
        return (self.operations + operations) * load.operation_bytes + load.prepared_bytes <= self.max_bytes

    def _ask_another(self) -> None:
        """Have the stock tool make the load of the step that the verdict is about."""
        engine, index = self.engine, self.ended.index
        if index is None or not isinstance(engine, CrossChecked):
            return
        step = self.steps[index]
        rate = step.target_rate
        self.run.progress.stage("cross-check")
        asked = CrossCheck(by=engine.cross_check_by, asked_rate=rate)
        if not self._allowed(engine.cross_check_operations(rate)):
            self.cross_check = msgspec.structs.replace(asked, failed="max_bytes of the inventory leaves it no room")
            return
        try:
            said = engine.cross_check(self.run, rate)
        except Interrupted:
            raise
        except MainstayError as error:
            self.cross_check = msgspec.structs.replace(asked, failed=str(error))
        else:
            self.cross_check = beside(said, step, self.histograms[index], asked=rate)
