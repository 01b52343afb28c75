"""Runs native client code in a child process with a time limit: when librdkafka crashes, a task fails, not the worker.

A child is a fresh Python on one module of this folder (``reader``, ``loader``).  Parent and child exchange frames over the
child's standard input and output: two lengths, msgpack, bytes.  Credentials travel in a frame, so they are in no argument list,
no environment and no file.

::

    with Child("reader", patience=120) as child:
        child.send({"settings": ..., "work": ...})
        for frame in child.frames(): ...
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from include.engine import errors
from include.engine.children import Overheard
from include.engine.errors import MainstayError, TransientError, Unreachable

_PACKAGE = __name__.rpartition(".")[0]
_ROOT = Path(__file__).resolve().parents[4]
_LENGTHS = struct.Struct(">QQ")
_BEATS = 12  # that a child which gets on may give in the time that its silence would be borne
_PR_SET_PDEATHSIG = 1
_PIPE = 1 << 20  # bytes: what may be on its way; the usual 64 KiB make a segment cost a thousand switches of process
# Segments come and go: memory that is given back to the system after each is paid for again, page by page, with the next.
_FRUGAL = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "MALLOC_TOP_PAD_": str(64 << 20),
}

Frame = dict[str, Any]


class Child:
    """A running child.

    :param module: which module of this folder it runs
    :param patience: seconds without a frame after which it counts as stuck and is killed
    """

    def __init__(self, module: str, *, patience: float = 120.0) -> None:
        self.module = module
        self._patience = patience
        self._stuck = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{_PACKAGE}.{module}", str(patience / _BEATS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | _FRUGAL | {"PYTHONPATH": f"{_ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
            start_new_session=True,  # a Ctrl-C is for the parent, which stops its children in good order
        )
        _widen(self._process)
        self._overheard = Overheard(self._process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, frame: Frame) -> None:
        """Give it a frame.

        :raises TransientError: when it has died
        """
        assert self._process.stdin is not None
        try:
            write_frame(self._process.stdin, frame)
        except (BrokenPipeError, ValueError) as error:
            raise self._death() from error

    def finish_sending(self) -> None:
        """Say that no more frames come."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError as error:
            raise self._death() from error

    def frames(self) -> Iterator[Frame]:
        """Give its frames until the one that says it is done.

        :raises MainstayError: what it raised, as it raised it
        :raises TransientError: when it crashed or was stuck
        """
        assert self._process.stdout is not None
        while True:
            timer = threading.Timer(self._patience, self._give_up)
            timer.daemon = True
            timer.start()
            try:
                frame = read_frame(self._process.stdout)
            finally:
                timer.cancel()
            if frame is None:
                raise self._death()
            if "error" in frame:
                raise _revived(frame["error"])
            if "done" in frame:
                return
            if "beat" not in frame:
                yield frame

    def kill(self) -> None:
        """End it at once."""
        self._overheard.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue
        self._overheard.ended(patience=30)

    def _give_up(self) -> None:
        self._stuck = True
        self.kill()

    def _death(self) -> MainstayError:
        if self._stuck:
            return Unreachable(
                f"the Kafka {self.module} gave no sign of life for {self._patience:.0f} s and was killed",
                hint="check the brokers; the run can be repeated",
            )
        how = self._overheard.how()
        return TransientError(f"the Kafka {self.module} ended {how}", hint="the run can be repeated")


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Let more be on its way, where the system allows: it counts what all pipes of a user may hold."""
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(OSError):
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE)


class _Lean(MetaPathFinder):
    """Keeps numpy and pandas out: pyarrow imports them where they are installed and needs neither, which takes up to seconds."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if fullname in {"numpy", "pandas"}:
            raise ModuleNotFoundError(fullname, name=fullname)


def _die_with_parent() -> None:
    """Let the kernel end us when the thread that started us ends, killed or not: a loader would write on, and nobody would count.

    Elsewhere than on Linux the next frame that cannot be sent ends us.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(work: Callable[[Iterator[Frame], Callable[[Frame], None]], None]) -> None:
    """Be the child: call *work* with the incoming frames and a function that sends one, and report how it ended."""
    sys.meta_path.insert(0, _Lean())
    _die_with_parent()
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land between frames

    def frames() -> Iterator[Frame]:
        while (frame := read_frame(incoming)) is not None:
            yield frame

    def send(frame: Frame) -> None:
        write_frame(outgoing, frame)

    try:
        work(frames(), send)
        send({"done": True})
    except MainstayError as error:
        send({"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}})
    except BrokenPipeError:
        pass  # the parent is gone, and with it everybody who wants to know
    # librdkafka's threads may hang in a destructor; everything that matters was flushed above.
    outgoing.flush()
    os._exit(0)


def beating(send: Callable[[Frame], None]) -> Callable[[], None]:
    """Give what a child calls whenever it gets on: at times it tells the parent, who would take a long silence for the end.

    How often, the parent says with the first argument, for it knows how long it waits.
    """
    every = float(sys.argv[1])
    last = [time.monotonic()]

    def beat() -> None:
        now = time.monotonic()
        if now - last[0] >= every:
            last[0] = now
            send({"beat": True})

    return beat


def write_frame(stream: IO[bytes], frame: Frame) -> None:
    """Write one frame.  Its ``raw`` follows as it is: a segment is not worth copying."""
    raw = frame.get("raw", b"")
    head = msgspec.msgpack.encode({key: value for key, value in frame.items() if key != "raw"})
    stream.write(_LENGTHS.pack(len(head), len(raw)))
    stream.write(head)
    stream.write(raw)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Frame | None:
    """Read one frame; None when the other side has ended, in the middle of a frame too."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    of_head, of_raw = _LENGTHS.unpack(lengths)
    head, raw = stream.read(of_head), stream.read(of_raw)
    if len(head) < of_head or len(raw) < of_raw:
        return None
    frame: Frame = msgspec.msgpack.decode(head)
    if of_raw:
        frame["raw"] = raw
    return frame


def _revived(told: dict[str, str]) -> MainstayError:
    kind = getattr(errors, told["kind"], TransientError)
    error: MainstayError = kind(told["message"], hint=told["hint"])
    return error
