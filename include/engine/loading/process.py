"""One process of the generator, as the process that has started it sees it (its own side is :mod:`.worker`).

It is a fresh Python, so that a client that crashes takes it along and not its parent, and so that no two of them share an
interpreter's lock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import msgspec

from include.engine import errors
from include.engine.children import Overheard
from include.engine.contracts import Progress
from include.engine.errors import MainstayError, TransientError, Unreachable
from include.engine.loading.worker import Order, hear, tell

_ROOT = Path(__file__).resolve().parents[3]
_LAST_MOMENT = 1.0  # seconds: production may suffer meanwhile, but nothing is sent any more


class Process:
    """One child, which has its order."""

    def __init__(self, order: Order) -> None:
        self._stuck = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "include.engine.loading.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": f"{_ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
            start_new_session=True,  # a Ctrl-C is for the parent, which stops its children in good order
        )
        self._overheard = Overheard(self._process)
        self.send(msgspec.to_builtins(order))

    def send(self, frame: dict[str, Any]) -> None:
        """Tell it something.

        :raises TransientError: when it has ended
        """
        try:
            tell(self._pipe("stdin"), frame)
        except (BrokenPipeError, ValueError) as error:
            raise self._death() from error

    def expect(self, wanted: str, patience: float, progress: Progress | None = None) -> dict[str, Any]:
        """Wait for the frame that has *wanted*, for at most *patience* seconds.

        :raises MainstayError: what it has raised itself
        :raises Unreachable: when it was silent for too long, and was killed
        :raises TransientError: when it has ended
        """
        timer = threading.Timer(patience, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            while True:
                frame = hear(self._pipe("stdout"))
                if frame is None:
                    raise self._death()
                if "error" in frame:
                    told = frame["error"]
                    raise getattr(errors, told["kind"], TransientError)(told["message"], hint=told["hint"])
                if wanted in frame:
                    return frame
                if progress is not None and "completed" in frame:
                    progress.say(f"{frame['completed']} answered, {frame['errors']} errors")
        finally:
            timer.cancel()

    def stop(self) -> None:
        """Ask it for what it has recorded, and give it a moment for that."""
        try:
            self.send({"stop": True})
        except MainstayError:
            return  # it has ended
        timer = threading.Timer(_LAST_MOMENT, self.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """End it at once."""
        self._overheard.kill()

    def end(self) -> None:
        """Let it end, and see that it does."""
        for name in ("stdin", "stdout"):
            try:
                self._pipe(name).close()
            except (BrokenPipeError, ValueError):
                continue
        self._overheard.ended()

    def _pipe(self, name: str) -> IO[bytes]:
        stream: IO[bytes] = getattr(self._process, name)
        return stream

    def _give_up(self) -> None:
        self._stuck = True
        self.kill()

    def _death(self) -> MainstayError:
        if self._stuck:
            return Unreachable(
                "a process of the load generator gave no sign of life and was killed",
                hint="check that the target answers, and run it again",
            )
        return TransientError(f"a process of the load generator ended {self._overheard.how()}", hint="run it again")
