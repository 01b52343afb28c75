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
    """What the guards have seen.

    :param patience: seconds after which a question without an answer counts as a guard that has tripped
    """

    def __init__(self, permission: LoadPermission, read: Read, *, patience: float) -> None:
        self._permission = permission
        self._read = read
        self._patience = patience
        self._looks = 0
        self._worst: dict[str, float] = {}
        self.problem: Check | None = None

    def look(self) -> str:
        """Read the guards' metrics; say which has tripped, or nothing."""
        readings = self._answer()
        if readings is None:
            return self._trip(Verdict.FAIL, f"production gave no answer within {self._patience:g} s")
        if isinstance(readings, MainstayError):
            verdict = Verdict.FAIL if isinstance(readings, TransientError) else Verdict.UNVERIFIED
            return self._trip(verdict, f"production could not be asked: {readings.message}")
        if isinstance(readings, Exception):  # whatever it is, nobody watches any more
            why = f"the guards could not be read: {type(readings).__name__}: {readings}"
            return self._trip(Verdict.UNVERIFIED, why)
        self._looks += 1
        for reading in readings:
            self._worst[reading.metric] = max(reading.value, self._worst.get(reading.metric, reading.value))
        why = tripped(self._permission, readings)
        if why:
            return self._trip(Verdict.UNVERIFIED if why.endswith("was not read") else Verdict.FAIL, why)
        return ""

    @contextmanager
    def watching(self, stop: Stop) -> Iterator[None]:
        """Look again and again while the context lasts, and pull *stop* when a guard trips."""
        over = threading.Event()
        every = self._permission.guard_every.total_seconds()

        def watch() -> None:
            while True:  # at once, too: a load may be over before the first pause is
                why = self.look()
                if why and not over.is_set():
                    stop.stop(f"guard: {why}")
                if why or over.wait(every):
                    return

        thread = threading.Thread(target=watch, name="guards", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()  # it ends: no look takes longer than the patience

    def _answer(self) -> Sequence[Reading] | Exception | None:
        """Read; give what was raised instead, or nothing when it takes too long: a client may hang with its server."""
        found: list[Sequence[Reading] | Exception] = []

        def ask() -> None:
            try:
                found.append(self._read())
            except Exception as error:  # noqa: BLE001 - told by whoever waits for us
                found.append(error)

        asking = threading.Thread(target=ask, name="guards asking", daemon=True)
        asking.start()
        asking.join(self._patience)
        return found[0] if found else None

    def _trip(self, verdict: Verdict, why: str) -> str:
        self.problem = Check(name="guards", verdict=verdict, detail=why)
        return why

    def check(self) -> Check:
        """Say how it went."""
        if self.problem is not None:
            return self.problem
        seen = ", ".join(f"{metric} up to {value:,.4g}" for metric, value in sorted(self._worst.items()))
        verdict = Verdict.PASS if self._looks else Verdict.UNVERIFIED
        return Check(name="guards", verdict=verdict, detail=f"looked {self._looks} times: {seen or 'nothing was read'}")
