"""When each operation is due: fixed before the first one is sent, so that a slow target cannot slow the test down."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property

from msgspec import Struct

SECOND = 1_000_000_000  # nanoseconds: the unit of all times here


class Stage(Struct, frozen=True, kw_only=True):
    """A part of a schedule: *rate* operations a second, or a straight ramp from *rate* to *to*."""

    rate: float
    seconds: float
    to: float | None = None

    @property
    def operations(self) -> float:
        """How many operations are due in it."""
        return self.seconds * (self.rate + (self.rate if self.to is None else self.to)) / 2

    def time_of(self, operations: float) -> float:
        """Give when the stage has had *operations* operations, in seconds since it began.

        The rate is the derivative of the count: for a ramp, n = a t + (b - a) t² / 2T, solved for t.
        """
        if self.to is None or self.to == self.rate:
            return operations / self.rate
        slope = (self.to - self.rate) / self.seconds
        root = max(0.0, self.rate**2 + 2 * slope * operations)
        return min(self.seconds, (math.sqrt(root) - self.rate) / slope)


class Schedule(Struct, frozen=True, kw_only=True, dict=True):
    """Stages one after the other, the first *warm_up* seconds of which are measured and not counted."""

    stages: tuple[Stage, ...]
    warm_up: float = 0.0

    @classmethod
    def steady(cls, rate: float, seconds: float, *, warm_up: float = 0.0) -> Schedule:
        """One rate, for *warm_up* and then *seconds* seconds."""
        return cls(stages=(Stage(rate=rate, seconds=warm_up + seconds),), warm_up=warm_up)

    def until(self, seconds: float) -> Schedule:
        """Give its first *seconds* seconds."""
        stages: list[Stage] = []
        for stage, begins in zip(self.stages, self._begins, strict=True):
            lasts = min(stage.seconds, seconds - begins)
            if lasts > 0:
                to = None if stage.to is None else stage.rate + (stage.to - stage.rate) * lasts / stage.seconds
                stages.append(Stage(rate=stage.rate, to=to, seconds=lasts))
        return Schedule(stages=tuple(stages), warm_up=self.warm_up)

    @property
    def seconds(self) -> float:
        """How long it is, with the warm-up."""
        return sum(stage.seconds for stage in self.stages)

    @cached_property
    def operations(self) -> int:
        """How many operations are due in all."""
        return int(self._ends[-1] + 1e-9)

    @property
    def highest_rate(self) -> float:
        """The highest rate that it asks for at any time."""
        return max(max(stage.rate, stage.to or 0.0) for stage in self.stages)

    def due(self, index: int) -> int:
        """Give when operation *index* is due, in nanoseconds since the start; the first one is due at 0."""
        if len(self.stages) == 1 and self.stages[0].to is None:
            return int(index * (SECOND / self.stages[0].rate))
        found = min(bisect_right(self._ends, index), len(self.stages) - 1)
        before = self._ends[found - 1] if found else 0.0
        within = self.stages[found].time_of(max(0.0, index - before))
        return int((self._begins[found] + within) * SECOND)

    def dues(self, indexes: range) -> Iterator[int]:
        """Give :meth:`due` of each of *indexes*, which rise, quickly: a generator asks once for each operation."""
        if len(self.stages) == 1 and self.stages[0].to is None:
            apart = SECOND / self.stages[0].rate
            return (int(index * apart) for index in indexes)
        return map(self.due, indexes)

    def count(self, begin: float, end: float) -> int:
        """Give how many operations are due from *begin* up to, and without, *end*, in seconds."""
        return self._before(end) - self._before(begin)

    def rate_of(self, begin: float, end: float) -> float:
        """Give the mean rate between two times."""
        return self.count(begin, end) / (end - begin) if end > begin else 0.0

    def _before(self, seconds: float) -> int:
        # By bisection over due(), so that both always agree, to the operation.
        low, high, at = 0, self.operations, int(seconds * SECOND)
        while low < high:
            middle = (low + high) // 2
            if self.due(middle) < at:
                low = middle + 1
            else:
                high = middle
        return low

    @cached_property
    def _ends(self) -> Sequence[float]:
        total, ends = 0.0, []
        for stage in self.stages:
            total += stage.operations
            ends.append(total)
        return ends

    @cached_property
    def _begins(self) -> Sequence[float]:
        total, begins = 0.0, []
        for stage in self.stages:
            begins.append(total)
            total += stage.seconds
        return begins
