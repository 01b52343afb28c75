"""A bounded pipe of bytes between two threads: one writes, one iterates, and either end can break it off.

Clients written in Rust (obstore, age) want to pull from a file or an iterator and to run on their own thread.  With a pipe in
between, what produces the bytes runs in the caller's thread, memory is bounded by the pipe, and the error of either side
reaches the other one as it was raised.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

BLOCK_BYTES = 1 << 20  # small writes are joined: handing over costs a thread switch
BLOCKS = 8


class ReaderGone(Exception):
    """Nobody reads the other end any more: there is no point in producing more."""


class Pipe:
    """Carries bytes from one writing thread to one iterating thread, in order, at most ``BLOCKS`` blocks ahead."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._blocks: deque[bytes] = deque()
        self._small: list[bytes] = []
        self._small_bytes = 0
        self._finished = False
        self._error: BaseException | None = None
        self._gone = False

    def write(self, data: bytes) -> int:
        """Hand over *data*; waits while the pipe is full.  Gives its length, as files do.

        :raises ReaderGone: when the reader gave up
        """
        self._small.append(data)
        self._small_bytes += len(data)
        if self._small_bytes >= BLOCK_BYTES:
            self._hand_over()
        return len(data)

    def flush(self) -> None:
        """Do nothing: writers expect a file to have it, and blocks leave when they are full or at the end."""

    def finish(self) -> None:
        """Say that there is no more.

        :raises ReaderGone: when the reader gave up
        """
        if self._small:
            self._hand_over()
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Make the reader raise *error* at once, whatever it has not read yet."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Say that nobody reads any more: the writer gets :class:`ReaderGone` at its next write, also when it waits now."""
        with self._changed:
            self._gone = True
            self._blocks.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._blocks or self._finished or self._error)
                if self._error is not None:
                    raise self._error
                if not self._blocks:
                    return
                block = self._blocks.popleft()
                self._changed.notify_all()
            yield block

    def _hand_over(self) -> None:
        block = self._small[0] if len(self._small) == 1 else b"".join(self._small)
        self._small, self._small_bytes = [], 0
        with self._changed:
            self._changed.wait_for(lambda: self._gone or len(self._blocks) < BLOCKS)
            if self._gone:
                raise ReaderGone
            self._blocks.append(block)
            self._changed.notify_all()
