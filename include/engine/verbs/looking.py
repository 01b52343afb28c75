"""Asks many probes at once, each with a time limit of its own: a dead system costs its own time-out and nothing else."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from include.engine.contracts import Clock
from include.engine.health.looks import Look, Trouble
from include.engine.model import Reading
from include.engine.probing import Probe

_WIDTH = 64  # probes at once: they wait for the network, not for a processor
_GRACE = 1.0  # seconds over its time-out that a probe may take to notice it


@dataclass(frozen=True)
class Asked:
    """A probe, and what it looks at."""

    subject: str
    probe: Probe


def look_at(asked: Sequence[Asked], *, clock: Clock, timeout: float, width: int = _WIDTH) -> list[Look]:
    """Ask all probes, in threads, and give their looks in the order of *asked*.

    A probe that does not come back is left behind in its thread, which dies with the process, and its place is given to the next.
    Nothing that a probe raises comes through: it is its look.

    :param timeout: seconds that one probe may take
    """
    waiting = deque(enumerate(asked))
    running: dict[int, float] = {}
    found: dict[int, Look] = {}
    done: queue.SimpleQueue[tuple[int, Look]] = queue.SimpleQueue()
    while waiting or running:
        while waiting and len(running) < width:
            index, one = waiting.popleft()
            running[index] = time.monotonic()
            work = _work(index, one, done, clock, timeout)
            threading.Thread(target=work, name=f"probe {one.subject} {one.probe.name}", daemon=True).start()
        patience = min(running.values()) + timeout + _GRACE - time.monotonic()
        try:
            index, look = done.get(timeout=max(patience, 0.0))
        except queue.Empty:
            _give_up(asked, running, found, clock, timeout)
            continue
        if running.pop(index, None) is not None:  # else nobody waits for it any more
            found[index] = look
    return [found[index] for index in range(len(asked))]


def _give_up(
    asked: Sequence[Asked], running: dict[int, float], found: dict[int, Look], clock: Clock, timeout: float
) -> None:
    for index, began in list(running.items()):
        took = time.monotonic() - began
        if took >= timeout + _GRACE:
            del running[index]
            trouble = Trouble(
                kind="Unreachable",
                message=f"{asked[index].subject} did not answer within {timeout:g} s",
                hint="see whether it hangs; sweep.timeout in the inventory is how long one probe may take",
                silent=True,
            )
            found[index] = _look(asked[index], clock, took, trouble=trouble)


def _work(
    index: int, one: Asked, done: queue.SimpleQueue[tuple[int, Look]], clock: Clock, timeout: float
) -> Callable[[], None]:
    def work() -> None:
        began = time.monotonic()
        try:
            readings = tuple(one.probe.read(clock, timeout=timeout))
        except BaseException as error:  # noqa: BLE001 - whatever a probe raises is what is told of it
            look = _look(one, clock, time.monotonic() - began, trouble=Trouble.of(error))
        else:
            look = _look(one, clock, time.monotonic() - began, readings=readings)
        done.put((index, look))

    return work


def _look(
    one: Asked, clock: Clock, seconds: float, *, readings: tuple[Reading, ...] = (), trouble: Trouble | None = None
) -> Look:
    return Look(
        subject=one.subject,
        probe=one.probe.name,
        source=one.probe.source,
        metrics=tuple(one.probe.metrics),
        sometimes=tuple(getattr(one.probe, "sometimes", ())),
        at=clock(),
        seconds=seconds,
        readings=readings,
        trouble=trouble,
    )
