"""What an earlier attempt has left: which segments are there, and how many records of the next one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from include.engine.systems.kafka.resuming import divide
from tests.systems.kafka.test_decisions import segment


@given(st.integers(0, 5), st.integers(0, 60), st.none() | st.integers(0, 60))
def test_what_is_there_and_what_is_left_are_all_segments_and_records(count: int, there: int, until: int | None) -> None:
    segments = [segment("a", oldest=10 * i, newest=10 * i + 9) for i in range(count)]  # of ten records each
    found = divide(segments, there, until)
    assert [*found.whole, *found.left] == segments
    assert 10 * len(found.whole) + found.rest == there
    if until is None:
        assert not found.left or found.rest < 10
    else:
        assert all(one.facts.newest <= until for one in found.whole)
