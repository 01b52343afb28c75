"""What a load test asks of a system, in ``systems/<system>/load.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import Interrupted
from include.engine.loading.schedule import Schedule
from include.engine.model import GeneratorLimit, LoadStep, Reading

LOAD_BEFORE = "load average before the test"  # differs from test to test, and is no change of what is tested
CPU_SHARE = (
    "generator_cpu_share"  # a figure: of one processor, by the busiest process, where its client has to wait for Python
)
UNANSWERED = "no answer by the end of the test"
UNSENT = "never sent: the generator was still behind when the test ended"


class Done(Protocol):
    """Called once for each operation, from any thread: with the error in a few words or None, and the kind of operation."""

    def __call__(self, error: str | None, kind: str = "") -> None:
        """Note the answer."""
        ...


class Operation(Protocol):
    """Sends operations to a target without waiting for their answers.  Lives in a process of its own."""

    def submit(self, index: int, done: Done) -> None:
        """Send operation *index*, and call *done* when it is answered.

        Must not block; an error that is known at once may be raised, or given to *done*.
        """
        ...

    def poll(self, seconds: float) -> None:
        """Let answers come in, for at most so long; returns early when there is something to send."""
        ...

    def close(self) -> None:
        """Let go of the target."""
        ...


# Takes the answer to one of many operations, from any thread: its index, what the client gave for an error or None, and
# whatever else the client gives, which is not looked at.  It is called once for each operation, as cheaply as can be.
Note = Callable[[int, object, object], None]


@runtime_checkable
class Batched(Protocol):
    """An operation that can send many at once for much less than one by one."""

    def submit_many(self, indexes: range, note: Note) -> None:
        """Send operations *indexes*, and call *note* for each when it is answered."""
        ...

    def cause(self, error: object) -> str:
        """Put an error that *note* was given into a few words."""
        ...


@runtime_checkable
class Phased(Protocol):
    """An operation that can say afterwards where its time went."""

    def phases(self) -> Iterable[tuple[int, str, int]]:
        """Give the parts of all operations that were answered: index, name of the part, and how long that took, nanoseconds."""
        ...


class Worker(Struct, frozen=True, kw_only=True):
    """What a generator's process is to do.

    :param module: has ``open_operation(parameters) -> Operation``
    :param parameters: for it, credentials too: they travel through the process's standard input
    """

    module: str
    parameters: dict[str, Any]


class LoadRun(Struct, frozen=True, kw_only=True):
    """One load test that runs, as an engine sees it."""

    name: str  # what everything that the test creates begins with, ``mainstay_load_<pipeline>_<id>``
    progress: Progress
    stop: Stop
    clock: Clock
    most: float | None = None  # operations that may be sent in any second, also to make up for a stall
    processes: int = 1  # of the generator


class Measured(Struct, frozen=True, kw_only=True):
    """One measurement of an engine: the step without its verdict, and its histograms."""

    step: LoadStep
    histograms: dict[str, str]


class ToolSaid(Struct, frozen=True, kw_only=True):
    """What a stock tool has measured.

    :param by: its name and version
    :param how: what it was told, and what its latencies are
    :param resolution: of its latencies, milliseconds
    :param latencies: milliseconds from the time of sending, by percentile: p50, p95, p99, p999, mean, max
    """

    by: str
    how: str
    rate: float
    operations: int
    resolution: float
    latencies: Mapping[str, float]


class CutShort(Interrupted):
    """The load was stopped; what was measured until then."""

    def __init__(self, measured: Measured) -> None:
        super().__init__("the load was stopped", hint="run it again")
        self.measured = measured


def measured_until(error: BaseException) -> Measured | None:
    """Give what had been measured when *error* ended a load, if that was kept: in it, or in what has caused it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, CutShort):
            return seen.measured
        seen = seen.__cause__
    return None


@runtime_checkable
class CrossChecked(Protocol):
    """An engine whose system has a stock tool that can be asked for a second opinion."""

    cross_check_by: str  # the tool, with its version
    cross_check_seconds: float  # that it takes, at most, to start and to measure

    def cross_check_operations(self, rate: float) -> int:
        """Give how many operations the tool makes at *rate*."""
        ...

    def cross_check(self, run: LoadRun, rate: float) -> ToolSaid:
        """Have the stock tool make the same load for a short time, in what the run has created.

        :raises MainstayError: when it could not
        """
        ...


class LoadEngine(Protocol):
    """Puts load on one target: in things of its own, which it creates and removes."""

    def environment(self) -> Mapping[str, str]:
        """Say what is loaded and with what: versions, sizes, settings that decide about speed."""
        ...

    def limit(self, run: LoadRun, *, rate: float) -> GeneratorLimit | None:
        """Measure what the generator itself can do here with the run's processes, after :meth:`prepare`.

        Nothing when it is a stock tool that measures itself.

        :param rate: of the load that comes; the target gets no more
        """
        ...

    def prepare(self, run: LoadRun) -> None:
        """Create what the test needs, all of it named after the run."""
        ...

    def measure(self, run: LoadRun, schedule: Schedule) -> Measured:
        """Put the load on.  May be called again, for the next rate of a search.

        :raises Interrupted: when it was asked to stop; as :class:`CutShort`, or caused by one, when something had been measured
        """
        ...

    def canary(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Ask production something small, and say how long it took: ``load.canary`` in seconds, and what else is cheap to read.

        :param timeout: seconds after which nobody waits for the answer any more
        :raises Unreachable: when it did not answer
        """
        ...

    def leftovers(self, prefix: str) -> Sequence[str]:
        """Name what there is on the target that begins with *prefix*, of this and of dead tests.

        A name may have a word for its kind and a colon before it.
        """
        ...

    def remove(self, names: Sequence[str]) -> None:
        """Remove what :meth:`leftovers` has named.  Removing what is not there is no error."""
        ...
