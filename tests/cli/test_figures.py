"""Numbers for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.cli import figures, readings
from include.engine.model import Reading, Verdict


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1 << 10, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (357 << 20, "357 MiB"),
        (5 << 40, "5.00 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert figures.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (60, "1 m"),
        (200, "3 m 20 s"),
        (3600, "1 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert figures.duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e9))
def test_every_duration_can_be_written(seconds: float) -> None:
    assert figures.duration(seconds)


@given(st.integers(min_value=0, max_value=1 << 62))
def test_every_size_is_short(count: int) -> None:
    assert len(figures.size(count)) <= 10


def test_a_window_within_a_day_names_the_day_once() -> None:
    start = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    assert figures.window(start, start + timedelta(hours=1)) == "2026-11-23 02:00:00Z – 03:00:00Z"  # noqa: RUF001
    assert figures.window(start, start + timedelta(days=1)).count("2026") == 2


def test_an_age_before_its_time_is_nothing() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    assert figures.age(now + timedelta(minutes=5), now) == "0.0 s"


def test_the_ratio_of_nothing_is_not_known() -> None:
    assert figures.ratio(10, 0) == "?"


@pytest.mark.parametrize("unit", ["1", "s", "bytes", "%"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_written_and_breaks_no_table(value: float, unit: str) -> None:
    assert figures.number(value, unit) == "no number"
    reading = Reading(metric="a.b", value=value, unit=unit, at=datetime(2026, 11, 23, tzinfo=UTC))
    looked = readings.Looked(probe="a", source="a", readings=(reading,))
    assert readings.rows([looked]) == [("a", "a.b", "no number", "")]
    assert readings.verdict([looked]) is Verdict.UNVERIFIED
