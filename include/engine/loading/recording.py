"""What happened to each operation, by the interval in which it was due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from hdrh.histogram import HdrHistogram

from include.engine.loading.distribution import histogram, spread, spread_of
from include.engine.loading.schedule import SECOND, Schedule
from include.engine.model.loads import LoadInterval, LoadStep, Spread


class Recording:
    """Counts latencies per interval, sparsely.  Times are nanoseconds since the first operation was due.

    Operations that fail count in both distributions, too: to leave out what timed out would make a target look better the
    worse it is.

    :param interval: nanoseconds
    """

    def __init__(self, interval: int = SECOND) -> None:
        self.interval = interval
        self.intended: dict[int, Counter[int]] = {}  # interval -> microseconds from the due time -> operations
        self.sent: dict[int, Counter[int]] = {}
        self.kinds: dict[str, dict[int, Counter[int]]] = {}
        self.phases: dict[str, dict[int, Counter[int]]] = {}
        self.completed: Counter[int] = Counter()  # by the interval of the answer
        self.errors: dict[int, Counter[str]] = {}
        self.waited: Counter[int] = (
            Counter()
        )  # nanoseconds in which the bound of operations in flight held the generator
        self.behind: Counter[int] = Counter()  # operations that were late for any other reason
        self.last = 0  # nanoseconds: when the last answer came

    def add(self, due: int, sent: int, answered: int, *, kind: str = "", error: str | None = None) -> None:
        """Note one operation that was answered, well or not."""
        self.add_many([(due, sent, answered, kind, error)])

    def add_many(self, operations: Iterable[tuple[int, int, int, str, str | None]]) -> None:
        """Note operations: when each was due, sent and answered, its kind, and its error."""
        interval = self.interval
        intended: dict[int, list[int]] = {}
        took: dict[int, list[int]] = {}
        ended: list[int] = []
        for due, sent, answered, kind, error in operations:
            at = due // interval
            if at not in intended:
                intended[at], took[at] = [], []
            self.last = max(self.last, answered)
            intended[at].append((answered - due) // 1000)
            took[at].append((answered - sent) // 1000)
            if kind:
                self.kinds.setdefault(kind, {}).setdefault(at, Counter())[(answered - due) // 1000] += 1
            if error is None:
                ended.append(answered // interval)
            else:
                self.errors.setdefault(at, Counter())[error] += 1
        # Counted in bulk, which is several times as fast as one by one: this runs beside what is measured.
        self.completed.update(ended)
        for at, values in intended.items():
            self.intended.setdefault(at, Counter()).update(values)
            self.sent.setdefault(at, Counter()).update(took[at])

    def add_phases(self, parts: Iterable[tuple[int, str, int]]) -> None:
        """Note where the time of operations went: when each was due, the name of a part of its way, and how long that took."""
        for due, name, took in parts:
            at = due // self.interval
            self.phases.setdefault(name, {}).setdefault(at, Counter())[took // 1000] += 1

    def add_lost(self, due: int, given_up: int, cause: str, *, count: int = 1) -> None:
        """Note operations without an answer: they took at least until we gave up."""
        at = due // self.interval
        self.intended.setdefault(at, Counter())[max(0, given_up - due) // 1000] += count
        self.errors.setdefault(at, Counter())[cause] += count

    def note_wait(self, begin: int, end: int) -> None:
        """Note that from *begin* to *end* nothing more could be sent, because too much was not answered."""
        for at in range(begin // self.interval, end // self.interval + 1):
            self.waited[at] += min(end, (at + 1) * self.interval) - max(begin, at * self.interval)

    def merge(self, other: Recording) -> None:
        """Take over what another generator has recorded in the same intervals."""
        for mine, theirs in ((self.intended, other.intended), (self.sent, other.sent), (self.errors, other.errors)):
            for at, counts in theirs.items():
                mine.setdefault(at, Counter()).update(counts)  # type: ignore[arg-type]
        for own, others in ((self.kinds, other.kinds), (self.phases, other.phases)):
            for kind, intervals in others.items():
                for at, counts in intervals.items():
                    own.setdefault(kind, {}).setdefault(at, Counter()).update(counts)
        self.completed.update(other.completed)
        self.waited.update(other.waited)
        self.behind.update(other.behind)
        self.last = max(self.last, other.last)

    def to_frame(self) -> dict[str, Any]:
        """Write it for another process."""
        return dict(vars(self))

    @classmethod
    def of_frame(cls, frame: dict[str, Any]) -> Recording:
        """Read it back."""
        made = cls(frame["interval"])
        for key in ("intended", "sent", "errors"):
            setattr(made, key, {at: Counter(counts) for at, counts in frame[key].items()})
        for key in ("kinds", "phases"):
            named = {
                kind: {at: Counter(counts) for at, counts in intervals.items()}
                for kind, intervals in frame[key].items()
            }
            setattr(made, key, named)
        made.completed = Counter(frame["completed"])
        made.last = frame["last"]
        made.waited, made.behind = Counter(frame["waited"]), Counter(frame["behind"])
        return made

    def distribution(self, which: dict[int, Counter[int]], begin: float = 0.0) -> HdrHistogram:
        """Give the histogram of all intervals from *begin* seconds on."""
        first = int(begin * SECOND) // self.interval
        total: Counter[int] = Counter()
        for at, counts in which.items():
            if at >= first:
                total.update(counts)
        return histogram(total)


def step_of(
    recording: Recording, schedule: Schedule, *, processes: int = 1, drawn: bool = False, **more: Any
) -> LoadStep:
    """Sum a recording up: the series, and what was achieved after the warm-up, which ends with a whole interval.

    What was achieved are the answers that came after the warm-up and before the schedule's end, against the operations that
    were due in the same time.  Work that was left to the end does not count; work that a stall delayed does once it is
    made up for.

    :param drawn: the times were drawn at random, around the schedule: what was due in an interval is what is recorded in it
    """
    width = recording.interval / SECOND
    warm = -(-int(schedule.warm_up * SECOND) // recording.interval) * width
    last = max(1, -(-int(schedule.seconds * SECOND) // recording.interval))
    series = tuple(_interval(recording, schedule, at, warm, drawn=drawn) for at in range(last))
    counted = [found for found in series if not found.warm_up]
    seconds = max(schedule.seconds - warm, 1e-9)
    # Of a last interval that is not whole, nobody knows which answers came before the schedule's end.
    whole = [found for found in counted if found.seconds > width - 1e-6] or counted
    lasted = max(sum(found.seconds for found in whole), 1e-9)
    due = sum(found.intended for found in counted)
    errors: Counter[str] = Counter()
    for at, causes in recording.errors.items():
        if at * width >= warm:
            errors.update(causes)
    first = int(warm * SECOND) // recording.interval
    waited = sum(value for at, value in recording.waited.items() if at >= first)
    late = sum(value for at, value in recording.behind.items() if at >= first)
    return LoadStep(
        target_rate=round(sum(found.intended for found in whole) / lasted, 3),
        achieved_rate=round(sum(found.completed for found in whole) / lasted, 3),
        seconds=round(seconds, 3),
        warm_up_seconds=round(warm, 3),
        from_intended=spread(recording.distribution(recording.intended, warm)),
        from_sent=spread(recording.distribution(recording.sent, warm)),
        waited=round(min(1.0, waited / SECOND / seconds / max(1, processes)), 4),
        behind=round(late / due, 4) if due else 0.0,
        errors=dict(sorted(errors.items())),
        kinds={kind: spread(recording.distribution(found, warm)) for kind, found in sorted(recording.kinds.items())},
        phases={name: spread(recording.distribution(found, warm)) for name, found in recording.phases.items()},
        series=series,
        **more,
    )


def _interval(recording: Recording, schedule: Schedule, at: int, warm: float, *, drawn: bool) -> LoadInterval:
    width = recording.interval / SECOND
    begin, end = at * width, min((at + 1) * width, schedule.seconds)
    return LoadInterval(
        second=round(begin, 6),
        seconds=round(end - begin, 6),
        intended=sum(recording.intended.get(at, {}).values()) if drawn else schedule.count(begin, end),
        completed=recording.completed[at],
        errors=sum(recording.errors.get(at, {}).values()),
        from_intended=_short(recording.intended.get(at)),
        from_sent=_short(recording.sent.get(at)),
        warm_up=begin < warm,
    )


def _short(counts: Counter[int] | None) -> Spread:
    return spread_of(counts) if counts else Spread()
