"""The loop that keeps a schedule: it sends what is due, however slow the answers are, and notes when each was due and sent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial

from include.engine.loading.contracts import UNANSWERED, UNSENT, Operation
from include.engine.loading.recording import Recording
from include.engine.loading.schedule import SECOND, Schedule

LATE = 10_000_000  # nanoseconds after which an operation counts as sent late
_LONGEST_WAIT = 0.005  # seconds: a stop, an answer and the next operation are noticed this soon
_BURST = 2_000_000  # nanoseconds of sending without a look at the answers: what they may be noted late by
_LOST_ONE_BY_ONE = 5000  # operations that were never sent are noted in this many groups, at most: there may be millions

Now = Callable[[], int]


class Driver:
    """Drives one generator: every *of*-th operation of the schedule, beginning with *part*.

    :param bound: operations in flight at the same time, at most; without one, a dead target would fill the memory
    :param grace: seconds after the schedule's end in which late operations are still sent and answers still count
    :param begin: when the first operation is due, on the clock *now*: monotonic, so that no step of the wall clock can move it
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
        now: Now = time.monotonic_ns,
    ) -> None:
        self._operation = operation
        self._schedule = schedule
        self._begin = begin
        self._indexes = range(part, schedule.operations, of)
        self._bound = bound
        self._end = int((schedule.seconds + grace) * SECOND)
        self._now = now
        self._answers: deque[tuple[int, int, int, str, str | None]] = deque()
        self._flying: dict[int, tuple[int, int]] = {}
        self.recording = Recording(interval)

    def run(self, stopped: Callable[[], bool] = lambda: False) -> Recording:
        """Send everything that is due, wait for the answers, and give what was recorded."""
        position, wait_began = 0, None
        total, bound, width = len(self._indexes), self._bound, self.recording.interval
        dues, now, begin, flying = self._schedule.dues(self._indexes), self._now, self._begin, self._flying
        next_due = next(dues, 0)
        while not stopped():
            at = now() - begin
            if at >= self._end or (position >= total and not flying):
                break
            until = at + _BURST  # then answers are looked at again
            while position < total and next_due <= at < until and len(flying) < bound:
                if wait_began is None and at - next_due > LATE:
                    self.recording.behind[next_due // width] += 1
                self._send(self._indexes[position], next_due, at)
                position += 1
                next_due = next(dues, 0)
                at = now() - begin
            due = position < total and next_due <= at
            if due and len(flying) >= bound:
                wait_began = at if wait_began is None else wait_began
            elif wait_began is not None and not due:
                self._note_wait(wait_began, at)
                wait_began = None  # it has caught up
            self._operation.poll(self._pause(next_due, at, due=due, left=position < total, full=len(flying) >= bound))
            self._take_answers()
        self._close(position, wait_began)
        return self.recording

    def _pause(self, next_due: int, at: int, *, due: bool, left: bool, full: bool) -> float:
        if due and not full:
            return 0.0
        return min(_LONGEST_WAIT, (next_due - at) / SECOND) if left and not due else _LONGEST_WAIT

    def _send(self, index: int, due: int, at: int) -> None:
        self._flying[index] = (due, at)
        try:
            self._operation.submit(index, partial(self._answered, index))
        except Exception as error:  # noqa: BLE001 - whatever a client raises is an operation that failed
            self._answered(index, type(error).__name__)

    def _answered(self, index: int, error: str | None, kind: str = "") -> None:
        # From any thread: a deque's append and a dictionary's pop are atomic.
        at = self._now() - self._begin
        found = self._flying.pop(index, None)
        if found is not None:
            self._answers.append((found[0], found[1], at, kind, error))

    def _take_answers(self) -> None:
        answers = self._answers
        if answers:
            self.recording.add_many([answers.popleft() for _ in range(len(answers))])

    def _note_wait(self, begin: int, end: int) -> None:
        width = self.recording.interval
        for at in range(begin // width, end // width + 1):
            self.recording.waited[at] += min(end, (at + 1) * width) - max(begin, at * width)

    def _close(self, position: int, wait_began: int | None) -> None:
        at = self._now() - self._begin
        self._take_answers()
        if wait_began is not None:
            self._note_wait(wait_began, at)
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
