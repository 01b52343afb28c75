"""How many processes make a load: as many as its rate takes, by what one of them can do here."""

from __future__ import annotations

import math
import os

import msgspec

from include.engine.loading.contracts import LoadEngine, LoadRun
from include.engine.loading.profiles import Profile
from include.engine.model import GeneratorLimit

SHARE = 0.7  # of its own limit, that a process is asked for: near it, it is what is measured
_AGAIN = 2  # times that the limit of several is measured, at most


def processes_for(rate: float, limit: GeneratorLimit | None, *, most: int) -> int:
    """Give how many processes *rate* takes.  One, when nobody knows what one can do.

    :param most: there may be
    """
    if limit is None or not limit.rate:
        return 1
    return max(1, min(most, math.ceil(rate / (SHARE * limit.rate) - 1e-9)))


def processors() -> int:
    """Give how many processors this process may use."""
    return len(os.sched_getaffinity(0))


class Crew:
    """Those that make one load: their own limit is measured before they are chosen, and again with all of them."""

    def __init__(self, engine: LoadEngine, profile: Profile) -> None:
        self._engine = engine
        self._wanted = profile.processes
        self._most = max(1, min(profile.most_processes, profile.in_flight, processors()))
        self._asked = False
        self.limit: GeneratorLimit | None = None

    def chosen(self, run: LoadRun, rate: float) -> LoadRun:
        """Give *run* with as many processes as *rate* takes, or as the profile says."""
        if not self._asked:
            self._measure(run, self._wanted or 1, rate)
        if self._wanted is not None:
            return msgspec.structs.replace(run, processes=self._wanted)
        count = processes_for(rate, self.limit, most=self._most)
        for _ in range(_AGAIN):
            if self.limit is None or count <= self.limit.processes:
                break
            self._measure(run, count, rate)  # beside each other, each of them can do less
            count = max(count, processes_for(rate, self.limit, most=self._most))
        return msgspec.structs.replace(run, processes=count)

    def _measure(self, run: LoadRun, count: int, rate: float) -> None:
        self._asked = True
        if self.limit is not None and self.limit.by_cost:
            self.limit = msgspec.structs.replace(self.limit, processes=count)
            return
        self.limit = self._engine.limit(msgspec.structs.replace(run, processes=count), rate=rate)
