"""Visible steps with their seconds, for what takes a while and has no bytes to count.

::

    steps = Steps()
    with steps.step("PostgreSQL primary"):
        primary.start()                      # "  PostgreSQL primary … 2.1 s"
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from include.engine.cli import figures
from include.engine.cli.redaction import redacted


class Steps:
    """Tells a person on standard error what is being done, and how long each thing took."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._began = time.monotonic()
        self._open = False

    @property
    def seconds(self) -> float:
        """Seconds since the first step could begin."""
        return time.monotonic() - self._began

    def title(self, text: str) -> None:
        """Begin a group of steps."""
        self._write(f"\n{text}\n")

    def say(self, text: str) -> None:
        """Tell one event of the step at hand, in a line of its own."""
        if self._open:
            self._write("\n")
            self._open = False
        self._write(f"    {redacted(text)}\n")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Name what is done inside the context, and tell how long it took."""
        began = time.monotonic()
        self._write(f"  {name} …")
        self._open = True
        try:
            yield
        except BaseException:
            self._end("failed", began, name)
            raise
        self._end("", began, name)

    def _end(self, how: str, began: float, name: str) -> None:
        # When something was said meanwhile, the name is some lines up: say it again.
        again = "" if self._open else f"  {name}:"
        self._open = False
        self._write(f"{again} {f'{how} after ' if how else ''}{figures.duration(time.monotonic() - began)}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
