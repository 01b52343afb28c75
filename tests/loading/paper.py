"""A target on paper: the generator is real, and its operations do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from include.engine.contracts import Clock, Connection
from include.engine.loading.contracts import LoadRun, Measured, Worker
from include.engine.loading.driving import Driver
from include.engine.loading.permission import CANARY
from include.engine.loading.profiles import Profile
from include.engine.loading.recording import step_of
from include.engine.loading.schedule import Schedule
from include.engine.loading.workers import generate, interval_of
from include.engine.model import GeneratorLimit, Reading
from tests.loading.range import Range
from tests.loading.test_driving import Toy

STEADY: dict[str, Any] = {"stages": [{"rate": 400, "lasts": "2s"}], "gates": {"p99": 60_000}, "grace": "2s"}


class Paper:
    """Loads nothing, and remembers what was asked of it.

    :param ask: what its canary does
    :param each: operations a second that one process of the generator can make
    :param clockwork: the generator is on paper, too, so that it holds every rate on the busiest machine
    """

    def __init__(
        self,
        *,
        ask: Callable[[], float] = lambda: 0.001,
        preparing: Callable[[], None] = lambda: None,
        clockwork: bool = False,
        each: float | None = None,
    ) -> None:
        self.ask, self.preparing, self.clockwork = ask, preparing, clockwork
        self.each = each
        self.asked: list[int] = []
        self.there: list[str] = []
        self.runs: list[LoadRun] = []
        self.timeouts: list[float] = []
        self.schedules: list[Schedule] = []

    def environment(self) -> Mapping[str, str]:
        return {"kafka": "on paper"}

    def limit(self, run: LoadRun, *, rate: float) -> GeneratorLimit | None:
        if self.each is None:
            return None
        self.asked.append(run.processes)
        return GeneratorLimit(rate=self.each, processes=run.processes, how="on paper")

    def prepare(self, run: LoadRun) -> None:
        self.there.append(run.name)
        self.runs.append(run)
        self.preparing()

    def measure(self, run: LoadRun, schedule: Schedule) -> Measured:
        self.schedules.append(schedule)
        if self.clockwork:
            toy = Toy()
            driver = Driver(toy, schedule, begin=0, interval=interval_of(schedule), now=toy.now)
            return Measured(step=step_of(driver.run(), schedule), histograms={})
        worker = Worker(module="include.engine.loading.nothing", parameters={})
        return generate(
            worker,
            schedule,
            processes=run.processes,
            bound=10,
            grace=2,
            stop=run.stop,
            progress=run.progress,
            most=run.most,
        )

    def canary(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        self.timeouts.append(timeout)
        return [Reading(metric=CANARY, value=self.ask(), unit="s", at=clock())]

    def leftovers(self, prefix: str) -> Sequence[str]:
        return [name for name in self.there if name.startswith(prefix)]

    def remove(self, names: Sequence[str]) -> None:
        self.there = [name for name in self.there if name not in names]


class PaperRange(Range):
    """A range whose target is on paper."""

    def __init__(self, directory: Path, paper: Paper) -> None:
        super().__init__("kafka", Connection(), directory)
        self.paper = paper

    def engine(self, profile: Profile) -> Paper:
        return self.paper
