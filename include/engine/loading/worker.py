"""One process of the generator: told on standard input what to do, it keeps its part of the schedule and tells what it recorded.

When its parent dies, its standard input ends, and it stops: no load goes on by itself.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from importlib import import_module
from typing import IO, Any

import msgspec

from include.engine.errors import MainstayError
from include.engine.loading.contracts import Batched, Phased
from include.engine.loading.driving import Driver
from include.engine.loading.recording import Recording
from include.engine.loading.schedule import Schedule, Stage

_TOLD_EVERY = 1.0  # seconds
_SWITCH = 0.0005  # seconds


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told."""

    module: str
    parameters: dict[str, Any]
    stages: tuple[Stage, ...]
    warm_up: float
    part: int
    of: int
    bound: int
    grace: float
    interval: int
    most: int | None = None


def main() -> None:
    """Be the process."""
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land between frames
    try:
        _serve(incoming, outgoing)
    except MainstayError as error:
        tell(outgoing, {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}})
    except BrokenPipeError:
        pass  # the parent is gone
    # Clients' threads may hang when they are destroyed; what matters was flushed.
    outgoing.flush()
    os._exit(0)


def tell(stream: IO[bytes], frame: dict[str, Any]) -> None:
    """Write one frame: a length, then msgpack."""
    raw = msgspec.msgpack.encode(frame)
    stream.write(len(raw).to_bytes(8, "big") + raw)
    stream.flush()


def hear(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read one frame; None at the end."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    length = int.from_bytes(head, "big")
    raw = stream.read(length)
    return msgspec.msgpack.decode(raw, strict=False) if len(raw) == length else None


def _serve(incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    first = hear(incoming)
    if first is None:
        return
    order = msgspec.convert(first, Order)
    operation = import_module(order.module).open_operation(order.parameters)
    schedule = Schedule(stages=order.stages, warm_up=order.warm_up)
    tell(outgoing, {"ready": True})
    begin = hear(incoming)
    if begin is None or "begin" not in begin:
        return  # the end of our parent, or a stop before it began
    stop = threading.Event()

    def listen() -> None:
        hear(incoming)  # a stop, or the end of our parent
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    driver = Driver(
        operation,
        schedule,
        begin=begin["begin"],
        part=order.part,
        of=order.of,
        bound=order.bound,
        grace=order.grace,
        interval=order.interval,
        most=order.most,
    )
    threading.Thread(target=_report, args=(driver.recording, outgoing, stop), daemon=True).start()
    # The collector's pauses would be told as the target's: what is there now is never looked at again, and the rest seldom.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    # Where a client has a thread of its own, that one notes the answers: it must not wait for us as long as Python lets it.
    sys.setswitchinterval(_SWITCH)
    # Where the client works beside Python, only this thread can be what keeps operations from being sent.
    spent = time.thread_time if isinstance(operation, Batched) else time.process_time
    used, ran = spent(), time.monotonic()
    recording = driver.run(stop.is_set)
    used, ran = spent() - used, time.monotonic() - ran
    if isinstance(operation, Phased):
        recording.add_phases((schedule.due(index), name, took) for index, name, took in operation.phases())
    with _speaking:
        tell(outgoing, {"recording": recording.to_frame(), "cpu": used, "ran": ran})
    operation.close()


_speaking = threading.Lock()


def _report(recording: Recording, outgoing: IO[bytes], stop: threading.Event) -> None:
    while not stop.wait(_TOLD_EVERY):
        # Copies: they change meanwhile.
        done = sum(list(recording.completed.values()))
        errors = sum(sum(list(found.values())) for found in list(recording.errors.values()))
        with _speaking:
            tell(outgoing, {"completed": done, "errors": errors})


if __name__ == "__main__":
    main()
