"""A server that stands still for a while in the middle of a load."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from include.engine.loading.profiles import Profile
from include.engine.model import LoadResult
from tests.loading.range import Range, Told


def run_with_a_stall(
    range_: Range, profile: Profile, pid: Callable[[], int], *, seconds: float, after: float
) -> tuple[LoadResult, float]:
    """Run a load and stop a process *after* seconds of it; give how long it was really stopped, on a busy machine, too."""
    took: list[float] = []
    begun = threading.Event()
    stalls: list[threading.Thread] = []

    def stall() -> None:
        begun.wait()
        time.sleep(after)
        victim, began = pid(), time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(victim, signal.SIGCONT)
            took.append(time.monotonic() - began)

    def begin() -> None:
        stalls.append(threading.Thread(target=stall))
        stalls[0].start()

    class Begun(Told):
        def say(self, text: str) -> None:
            begun.set()  # the first report: the generator is at work
            super().say(text)

    result = range_.run(profile, progress=Begun({"load": begin}))
    stalls[0].join()
    return result, took[0]
