"""Moves consumer groups to restored partitions: their positions by rank, written and read back."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence

import pyarrow.parquet as pq
from msgspec import Struct

from include.engine import model
from include.engine.contracts import Reader, RestoreJob
from include.engine.errors import Contended
from include.engine.systems.kafka.client import EARLIEST, TP, Admin
from include.engine.systems.kafka.cut import Position
from include.engine.systems.kafka.detail import Saved
from include.engine.systems.kafka.loading import LoadedPartition
from include.engine.systems.kafka.ranges import SegmentFacts
from include.engine.systems.kafka.rank import Offsets, rank


class Moved(Struct, frozen=True, kw_only=True):
    """One group's position in one partition, before and after."""

    group: str
    source: TP
    target: TP
    before: int
    after: int
    metadata: str


def translate(
    saved: Saved,
    partitions: Sequence[LoadedPartition],
    *,
    until: int | None,
    reader: Reader,
    groups: Mapping[str, Sequence[Position]] | None = None,
) -> list[Moved]:
    """Give every group's new positions.  Reads a segment only where its offsets have holes.

    :param groups: instead of those of the backup
    """
    cache: dict[str, Offsets] = {}
    by_content = {_key(s.facts): s for s in saved.detail.segments}

    def offsets(facts: SegmentFacts) -> Offsets:
        segment = by_content[_key(facts)]
        if segment.entry not in cache:
            raw = b"".join(reader.read(saved.entry(segment)))
            table = pq.read_table(io.BytesIO(raw), columns=["offset", "timestamp"])
            found = table["offset"].to_numpy()
            if until is not None:
                found = found[table["timestamp"].to_numpy() <= until]
            cache[segment.entry] = found
        return cache[segment.entry]

    restored = {partition.source: partition for partition in partitions}
    moved = []
    for group, positions in sorted((saved.cut.groups if groups is None else groups).items()):
        for position in positions:
            source = TP(position.topic, position.partition)
            partition = restored.get(source)
            if partition is None:
                continue
            segments = [segment.facts for segment in saved.segments(source)]
            count = rank(position.offset, segments, until=until, offsets=offsets)
            moved.append(
                Moved(
                    group=group,
                    source=source,
                    target=partition.tp,
                    before=position.offset,
                    after=partition.base + count,
                    metadata=position.metadata,
                )
            )
    return moved


def find(
    saved: Saved, partitions: Sequence[LoadedPartition], job: RestoreJob, *, until: int | None
) -> tuple[model.Moved, ...]:
    """Give where the positions that *job* asks about are in the restored partitions; those of other topics are left out."""
    asked = [Position(topic=one.topic, partition=one.partition, offset=one.offset) for one in job.positions]
    found = translate(saved, partitions, until=until, reader=job.reader, groups={"": asked})
    return tuple(
        model.Moved(
            before=model.Position(topic=one.source.topic, partition=one.source.partition, offset=one.before),
            after=model.Position(topic=one.target.topic, partition=one.target.partition, offset=one.after),
        )
        for one in found
    )


def with_unread(admin: Admin, moved: Sequence[Moved], partitions: Sequence[LoadedPartition]) -> list[Moved]:
    """Give the positions of groups that have records to read before those that were appended: moved, they would never read them."""
    bases = {partition.tp: partition.base for partition in partitions}
    begins = admin.offsets(bases, EARLIEST)
    stored = admin.committed({one.group for one in moved})
    found = []
    for one in moved:
        at, _ = stored.get(one.group, {}).get(one.target, (bases[one.target], ""))
        if max(at, begins[one.target]) < bases[one.target]:
            found.append(one)
    return found


def running(admin: Admin, saved: Saved, topics: Collection[str]) -> list[str]:
    """Name the groups with a position in *topics* whose consumers run on the destination: they cannot be moved."""
    active = admin.active_groups()
    return sorted(
        group
        for group, held in saved.cut.groups.items()
        if group in active and any(position.topic in topics for position in held)
    )


def require_stopped(admin: Admin, saved: Saved, topics: Collection[str]) -> None:
    """See that every group can be moved, before anything is made or loaded.

    :raises Contended: when a group has members on the destination
    """
    if busy := running(admin, saved, topics):
        raise Contended(
            f"consumers are running on the destination, in the groups {', '.join(busy[:5])}, which the restore moves",
            hint="stop the consumers of these groups first, and run it again; nothing was changed",
        )


def apply(admin: Admin, moved: Sequence[Moved]) -> None:
    """Write the positions and read them back.

    :raises Contended: when a group has members on the destination
    """
    by_group: dict[str, dict[TP, tuple[int, str]]] = {}
    for one in moved:
        by_group.setdefault(one.group, {})[one.target] = (one.after, one.metadata)
    for group, offsets in sorted(by_group.items()):
        admin.commit(group, offsets)


def differences(admin: Admin, moved: Sequence[Moved]) -> list[str]:
    """Name the positions that are not what they should be, as the destination tells them now."""
    stored: Mapping[str, Mapping[TP, tuple[int, str]]] = admin.committed({one.group for one in moved})
    return [
        f"{one.group} {one.target}: {stored.get(one.group, {}).get(one.target)} instead of {one.after}"
        for one in moved
        if stored.get(one.group, {}).get(one.target) != (one.after, one.metadata)
    ]


def _key(facts: SegmentFacts) -> tuple[str, int, int]:
    return facts.topic, facts.partition, facts.first
