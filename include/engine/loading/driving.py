"""The loop that keeps a schedule: it sends what is due, however slow the answers are, and notes when each was due and sent."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, repeat

from include.engine.loading.contracts import UNANSWERED, UNSENT, Batched, Operation
from include.engine.loading.recording import Recording
from include.engine.loading.schedule import SECOND, Schedule

LATE = 10_000_000  # nanoseconds after which an operation counts as sent late
_LONGEST_WAIT = 0.005  # seconds: a stop, an answer and the next operation are noticed this soon
_BURST = 2_000_000  # nanoseconds of sending without a look at the answers: what they may be noted late by
_AT_ONCE = 256  # operations that are sent together, at most, and count as sent when the first of them was
_COUNTED_AT_ONCE = 2000  # answers: a millisecond, which the next operation may have to wait
_UNCOUNTED = 250_000  # answers that are kept as they came, at most, while there is something to send
_LOST_ONE_BY_ONE = 5000  # operations that were never sent are noted in this many groups, at most: there may be millions

Now = Callable[[], int]


class Driver:
    """Drives one generator: every *of*-th operation of the schedule, beginning with *part*.

    :param bound: operations in flight at the same time, at most; without one, a dead target would fill the memory
    :param grace: seconds after the schedule's end in which late operations are still sent and answers still count
    :param begin: when the first operation is due, on the clock *now*: monotonic, so that no step of the wall clock can move it
    :param most: operations that are sent in any second of the test, at most, also to make up for a stall
    """

    def __init__(
        self,
        operation: Operation,
        schedule: Schedule,
        *,
        begin: int,
        part: int = 0,
        of: int = 1,
        bound: int = 1000,
        grace: float = 10.0,
        interval: int = SECOND,
        most: int | None = None,
        now: Now = time.monotonic_ns,
    ) -> None:
        self._operation = operation
        self._schedule = schedule
        self._begin = begin
        self._indexes = range(part, schedule.operations, of)
        self._bound = bound
        self._end = int((schedule.seconds + grace) * SECOND)
        self._most = len(self._indexes) if most is None else most
        self._now = now
        self._send = self._send_many if isinstance(operation, Batched) else self._send_each
        self._answers: deque[tuple[int, int, int, str, object]] = deque()
        self._flying: dict[int, tuple[int, int]] = {}
        self.recording = Recording(interval)

    def run(self, stopped: Callable[[], bool] = lambda: False) -> Recording:
        """Send everything that is due, wait for the answers, and give what was recorded."""
        position, wait_began = 0, None
        total, bound, flying = len(self._indexes), self._bound, self._flying
        now, begin = self._now, self._begin
        ahead = _Ahead(self._schedule, self._indexes)
        second, opened = -1, 0
        while not stopped():
            at = now() - begin
            if at >= self._end or (position >= total and not flying):
                break
            if at // SECOND != second:
                second, opened = at // SECOND, position
            last = min(total, opened + self._most)
            until = at + _BURST  # then answers are looked at again
            while position < last and at < until and (free := bound - len(flying)) > 0:
                dues = ahead.due(at, most=min(free, last - position, _AT_ONCE))
                if not dues:
                    break
                sent = self._send(self._indexes[position : position + len(dues)], dues, at, until)
                if wait_began is None:
                    self._note_late(dues[:sent], at)
                ahead.taken(sent)
                position += sent
                at = now() - begin
            due = position < total and ahead.next <= at
            full = len(flying) >= bound
            if due and full:
                wait_began = at if wait_began is None else wait_began
            elif wait_began is not None and not due:
                self.recording.note_wait(wait_began, at)
                wait_began = None  # it has caught up
            pause = self._pause(ahead.next, at, due=due, left=position < total, held=full or position >= last)
            self._operation.poll(pause)
            # To count costs about as much as to send: it is done when there is time, as long as the memory allows.
            if pause or len(self._answers) > _UNCOUNTED:
                self._take_answers(_COUNTED_AT_ONCE)
        self._close(position, wait_began)
        return self.recording

    def _pause(self, next_due: int, at: int, *, due: bool, left: bool, held: bool) -> float:
        if due and not held:
            return 0.0
        return min(_LONGEST_WAIT, (next_due - at) / SECOND) if left and not due else _LONGEST_WAIT

    def _send_each(self, indexes: range, dues: Sequence[int], at: int, until: int) -> int:
        """Send one after the other until *until*; say how many."""
        sent = 0
        for index, due in zip(indexes, dues, strict=True):
            if at >= until:
                break
            self._flying[index] = (due, at)
            try:
                self._operation.submit(index, partial(self._answered, index))
            except Exception as error:  # noqa: BLE001 - whatever a client raises is an operation that failed
                self._answered(index, type(error).__name__)
            sent += 1
            at = self._now() - self._begin
        return sent

    def _send_many(self, indexes: range, dues: Sequence[int], at: int, _until: int) -> int:
        """Send them all together; say how many they are."""
        assert isinstance(self._operation, Batched)
        self._flying.update(zip(indexes, zip(dues, repeat(at)), strict=False))
        try:
            self._operation.submit_many(indexes, self._noted)
        except Exception as error:  # noqa: BLE001 - as above
            for index in indexes:
                self._answered(index, type(error).__name__)
        return len(indexes)

    def _answered(self, index: int, error: str | None, kind: str = "") -> None:
        # From any thread: a deque's append and a dictionary's pop are atomic.
        at = self._now() - self._begin
        found = self._flying.pop(index, None)
        if found is not None:
            self._answers.append((*found, at, kind, error))

    def _noted(self, index: int, error: object, _about: object) -> None:
        # As above.  What an error means is asked later: this runs once for each of hundreds of thousands in a second.
        at = self._now() - self._begin
        found = self._flying.pop(index, None)
        if found is not None:
            self._answers.append((*found, at, "", error))

    def _take_answers(self, most: int) -> None:
        answers, operation = self._answers, self._operation
        said = operation.cause if isinstance(operation, Batched) else str
        taken = (answers.popleft() for _ in range(min(most, len(answers))))
        self.recording.add_many(
            (due, sent, at, kind, error if error is None or isinstance(error, str) else said(error))
            for due, sent, at, kind, error in taken
        )

    def _note_late(self, dues: Sequence[int], at: int) -> None:
        late = bisect_left(dues, at - LATE)
        if late:
            width = self.recording.interval
            self.recording.behind.update(Counter(due // width for due in dues[:late]))

    def _close(self, position: int, wait_began: int | None) -> None:
        at = self._now() - self._begin
        self._take_answers(len(self._answers))
        if wait_began is not None:
            self.recording.note_wait(wait_began, at)
        for index in list(self._flying):
            lost = self._flying.pop(index, None)
            if lost is not None:
                self.recording.add_lost(lost[0], at, UNANSWERED)
        left = self._indexes[position:]
        step = max(1, len(left) // _LOST_ONE_BY_ONE)
        for first in range(0, len(left), step):
            some = left[first : first + step]
            due = self._schedule.due(some[len(some) // 2])
            if due <= at:
                self.recording.add_lost(due, at, UNSENT, count=len(some))


class _Ahead:
    """When the next operations are due, a few hundred at a time: to ask for each by itself costs as much as to send it."""

    def __init__(self, schedule: Schedule, indexes: range) -> None:
        self._coming = schedule.dues(indexes)
        self._known: list[int] = []
        self._first = 0
        self.taken(0)

    @property
    def next(self) -> int:
        """When the next one is due; 0 when there is none."""
        return self._known[self._first] if self._first < len(self._known) else 0

    def due(self, at: int, *, most: int) -> list[int]:
        """Give when the next ones were due, of those that are at *at*."""
        end = min(self._first + most, len(self._known))
        return self._known[self._first : bisect_right(self._known, at, self._first, end)]

    def taken(self, count: int) -> None:
        """Go on by *count*."""
        self._first += count
        if self._first >= len(self._known):
            self._known = list(islice(self._coming, _AT_ONCE))
            self._first = 0
