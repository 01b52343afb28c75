"""Shows on standard error how far a verb is: a line that rewrites itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from include.engine.cli import figures
from include.engine.cli.redaction import redacted

_ON_TERMINAL, _IN_LOG = 0.1, 5.0  # seconds between two looks


class ShellProgress:
    """Bytes, rate and time left of the stage at hand (see ``contracts.Progress``).  Threads may call it.

    :param quiet: tell nothing at all
    """

    def __init__(
        self, stream: TextIO | None = None, *, quiet: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._quiet = quiet
        self._now = now
        self._lock = threading.Lock()
        self._name = ""
        self._total: int | None = None
        self._done = 0
        self._began = self._shown = now()

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        """Begin a stage; the one before it is told as finished."""
        with self._lock:
            self._finish()
            self._name, self._total, self._done = name, total_bytes, 0
            self._began = self._now()
            self._shown = self._began
            if self._terminal:
                self._show()
            else:
                self._write(f"{name}{f' ({figures.size(total_bytes)})' if total_bytes else ''}\n")

    def advance(self, bytes_: int) -> None:
        """Count *bytes_* more as done in this stage."""
        with self._lock:
            self._done += bytes_
            if self._now() - self._shown >= (_ON_TERMINAL if self._terminal else _IN_LOG):
                self._show()

    def say(self, text: str) -> None:
        """Tell one event, in one line."""
        with self._lock:
            self._write(f"{self._clear()}{redacted(text)}\n")
            if self._terminal and self._name:
                self._show()

    def close(self) -> None:
        """Tell the last stage as finished; the line belongs to others from now on."""
        with self._lock:
            self._finish()

    def __enter__(self) -> ShellProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _finish(self) -> None:
        if self._name:
            seconds = self._now() - self._began
            moved = f" {figures.size(self._done)}, {figures.rate(self._done, seconds)}" if self._done else ""
            self._write(f"{self._clear()}{self._name}:{moved} in {figures.duration(seconds)}\n")
        self._name = ""

    def _show(self) -> None:
        self._shown = self._now()
        line = self._line(self._shown - self._began)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[2K{line[:width]}")
        else:
            self._write(f"  {line}\n")

    def _line(self, seconds: float) -> str:
        parts = [self._name]
        if self._done:
            parts.append(figures.size(self._done))
            parts.append(figures.rate(self._done, seconds))
        if self._done and self._total:
            # What is sent may turn out larger than was estimated: then the time left is not known any more.
            left = (self._total - self._done) * seconds / self._done
            parts[1] += f" of {figures.size(self._total)} ({min(100, 100 * self._done // self._total)} %)"
            if left > 0:
                parts.append(f"{figures.duration(left)} left")
        return "  ".join(part for part in parts if part)

    def _clear(self) -> str:
        return "\r\x1b[2K" if self._terminal else ""

    def _write(self, text: str) -> None:
        if not self._quiet:
            self._stream.write(text)
            self._stream.flush()
