"""Slopes with intervals: right on lines, unmoved by wild points, and honest about noise."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.engine.health.trends import FEWEST_POINTS, MOST_POINTS, Trend, thinned, time_to, trend

numbers = st.floats(-1e3, 1e3, allow_nan=False).map(lambda value: round(value, 3))


@settings(deadline=None, max_examples=60)
@given(slope=numbers, start=numbers, count=st.integers(FEWEST_POINTS, 80))
def test_a_line_has_its_own_slope_and_no_doubt(slope: float, start: float, count: int) -> None:
    found = trend([(float(x), start + slope * x) for x in range(count)])
    assert found is not None
    for value in (found.slope, found.low, found.high):
        assert value == pytest.approx(slope, abs=1e-6)
    assert found.value == pytest.approx(start + slope * (count - 1), abs=1e-3)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 10**6), numbers), min_size=FEWEST_POINTS, max_size=60))
def test_the_slope_lies_in_its_interval_and_does_not_depend_on_the_order(points: list[tuple[int, float]]) -> None:
    exact = [(float(x), y) for x, y in points]
    found = trend(exact)
    if found is not None:
        assert found.low <= found.slope <= found.high
        again = trend(sorted(exact, reverse=True))
        assert again is not None
        assert again.slope == found.slope


@settings(deadline=None, max_examples=40)
@given(slope=numbers, shift=numbers, factor=st.floats(0.1, 10))
def test_moving_and_stretching_the_values_moves_and_stretches_the_slope(
    slope: float, shift: float, factor: float
) -> None:
    base = [(float(x), slope * x + (x * 7919 % 13)) for x in range(20)]
    found, moved = trend(base), trend([(x, factor * y + shift) for x, y in base])
    assert found is not None
    assert moved is not None
    assert moved.slope == pytest.approx(factor * found.slope, rel=1e-6, abs=1e-5)


def test_a_quarter_of_wild_points_does_not_move_it_much() -> None:
    points = [(float(x), 2.0 * x) for x in range(100)]
    wild = [(x, y if x % 4 else 1e6) for x, y in points]
    found = trend(wild)
    assert found is not None
    assert found.slope == pytest.approx(2.0, rel=0.2)


def test_the_interval_of_noise_holds_zero_about_as_often_as_it_promises() -> None:
    chance = random.Random(7)
    kept = 0
    for _ in range(200):
        found = trend([(float(x), chance.gauss(0, 1)) for x in range(30)], confidence=0.95)
        assert found is not None
        kept += found.low <= 0 <= found.high
    assert kept >= 180


def test_too_few_points_say_nothing() -> None:
    assert trend([]) is None
    assert trend([(float(x), x) for x in range(FEWEST_POINTS - 1)]) is None
    assert trend([(1.0, float(x)) for x in range(50)]) is None


def test_the_time_to_the_limit_is_told_with_its_interval() -> None:
    rising = Trend(slope=2.0, low=1.0, high=4.0, at=0.0, value=60.0, points=50)
    found = time_to(rising, 80.0, above=True)
    assert found is not None
    assert (found.seconds, found.earliest, found.latest) == (10.0, 5.0, 20.0)
    falling = Trend(slope=-2.0, low=-4.0, high=-1.0, at=0.0, value=60.0, points=50)
    down = time_to(falling, 40.0, above=False)
    assert down is not None
    assert (down.seconds, down.earliest, down.latest) == (10.0, 5.0, 20.0)


def test_what_does_not_surely_move_towards_the_limit_has_no_time() -> None:
    unsure = Trend(slope=2.0, low=-1.0, high=4.0, at=0.0, value=60.0, points=50)
    assert time_to(unsure, 80.0, above=True) is None
    away = Trend(slope=-2.0, low=-3.0, high=-1.0, at=0.0, value=60.0, points=50)
    assert time_to(away, 80.0, above=True) is None


def test_what_is_over_the_limit_is_over_it_now() -> None:
    over = Trend(slope=0.0, low=0.0, high=0.0, at=0.0, value=90.0, points=50)
    found = time_to(over, 80.0, above=True)
    assert found is not None
    assert found.seconds == 0.0


def test_many_points_are_joined_to_as_many_as_can_be_paired() -> None:
    points = [(float(x), float(x)) for x in range(2016)]
    assert len(thinned(points, MOST_POINTS)) <= MOST_POINTS
    found = trend(points)
    assert found is not None
    assert found.points == 2016
    assert found.slope == pytest.approx(1.0)
