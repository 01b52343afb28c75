"""A server that stands still for a while in the middle of a load."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from include.engine.loading.profiles import Profile
from include.engine.model import LoadResult
from tests.loading.range import Range, UnderWay


def run_with_a_stall(
    range_: Range, profile: Profile, pid: Callable[[], int], *, seconds: float, after: float
) -> tuple[LoadResult, float]:
    """Run a load and stop a process *after* seconds of it; give how long it was really stopped, on a busy machine, too."""
    took: list[float] = []

    def stall() -> None:
        time.sleep(after)
        victim, began = pid(), time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(victim, signal.SIGCONT)
            took.append(time.monotonic() - began)

    stalling = threading.Thread(target=stall)
    result = range_.run(profile, progress=UnderWay(stalling.start))
    stalling.join()
    return result, took[0]
