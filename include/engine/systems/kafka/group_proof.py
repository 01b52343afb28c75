"""Whether every group reads on at the very record: what it would have read next in the backup against what it reads next now.

The backup's side is found by the old offset, the restored side by what the group has committed, so that neither knows how the
position was translated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from include.engine.contracts import Connection, Reader
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import TP, Admin
from include.engine.systems.kafka.detail import Saved, SegmentRef
from include.engine.systems.kafka.groups import Moved
from include.engine.systems.kafka.loading import LoadedPartition
from include.engine.systems.kafka.segments import decode
from include.engine.systems.kafka.translate import Content, Side


def strayed(
    admin: Admin,
    connection: Connection,
    saved: Saved,
    partitions: Sequence[LoadedPartition],
    moved: Sequence[Moved],
    *,
    until: int | None,
    reader: Reader,
) -> list[str]:
    """Name the positions whose next record is not the one that it was."""
    stored = admin.committed({one.group for one in moved})
    ends = {partition.tp: partition.base + partition.records for partition in partitions}
    problems = []
    with Side(librdkafka_settings(connection)) as side:
        for one, wanted in _next_saved(saved, moved, until, reader):
            at, _ = stored.get(one.group, {}).get(one.target, (None, ""))
            if at is None:
                problems.append(f"{one.group} has no position in {one.target}")
                continue
            rows = side.rows(one.target, at, min(at + 1, ends[one.target]))
            found = rows[0].content if rows else None
            if found != wanted or (wanted is None and at != ends[one.target]):
                problems.append(f"{one.group} would not read on in {one.target} at the record that it had before it")
    return problems


def _next_saved(
    saved: Saved, moved: Sequence[Moved], until: int | None, reader: Reader
) -> Iterator[tuple[Moved, Content | None]]:
    """Give the record that each position had before it in the backup; nothing at the end.  Each segment is read once."""
    waiting: dict[TP, list[Moved]] = {}
    for one in moved:
        waiting.setdefault(one.source, []).append(one)
    for source, ones in sorted(waiting.items()):
        left = sorted(ones, key=lambda one: one.before)
        for segment in saved.segments(source):
            if not left:
                break
            if segment.facts.last < left[0].before or (until is not None and segment.facts.oldest > until):
                continue
            table = _kept(segment, saved, until, reader)
            while left:
                index = pc.index(pc.greater_equal(table["offset"], left[0].before), value=True).as_py()
                if index < 0:
                    break
                yield left.pop(0), _content(table, index)
        for one in left:
            yield one, None


def _kept(segment: SegmentRef, saved: Saved, until: int | None, reader: Reader) -> pa.Table:
    entry = saved.entry(segment)
    table = decode(b"".join(reader.read(entry)), what=entry.key)
    return table if until is None else table.filter(pc.less_equal(table["timestamp"], until))


def _content(table: pa.Table, index: int) -> Content:
    (row,) = table.slice(index, 1).to_pylist()
    headers = tuple((header["key"], header["value"]) for header in row["headers"] or ())
    return row["timestamp"], row["key"], row["value"], headers
