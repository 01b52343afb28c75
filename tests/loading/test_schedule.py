"""Operations are due at fixed times, whatever happens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.loading.schedule import SECOND, Schedule, Stage

rates = st.floats(0.5, 5000)
lengths = st.floats(0.1, 20)
stages = st.builds(Stage, rate=rates, seconds=lengths, to=st.one_of(st.none(), rates))


def test_a_steady_rate_is_as_it_says() -> None:
    schedule = Schedule.steady(4, 2, warm_up=1)
    assert schedule.operations == 12
    assert [schedule.due(index) for index in range(5)] == [0, SECOND // 4, SECOND // 2, 3 * SECOND // 4, SECOND]
    assert schedule.count(1, 3) == 8


def test_a_ramp_has_its_operations_where_its_rate_says() -> None:
    schedule = Schedule(stages=(Stage(rate=10, to=30, seconds=10),))
    assert schedule.operations == 200
    assert schedule.count(0, 5) == 75  # the mean of 10 and 20, for 5 s
    assert schedule.count(5, 10) == 125


@given(st.lists(stages, min_size=1, max_size=4))
def test_time_never_goes_back_and_nothing_is_due_after_the_end(found: list[Stage]) -> None:
    schedule = Schedule(stages=tuple(found))
    some = range(0, schedule.operations, max(1, schedule.operations // 200))
    due = [schedule.due(index) for index in some]
    assert due == sorted(due)
    assert due == list(schedule.dues(some))
    assert all(0 <= at <= schedule.seconds * SECOND for at in due)


@given(st.lists(stages, min_size=1, max_size=3), st.integers(1, 7))
def test_every_operation_is_in_one_interval(found: list[Stage], parts: int) -> None:
    schedule = Schedule(stages=tuple(found))
    edges = [schedule.seconds * 1.001 * part / parts for part in range(parts + 1)]
    counts = [schedule.count(begin, end) for begin, end in pairwise(edges)]
    assert sum(counts) == schedule.operations


@given(st.lists(stages, min_size=1, max_size=4), st.floats(0.05, 1))
def test_the_first_part_of_a_schedule_is_due_as_the_whole_is(found: list[Stage], share: float) -> None:
    whole = Schedule(stages=tuple(found), warm_up=0.1)
    part = whole.until(share * whole.seconds)
    assert part.seconds == pytest.approx(share * whole.seconds)
    assert part.operations == pytest.approx(whole.count(0, part.seconds), abs=1)
    for index in range(0, part.operations, max(1, part.operations // 50)):
        assert part.due(index) == pytest.approx(whole.due(index), abs=1_000_000)


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_processes_share_a_schedule_without_gap_or_overlap(processes: int) -> None:
    schedule = Schedule.steady(100, 1)
    shared = [index for part in range(processes) for index in range(part, schedule.operations, processes)]
    assert sorted(shared) == list(range(schedule.operations))
