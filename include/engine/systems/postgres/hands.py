"""Whether somebody sets the clock meanwhile."""

from __future__ import annotations

import time

from include.engine.contracts import Clock
from include.engine.errors import TransientError

_SLEWED = 0.25  # seconds: two clocks are never read at once
_SLEWING = 0.001  # of the time that has gone by: a time service corrects by at most half of it


class Hands:
    """Sees whether somebody has set the clock: pgbench's log counts by the time of day."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock(), time.monotonic()

    def check(self) -> None:
        """Compare it with the monotonic clock.

        :raises TransientError: when both have gone apart by more than the slewing of a time service
        """
        wall, steady = (self._clock() - self._began[0]).total_seconds(), time.monotonic() - self._began[1]
        apart = wall - steady
        if abs(apart) > _SLEWED + steady * _SLEWING:
            raise TransientError(
                f"the clock was set by {apart:+,.1f} s while the load was on, and pgbench's log counts by it",
                hint="run it again; a time service that steps the clock often is worth a look",
            )
