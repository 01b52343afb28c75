"""A bounded pipe of bytes between two threads: one writes, one iterates, and either end can break it off.

Clients written in Rust (obstore, age) want to pull from a file or an iterator and to run on their own thread.  With a pipe in
between, what produces the bytes runs in the caller's thread, memory is bounded by the pipe, and the error of either side
reaches the other one as it was raised.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator

BLOCK_BYTES = 1 << 20  # small writes are joined: handing over costs a thread switch
BLOCKS = 8


class ReaderGone(Exception):
    """Nobody reads the other end any more: there is no point in producing more."""


def ahead(chunks: Iterable[bytes], *, blocks: int = 3) -> Iterator[bytes]:
    """Give *chunks*, which are iterated on another thread meanwhile; its error comes through as it is, and at its place.

    The thread ends with the iterator, at the latest when *chunks* gives its next piece.

    :param blocks: how many pieces, or MiB when they are small, may be waiting
    """
    pipe = Pipe(blocks)

    def run() -> None:
        try:
            for chunk in chunks:
                pipe.write(chunk)
            pipe.finish()
        except ReaderGone:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised in the reader's thread
            with contextlib.suppress(ReaderGone):
                pipe.finish(error)
        finally:
            # In this thread: a generator cannot be closed from another one while it runs.
            if isinstance(chunks, Generator):
                chunks.close()

    thread = threading.Thread(target=run, name="ahead", daemon=True)
    thread.start()
    try:
        yield from pipe
    finally:
        pipe.abandon()
        thread.join()


class Pipe:
    """Carries bytes from one writing thread to one iterating thread, in order.

    :param blocks: how many blocks the writer may be ahead
    """

    def __init__(self, blocks: int = BLOCKS) -> None:
        self._limit = blocks
        self._changed = threading.Condition()
        self._blocks: deque[bytes] = deque()
        self._small: list[bytes] = []
        self._small_bytes = 0
        self._finished = False
        self._error: BaseException | None = None
        self._last_error: BaseException | None = None
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

    def finish(self, error: BaseException | None = None) -> None:
        """Say that there is no more: that all is well, or what the reader gets after all that was written.

        :raises ReaderGone: when the reader gave up
        """
        if self._small:
            self._hand_over()
        with self._changed:
            self._last_error = error
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
                    if self._last_error is not None:
                        raise self._last_error
                    return
                block = self._blocks.popleft()
                self._changed.notify_all()
            yield block

    def _hand_over(self) -> None:
        block = self._small[0] if len(self._small) == 1 else b"".join(self._small)
        self._small, self._small_bytes = [], 0
        with self._changed:
            self._changed.wait_for(lambda: self._gone or len(self._blocks) < self._limit)
            if self._gone:
                raise ReaderGone
            self._blocks.append(block)
            self._changed.notify_all()
