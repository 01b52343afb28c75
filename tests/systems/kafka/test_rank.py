"""A group's new position is the number of records that it had read, whatever holes the offsets have."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from include.engine.systems.kafka.ranges import SegmentFacts
from include.engine.systems.kafka.rank import rank

Record = tuple[int, int]  # offset, timestamp


def _segments(records: list[Record], bounds: list[int]) -> tuple[list[SegmentFacts], dict[int, list[Record]]]:
    edges = sorted({0, len(records), *(bound % (len(records) + 1) for bound in bounds)})
    found, contents = [], {}
    for start, stop in pairwise(edges):
        part = records[start:stop]
        found.append(
            SegmentFacts(
                topic="t",
                partition=0,
                start=part[0][0],
                stop=part[-1][0] + 1,
                first=part[0][0],
                last=part[-1][0],
                records=len(part),
                raw_bytes=0,
                oldest=min(time for _, time in part),
                newest=max(time for _, time in part),
                content="",
            )
        )
        contents[part[0][0]] = part
    return found, contents


offsets = st.lists(st.integers(0, 500), unique=True, min_size=1, max_size=60).map(sorted)


@given(offsets, st.lists(st.integers(0, 1000), max_size=5), st.integers(0, 600), st.data())
def test_the_rank_is_the_count_of_restored_records_before_the_position(
    found: list[int], bounds: list[int], position: int, data: st.DataObject
) -> None:
    times = data.draw(st.lists(st.integers(-1, 20), min_size=len(found), max_size=len(found)))
    until = data.draw(st.none() | st.integers(-1, 21))
    records = list(zip(found, times, strict=True))
    segments, contents = _segments(records, bounds)

    def read(facts: SegmentFacts) -> list[int]:
        return [offset for offset, time in contents[facts.first] if until is None or time <= until]

    restored = [offset for offset, time in records if until is None or time <= until]
    assert rank(position, segments, until=until, offsets=read) == sum(offset < position for offset in restored)


def test_a_segment_without_holes_is_never_read() -> None:
    segments, _ = _segments([(offset, 5) for offset in range(100, 200)], [50])

    def read(facts: SegmentFacts) -> list[int]:
        raise AssertionError("read")

    assert rank(177, segments, until=None, offsets=read) == 77
