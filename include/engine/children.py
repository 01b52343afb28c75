"""Child processes: what they are told in secret, and their last words, for whoever asks how they ended."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_KEPT = 40  # lines


@contextmanager
def kept_in_memory(text: str) -> Iterator[int]:
    """Give the descriptor of a file that has *text* and is on no disk: nothing of it stays, however we end.

    Our own account can open it as ``/proc/<pid>/fd/<descriptor>``, a child that inherits it as ``/dev/fd/<descriptor>``.
    """
    file = os.memfd_create("secret")
    try:
        os.fchmod(file, 0o600)  # libpq reads no other
        with open(file, "wb", closefd=False) as memory:
            memory.write(text.encode())
        yield file
    finally:
        os.close(file)


class Overheard:
    """A process, of which the standard error is read all the time: a full pipe would hold it up.

    :param process: started with a pipe for its standard error
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def kill(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            self._process.kill()

    def ended(self, patience: float = 5.0) -> int:
        """Give its exit code, negative for a signal; it is killed when it has not ended within *patience* seconds."""
        try:
            code = self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        self._listener.join(timeout=5)
        return code

    def how(self) -> str:
        """Say how it has ended, and what it said last."""
        code = self.ended()
        last = self._said[-1] if self._said else "it said nothing"
        return f"{f'by signal {-code}' if code < 0 else f'with exit code {code}'}: {last}"

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self._said.append(line.decode(errors="replace").rstrip())
                del self._said[:-_KEPT]
