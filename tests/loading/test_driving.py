"""The generator keeps its schedule against targets that do not; the clock is a toy, so the numbers are exact."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from functools import partial

import pytest

from include.engine.loading.contracts import UNANSWERED, UNSENT, Done, Note
from include.engine.loading.driving import Driver
from include.engine.loading.gates import Gates, judged
from include.engine.loading.recording import Recording, step_of
from include.engine.loading.schedule import SECOND, Schedule
from include.engine.model import LoadStep, Verdict

MS = 1_000_000


class Toy:
    """A target on a clock of its own: it answers after *service* ns, one at a time when *serial*, and is dead in *stalls*.

    :param sending: ns that the generator itself needs for each operation
    """

    def __init__(
        self, service: int = MS, *, stalls: tuple[tuple[int, int], ...] = (), sending: int = 0, dies: int = -1
    ) -> None:
        self.at = 0
        self._service, self._stalls, self._sending, self._dies = service, stalls, sending, dies
        self._answers: list[tuple[int, int, Done]] = []

    def now(self) -> int:
        return self.at

    def submit(self, index: int, done: Done) -> None:
        self.at += self._sending
        ready = self.at + self._service
        for begin, end in self._stalls:
            if begin <= self.at < end:
                ready = end + self._service
        if 0 <= self._dies <= ready:
            return
        heapq.heappush(self._answers, (ready, index, done))

    def poll(self, seconds: float) -> None:
        until = self.at + max(1, int(seconds * SECOND))
        while self._answers and self._answers[0][0] <= until:
            ready, _, done = heapq.heappop(self._answers)
            self.at = until = max(self.at, ready)  # it returns when there are answers
            done(None)
        self.at = max(self.at, until)

    def close(self) -> None: ...


def measured(toy: Toy, schedule: Schedule, *, bound: int = 10_000, grace: float = 5.0) -> LoadStep:
    driver = Driver(toy, schedule, begin=0, bound=bound, grace=grace, now=toy.now)
    return step_of(driver.run(), schedule)


def test_a_target_that_keeps_up_is_measured_as_it_is() -> None:
    step = measured(Toy(service=3 * MS), Schedule.steady(200, 10))
    assert step.from_intended.count == 2000
    assert 3.0 <= step.from_intended.p50 <= step.from_intended.p99 <= 3.1
    assert step.from_sent.p99 == pytest.approx(step.from_intended.p99, rel=0.02)
    assert step.achieved_rate == pytest.approx(200, rel=0.01)
    assert judged(step, Gates(latencies={"p99": 3.2})).verdict is Verdict.PASS


@pytest.mark.parametrize("stall", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("bound", [1, 10, 10_000])
def test_a_stall_is_in_the_percentiles_as_it_must_be_however_few_may_be_in_flight(stall: float, bound: int) -> None:
    """Of T seconds at a steady rate, a stall of S hits S/T of the operations, whose waits fall evenly from S to 0: a share of
    q is longer than S - q T."""
    seconds = 20.0
    toy = Toy(service=100_000, stalls=((5 * SECOND, int((5 + stall) * SECOND)),))
    step = measured(toy, Schedule.steady(250, seconds), bound=bound)
    assert step.from_intended.p99 / 1000 == pytest.approx(stall - 0.01 * seconds, rel=0.05)
    assert step.from_intended.max / 1000 == pytest.approx(stall, rel=0.01)


def test_a_test_that_waits_for_its_target_hides_the_stall_and_the_report_shows_both() -> None:
    toy = Toy(service=100_000, stalls=((5 * SECOND, 7 * SECOND),))
    step = measured(toy, Schedule.steady(250, 20), bound=1)
    assert step.from_sent.p99 < 1.0  # one operation of 5000 has seen the stall
    assert step.from_intended.p99 > 1700
    assert step.waited > 0.05  # and it says that it was held


def test_a_stall_that_was_made_up_for_leaves_the_rate_and_one_at_the_end_does_not() -> None:
    early = measured(Toy(stalls=((2 * SECOND, 4 * SECOND),)), Schedule.steady(100, 10))
    late = measured(Toy(stalls=((9 * SECOND, 12 * SECOND),)), Schedule.steady(100, 10))
    assert early.achieved_rate == pytest.approx(100, rel=0.02)
    assert late.achieved_rate == pytest.approx(90, rel=0.02)
    assert judged(late, Gates()).verdict is Verdict.UNVERIFIED


def test_answers_after_the_end_do_not_make_up_for_a_stall_before_it_in_an_interval_that_is_not_whole() -> None:
    step = measured(Toy(stalls=((8 * SECOND, int(10.6 * SECOND)),)), Schedule.steady(100, 10.5))
    assert step.achieved_rate == pytest.approx(80, abs=1)
    assert step.target_rate == 100
    assert step.seconds == 10.5
    assert step.from_intended.count == 1050


def test_a_generator_that_cannot_is_told_apart_from_a_target_that_cannot() -> None:
    slow = judged(measured(Toy(sending=20 * MS), Schedule.steady(100, 5), grace=1), Gates(errors=0.9))
    assert slow.verdict is Verdict.UNVERIFIED
    assert {check.name for check in slow.checks if check.verdict is Verdict.UNVERIFIED} == {
        "rate reached",
        "schedule kept",
    }
    assert "the generator could not send more" in slow.checks[0].detail
    held = judged(measured(Toy(service=100 * MS), Schedule.steady(100, 5), bound=5, grace=1), Gates(errors=0.9))
    assert held.behind == 0
    assert held.verdict is Verdict.UNVERIFIED
    assert "the target did not answer in time" in held.checks[0].detail


def test_what_was_never_answered_counts_with_the_time_that_it_waited() -> None:
    step = measured(Toy(dies=5 * SECOND), Schedule.steady(100, 10), grace=2)
    assert step.errors[UNANSWERED] == pytest.approx(500, abs=2)
    assert step.from_intended.count == 1000  # no survivor's bias: all that was due is in it
    assert step.from_intended.max == pytest.approx(7000, rel=0.02)
    assert judged(step, Gates()).verdict is Verdict.FAIL


def test_what_was_never_sent_counts_as_well() -> None:
    step = measured(Toy(dies=5 * SECOND), Schedule.steady(100, 10), bound=10, grace=2)
    assert step.errors[UNANSWERED] == 10
    assert step.errors[UNSENT] == pytest.approx(490, abs=2)
    assert step.from_intended.count == 1000


def test_the_warm_up_is_shown_and_not_counted() -> None:
    toy = Toy(stalls=((0, SECOND),))
    step = measured(toy, Schedule.steady(100, 5, warm_up=2))
    assert step.from_intended.count == 500
    assert step.from_intended.max < 5
    assert [one.warm_up for one in step.series] == [True, True, False, False, False, False, False]
    assert step.series[0].from_intended.max > 900


def test_a_client_that_raises_has_failed_operations_and_goes_on() -> None:
    class Refusing(Toy):
        def submit(self, index: int, done: Done) -> None:
            if index % 4 == 0:
                raise ConnectionRefusedError
            super().submit(index, done)

    step = measured(Refusing(), Schedule.steady(100, 4))
    assert step.errors == {"ConnectionRefusedError": 100}
    assert step.from_intended.count == 400
    assert judged(step, Gates(errors=0.2)).checks[1].verdict is Verdict.FAIL
    assert judged(step, Gates(errors=0.25)).checks[1].verdict is Verdict.PASS


def test_answers_may_come_from_any_thread() -> None:
    class Threaded:
        def submit(self, index: int, done: Done) -> None:
            threading.Thread(target=done, args=(None,), kwargs={"kind": "read" if index % 2 else "write"}).start()

        def poll(self, seconds: float) -> None:
            threading.Event().wait(seconds)

        def close(self) -> None: ...

    schedule = Schedule.steady(100, 1)
    step = step_of(Driver(Threaded(), schedule, begin=time.monotonic_ns()).run(), schedule)
    assert step.errors == {}
    assert {kind: one.count for kind, one in step.kinds.items()} == {"read": 50, "write": 50}


def test_a_wall_clock_that_is_set_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    began, real = time.monotonic(), time.time_ns

    def set_back() -> int:
        return real() - (3600 * SECOND if time.monotonic() - began > 0.4 else 0)

    monkeypatch.setattr(time, "time_ns", set_back)
    monkeypatch.setattr(time, "time", lambda: set_back() / SECOND)

    class Prompt:
        def submit(self, index: int, done: Done) -> None:
            done(None)

        def poll(self, seconds: float) -> None:
            threading.Event().wait(seconds)

        def close(self) -> None: ...

    schedule = Schedule.steady(100, 1)
    step = step_of(Driver(Prompt(), schedule, begin=time.monotonic_ns()).run(), schedule)
    assert real() - time.time_ns() > 3599 * SECOND  # it was set meanwhile
    assert (step.from_intended.count, step.errors) == (100, {})
    assert step.from_intended.max < 600_000  # milliseconds: an hour would be in it


@pytest.mark.parametrize("bound", [1, 10_000])
def test_what_a_stall_delayed_is_made_up_for_within_the_rate_that_is_allowed(bound: int) -> None:
    sent: list[int] = []

    class Counting(Toy):
        def submit(self, index: int, done: Done) -> None:
            sent.append(self.at)
            super().submit(index, done)

    toy = Counting(service=MS, stalls=((3 * SECOND, 6 * SECOND),))
    schedule = Schedule.steady(100, 20)
    step = step_of(Driver(toy, schedule, begin=0, bound=bound, most=150, now=toy.now).run(), schedule)
    in_second = Counter(at // SECOND for at in sent)
    assert max(in_second.values()) == (150 if bound == 1 else 100)  # without the limit, 400 in the seventh
    assert step.errors == {}
    assert step.from_intended.count == 2000
    assert step.achieved_rate == pytest.approx(100, rel=0.01)  # and it has caught up


def test_operations_that_can_be_sent_together_are_and_what_the_client_says_of_one_is_its_cause() -> None:
    class Together(Toy):
        def __init__(self) -> None:
            super().__init__(service=MS)
            self.sizes: list[int] = []

        def submit_many(self, indexes: range, note: Note) -> None:
            self.sizes.append(len(indexes))
            if 500 in indexes:
                raise BufferError
            for index in indexes:
                self.submit(index, partial(self._told, note, index))

        def _told(self, note: Note, index: int, _error: str | None, kind: str = "") -> None:
            note(index, OSError(index) if index % 100 == 7 else None, object())

        def cause(self, error: object) -> str:
            return type(error).__name__

    toy = Together()
    schedule = Schedule.steady(1000, 2)
    step = step_of(Driver(toy, schedule, begin=3 * MS, bound=50, now=toy.now).run(), schedule)
    assert step.errors["OSError"] == 20
    assert 1 <= step.errors["BufferError"] <= 50  # those that were sent with operation 500
    assert max(toy.sizes) <= 50
    assert step.from_intended.count == 2000


def test_recordings_of_several_processes_add_up_across_the_wire() -> None:
    schedule = Schedule.steady(100, 4)
    whole = Recording()
    for part in range(3):
        toy = Toy(service=2 * MS)
        one = Driver(toy, schedule, begin=0, part=part, of=3, now=toy.now).run()
        whole.merge(Recording.of_frame(one.to_frame()))
    step = step_of(whole, schedule, processes=3)
    assert step.from_intended.count == 400
    assert sum(one.completed for one in step.series) == pytest.approx(400, abs=1)
