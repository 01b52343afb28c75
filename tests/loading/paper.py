"""A target on paper: the generator is real, and its operations do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from include.engine.contracts import Clock, Connection
from include.engine.loading.contracts import LoadRun, Measured, Worker
from include.engine.loading.permission import CANARY
from include.engine.loading.profiles import Profile
from include.engine.loading.schedule import Schedule
from include.engine.loading.workers import generate
from include.engine.model import GeneratorLimit, Reading
from tests.loading.range import Range

STEADY: dict[str, Any] = {"stages": [{"rate": 400, "lasts": "2s"}], "gates": {"p99": 60_000}, "grace": "2s"}


class Paper:
    """Loads nothing, and remembers what was asked of it.

    :param ask: what its canary does
    """

    def __init__(
        self, *, ask: Callable[[], float] = lambda: 0.001, preparing: Callable[[], None] = lambda: None
    ) -> None:
        self.ask, self.preparing = ask, preparing
        self.there: list[str] = []
        self.runs: list[LoadRun] = []
        self.schedules: list[Schedule] = []

    def environment(self) -> Mapping[str, str]:
        return {"kafka": "on paper"}

    def limit(self) -> GeneratorLimit | None:
        return None

    def prepare(self, run: LoadRun) -> None:
        self.there.append(run.name)
        self.runs.append(run)
        self.preparing()

    def measure(self, run: LoadRun, schedule: Schedule) -> Measured:
        self.schedules.append(schedule)
        worker = Worker(module="include.engine.loading.nothing", parameters={})
        return generate(worker, schedule, processes=1, bound=10, grace=2, stop=run.stop, most=run.most)

    def canary(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
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
