"""What the sweep asks of a system: probes, each of which reads one thing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Generic, Protocol, TypeVar, runtime_checkable

from include.engine.contracts import Clock
from include.engine.model import Reading

Answer = TypeVar("Answer")


class Probe(Protocol):
    """Reads one thing of one live target.  In ``systems/<system>/probes.py``, which gives all of a target's probes as

    ``open_probes(target: Target, settings: Settings, connections: Connections) -> Sequence[Probe]``

    and asks no server for anything yet.  A probe may have ``sometimes`` as well: the metrics that it gives only when there is
    something to tell, a gap or a slot.  Once it was read without trouble and gave none of these, there is nothing.
    """

    name: str  # unique among the target's probes: ``groups``
    metrics: Sequence[str]  # every metric that it gives on a healthy system: one that is absent is a finding
    source: str  # what is read from where, for a person: "consumer lag per group, from the group coordinators"

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it.  Called from a thread of its own, beside the target's other probes.

        :param timeout: seconds after which nobody waits for the answer any more: bound every connection and query by it
        :raises Unreachable: when the system does not answer; any other error is a finding as well
        """
        ...


def sometimes(probe: Probe) -> tuple[str, ...]:
    """Give the metrics that *probe* gives only when there is something to tell."""
    return tuple(getattr(probe, "sometimes", ()))


Recall = Callable[
    [Sequence[str], datetime], Sequence[Reading]
]  # metrics, since: what the sweeps have read of the target


@runtime_checkable
class Recalling(Protocol):
    """A probe that judges by what was read before, too.  Probes are made anew for every sweep, so they remember nothing."""

    recall: Recall | None  # set by the sweep; it raises when the history does not answer


class Once(Generic[Answer]):
    """An answer that several probes of one sweep need: whoever comes first asks, and the others wait for what it hears.

    An error is an answer, too: a system that is away is not asked by each of them, one after the other.
    """

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._heard: Future[Answer] | None = None

    def __call__(self) -> Answer:
        """Give it, or raise what was raised."""
        with self._lock:
            if self._heard is None:
                self._heard = Future()
                try:
                    self._heard.set_result(self._ask())
                except BaseException as error:  # noqa: BLE001 - raised below, for this one and for the others
                    self._heard.set_exception(error)
        return self._heard.result()
