"""Asks many probes at once, each with a time limit of its own: a dead system costs its own time-out and nothing else."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from include.engine.contracts import Clock
from include.engine.health.looks import Look, Trouble
from include.engine.model import Reading
from include.engine.probing import Probe, sometimes

_WIDTH = 64  # probes at once: they wait for the network, not for a processor
_ALL_OF_IT = 0.9  # of its time: a probe that takes so much and gives nothing was not answered
_GRACE = 1.0  # seconds over its time-out that a probe may take to notice it


@dataclass(frozen=True)
class Asked:
    """A probe, and what it looks at."""

    subject: str
    probe: Probe


def look_at(asked: Sequence[Asked], *, clock: Clock, timeout: float, width: int = _WIDTH) -> list[Look]:
    """Ask all probes, in threads, and give their looks in the order of *asked*.

    A probe that does not come back is left behind in its thread, which dies with the process, and its place is given to the next.
    When there are more probes than places, subjects that let nobody wait come first, and one that has let a probe wait for all of
    its time is not waited for by those that began later.  Nothing that a probe raises comes through: it is its look.

    :param timeout: seconds that one probe may take
    """
    waiting = list(range(len(asked)))
    running: dict[int, float] = {}
    found: dict[int, Look] = {}
    hangs: dict[str, Trouble] = {}
    done: queue.SimpleQueue[tuple[int, Look]] = queue.SimpleQueue()

    def note(index: int, look: Look) -> None:
        found[index] = look
        if look.trouble is None or not look.trouble.silent or look.seconds < timeout * _ALL_OF_IT:
            return
        hangs.setdefault(look.subject, look.trouble)
        late = time.monotonic() - look.seconds + _GRACE  # what began with it has as much time as it had
        for other in [one for one, began in running.items() if asked[one].subject == look.subject and began > late]:
            del running[other]
            found[other] = _look(asked[other], clock, 0.0, trouble=hangs[look.subject])

    while waiting or running:
        while waiting and len(running) < width:
            index = _next(asked, waiting, running)
            waiting.remove(index)
            one = asked[index]
            if one.subject in hangs:
                found[index] = _look(one, clock, 0.0, trouble=hangs[one.subject])
                continue
            running[index] = time.monotonic()
            work = _work(index, one, done, clock, timeout)
            threading.Thread(target=work, name=f"probe {one.subject} {one.probe.name}", daemon=True).start()
        if not running:
            break
        patience = min(running.values()) + timeout + _GRACE - time.monotonic()
        try:
            index, look = done.get(timeout=max(patience, 0.0))
        except queue.Empty:
            for index, look in _given_up(asked, running, clock, timeout):
                note(index, look)
            continue
        if running.pop(index, None) is not None:  # else nobody waits for it any more
            note(index, look)
    return [found[index] for index in range(len(asked))]


def _next(asked: Sequence[Asked], waiting: Sequence[int], running: Mapping[int, float]) -> int:
    """Choose the first of a subject that is not being asked now, else the first of all."""
    busy = {asked[index].subject for index in running}
    return next((index for index in waiting if asked[index].subject not in busy), waiting[0])


def _given_up(
    asked: Sequence[Asked], running: dict[int, float], clock: Clock, timeout: float
) -> Iterator[tuple[int, Look]]:
    for index, began in list(running.items()):
        if index not in running:  # it was given up with another of its subject
            continue
        took = time.monotonic() - began
        if took >= timeout + _GRACE:
            del running[index]
            trouble = Trouble(
                kind="Unreachable",
                message=f"{asked[index].subject} did not answer within {timeout:g} s",
                hint="see whether it hangs; sweep.timeout in the inventory is how long one probe may take",
                silent=True,
            )
            yield index, _look(asked[index], clock, took, trouble=trouble)


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
        sometimes=sometimes(one.probe),
        at=clock(),
        seconds=seconds,
        readings=readings,
        trouble=trouble,
    )
