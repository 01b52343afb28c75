"""Watches production while the load is on, and stops the load at once when a guard trips."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from include.engine.contracts import Stop
from include.engine.errors import MainstayError, TransientError
from include.engine.loading.permission import LoadPermission, tripped
from include.engine.model import Check, Reading, Verdict

Read = Callable[[], Sequence[Reading]]


class Guard:
    """What the guards have seen."""

    def __init__(self, permission: LoadPermission, read: Read) -> None:
        self._permission = permission
        self._read = read
        self._looks = 0
        self._worst: dict[str, float] = {}
        self.problem: Check | None = None

    def look(self) -> str:
        """Read the guards' metrics; say which has tripped, or nothing."""
        try:
            readings = self._read()
        except MainstayError as error:
            verdict = Verdict.FAIL if isinstance(error, TransientError) else Verdict.UNVERIFIED
            why = f"production could not be asked: {error.message}"
            self.problem = Check(name="guards", verdict=verdict, detail=why)
            return why
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody watches any more
            why = f"the guards could not be read: {type(error).__name__}: {error}"
            self.problem = Check(name="guards", verdict=Verdict.UNVERIFIED, detail=why)
            return why
        self._looks += 1
        for reading in readings:
            self._worst[reading.metric] = max(reading.value, self._worst.get(reading.metric, reading.value))
        why = tripped(self._permission, readings)
        if why:
            verdict = Verdict.UNVERIFIED if why.endswith("was not read") else Verdict.FAIL
            self.problem = Check(name="guards", verdict=verdict, detail=why)
        return why

    @contextmanager
    def watching(self, stop: Stop) -> Iterator[None]:
        """Look again and again while the context lasts, and pull *stop* when a guard trips."""
        over = threading.Event()
        every = self._permission.guard_every.total_seconds()

        def watch() -> None:
            while not over.wait(every):
                why = self.look()
                if why and not over.is_set():
                    stop.stop(f"guard: {why}")
                    return

        thread = threading.Thread(target=watch, name="guards", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=30)

    def check(self) -> Check:
        """Say how it went."""
        if self.problem is not None:
            return self.problem
        seen = ", ".join(f"{metric} up to {value:,.4g}" for metric, value in sorted(self._worst.items()))
        verdict = Verdict.PASS if self._looks else Verdict.UNVERIFIED
        return Check(name="guards", verdict=verdict, detail=f"looked {self._looks} times: {seen or 'nothing was read'}")
