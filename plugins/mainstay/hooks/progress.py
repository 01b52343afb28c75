"""Progress in a task's log: a line now and then with bytes, rate and time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from include.engine.cli import figures


class Log(Protocol):
    """What a logger must be able to do."""

    def info(self, event: Any, /, *args: Any) -> Any:
        """Write one line."""


class LogProgress:
    """Tells a task's log how far the work is (see ``contracts.Progress``).  Threads may call it.

    :param every: seconds between two lines about the same stage
    """

    def __init__(self, log: Log, *, every: float = 10.0, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._every = every
        self._now = now
        self._lock = threading.Lock()
        self._name = ""
        self._total: int | None = None
        self._done = 0
        self._began = self._told = now()

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        """Begin a stage; the one before it is told as finished."""
        with self._lock:
            self._finish()
            self._name, self._total, self._done = name, total_bytes, 0
            self._began = self._told = self._now()
            self._log.info("%s%s", name, f" ({figures.size(total_bytes)})" if total_bytes else "")

    def advance(self, bytes_: int) -> None:
        """Count *bytes_* more as done in this stage."""
        with self._lock:
            self._done += bytes_
            now = self._now()
            if now - self._told >= self._every:
                self._told = now
                self._log.info("%s: %s", self._name, self._how_far(now - self._began))

    def say(self, text: str) -> None:
        """Tell one event, in one line."""
        self._log.info("%s", text)

    def close(self) -> None:
        """Tell the last stage as finished."""
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        if self._name:
            seconds = self._now() - self._began
            moved = f"{figures.size(self._done)}, {figures.rate(self._done, seconds)}, " if self._done else ""
            self._log.info("%s: %sin %s", self._name, moved, figures.duration(seconds))
        self._name = ""

    def _how_far(self, seconds: float) -> str:
        parts = [figures.size(self._done), figures.rate(self._done, seconds)]
        # What is sent may turn out larger than was estimated: then the time left is not known any more.
        if self._total and 0 < self._done <= self._total:
            left = (self._total - self._done) * seconds / self._done
            parts[0] += f" of {figures.size(self._total)} ({100 * self._done // self._total} %)"
            parts.append(f"{figures.duration(left)} left")
        return ", ".join(parts)
