"""Where a group continues in a restored partition: at the rank of the record that it would have read next.  Pure.

Offsets cannot be recreated: compaction, transactions and deleted records leave holes.  What a group has read are the records
before its offset, however they are numbered; so its new position is their count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from include.engine.systems.kafka.ranges import SegmentFacts

Offsets = Sequence[int]  # of the restored records of one segment, ascending


def rank(
    position: int,
    segments: Sequence[SegmentFacts],
    *,
    until: int | None,
    offsets: Callable[[SegmentFacts], Offsets],
) -> int:
    """Count the restored records before *position*.

    :param segments: of the partition, in order
    :param until: the point in time of the restore, in milliseconds
    :param offsets: reads a segment; asked only for those that cannot be counted without
    """
    count = 0
    for segment in segments:
        if segment.first >= position:
            break
        if until is not None and segment.oldest > until:
            continue
        whole = until is None or segment.newest <= until
        if whole and segment.last < position:
            count += segment.records
        elif whole and segment.records == segment.last - segment.first + 1:
            count += position - segment.first
        else:
            count += bisect_left(offsets(segment), position)
    return count
