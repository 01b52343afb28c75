"""What a load test has measured, as it is kept in the bucket: ``loads/<id>.json``."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from include.engine.model.documents import MANIFEST_VERSION, JsonValue
from include.engine.model.verdicts import Check, Verdict


class Spread(Struct, frozen=True, kw_only=True):
    """A distribution of latencies in short: milliseconds, and how many there were.  All 0 when there were none."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class LoadInterval(Struct, frozen=True, kw_only=True):
    """One interval of a series.  An operation belongs to the interval in which it was intended.

    :param second: when it began, in seconds since the first intended operation
    :param seconds: how long it was
    :param intended: operations that the schedule has in it
    :param completed: operations that were answered well in it, whenever they were intended
    :param errors: operations of it that failed, or were never answered or sent
    :param from_intended: latency from the time at which the schedule wanted each operation sent
    :param from_sent: latency from the time at which it was sent: what a load test that waits for its target would show
    :param warm_up: not counted in the verdict
    """

    second: float
    seconds: float
    intended: int
    completed: int
    errors: int
    from_intended: Spread
    from_sent: Spread
    warm_up: bool = False


class GeneratorLimit(Struct, frozen=True, kw_only=True):
    """What the generator itself could do on this machine, just before the test.

    :param rate: operations per second of one process, while all of them ran
    :param how: what they were sent to
    :param by_cost: it is worked out from what one operation costs, for processes that have a processor each
    """

    rate: float
    processes: int
    how: str
    by_cost: bool = False


class CrossCheck(Struct, frozen=True, kw_only=True):
    """What a stock tool says of the same load, beside what was measured.

    :param by: the tool, with its version
    :param how: what it was told, and what its latencies are
    :param asked_rate: operations per second that it was told to make
    :param rate: operations per second that it made
    :param latencies: milliseconds from the time of sending, by percentile
    :param ours: the same of this test's result
    :param differs: where both are apart by more than noise; empty when they are not
    :param failed: why the tool has said nothing; empty when it has
    """

    by: str
    how: str = ""
    asked_rate: float
    rate: float = 0.0
    operations: int = 0
    latencies: dict[str, float] = {}
    ours: dict[str, float] = {}
    differs: tuple[str, ...] = ()
    failed: str = ""


class LoadStep(Struct, frozen=True, kw_only=True):
    """One uninterrupted measurement: the whole test, or one rate of a search.

    :param target_rate: operations per second that the schedule asks for, after the warm-up
    :param achieved_rate: operations per second that were answered well in the same time
    :param waited: share of the time in which the bound of operations in flight kept the generator from sending: the target's doing
    :param behind: share of operations sent more than 10 ms late for any other reason: the generator's doing
    :param errors: by cause, after the warm-up
    :param kinds: latency from the intended time, by kind of operation (read, write)
    :param phases: where the time went, by part of the way that every operation takes; their means add up to the mean from sending
    :param figures: what else was measured, by name with its unit in it (``first_task_seconds``)
    :param processes: that made the load
    """

    target_rate: float
    achieved_rate: float
    seconds: float
    warm_up_seconds: float
    from_intended: Spread
    from_sent: Spread
    waited: float = 0.0
    behind: float = 0.0
    errors: dict[str, int] = {}
    kinds: dict[str, Spread] = {}
    phases: dict[str, Spread] = {}
    figures: dict[str, float] = {}
    series: tuple[LoadInterval, ...] = ()
    checks: tuple[Check, ...] = ()
    verdict: Verdict = Verdict.UNVERIFIED
    processes: int = 1

    @property
    def error_count(self) -> int:
        """All errors after the warm-up."""
        return sum(self.errors.values())


class LoadResult(Struct, frozen=True, kw_only=True):
    """One load test: what was asked for, what was measured, and what may be said about it.

    :param target: ``<system>/<name>``
    :param histograms: HdrHistogram V2, compressed, in base64: ``from_intended`` and ``from_sent``, microseconds, after the warm-up,
        of the step that the verdict is about
    :param steps: one, or those of a search in the order in which they ran
    :param judged: which of them the verdict is about; None when a search found no rate
    :param stopped: why it was ended early; empty when it was not
    :param cross_check: a stock tool's second opinion, when one was asked for
    """

    version: int = MANIFEST_VERSION
    id: str
    profile: str
    target: str
    reason: str = ""
    started: datetime
    finished: datetime
    environment: dict[str, str]
    declared: JsonValue  # the profile as it was applied
    limit: GeneratorLimit | None
    steps: tuple[LoadStep, ...]
    judged: int | None
    histograms: dict[str, str]
    checks: tuple[Check, ...]
    verdict: Verdict
    stopped: str = ""
    notes: tuple[str, ...] = ()
    cross_check: CrossCheck | None = None

    @property
    def step(self) -> LoadStep | None:
        """The step that the verdict is about."""
        return None if self.judged is None else self.steps[self.judged]
