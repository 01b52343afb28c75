"""What a manifest says about a backup of Kafka, besides what all manifests say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property

import msgspec
from msgspec import Struct

from include.engine.errors import Corrupt
from include.engine.model import Entry, Manifest
from include.engine.systems.kafka import cut as cuts
from include.engine.systems.kafka.client import TP, ConfigEntry
from include.engine.systems.kafka.cut import KafkaCut
from include.engine.systems.kafka.declared import Declared
from include.engine.systems.kafka.ranges import SegmentFacts

TOPICS_ENTRY = "topics.json"  # the same, as an object of its own: a backup of empty topics holds something too


class TopicDetail(Struct, frozen=True, kw_only=True):
    """A topic as it was declared."""

    id: str
    partitions: int
    factor: int
    configs: dict[str, ConfigEntry]


class Gap(Struct, frozen=True, kw_only=True):
    """Offsets ``[start, stop)`` that retention deleted before any backup had read them."""

    topic: str
    partition: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition} [{self.start}, {self.stop})"


class Held(Struct, frozen=True, kw_only=True):
    """A partition that goes no further than an open transaction: what comes after it, committed or not, is in no backup."""

    topic: str
    partition: int
    offset: int  # where the transaction begins
    waiting: int  # offsets behind it
    since: datetime  # a cut that it was open at already

    def __str__(self) -> str:
        return (
            f"{self.topic}-{self.partition}: {self.waiting} offsets behind a transaction that is open at {self.offset} "
            f"since before {self.since:%Y-%m-%d %H:%M:%S}"
        )


class SegmentRef(Struct, frozen=True, kw_only=True):
    """A segment and the name of the manifest's entry that holds it."""

    entry: str
    facts: SegmentFacts


class KafkaDetail(Struct, frozen=True, kw_only=True):
    """The system's part of a manifest."""

    topics: dict[str, TopicDetail]
    segments: tuple[SegmentRef, ...]
    gaps: tuple[Gap, ...] = ()
    held: tuple[Held, ...] = ()
    declared: Declared = Declared()
    built_on: str | None = None  # the backup whose segments this one names again
    new_records: int = 0


class Saved(Struct, frozen=True, kw_only=True, dict=True):
    """A backup of Kafka, read from its manifest."""

    manifest: Manifest
    detail: KafkaDetail
    cut: KafkaCut
    entries: Mapping[str, Entry]

    def segments(self, tp: TP) -> list[SegmentRef]:
        """Give the segments of one partition, in the order of their offsets."""
        return self._by_partition.get(tp, [])

    @cached_property
    def _by_partition(self) -> dict[TP, list[SegmentRef]]:
        found: dict[TP, list[SegmentRef]] = {}
        for segment in sorted(self.detail.segments, key=lambda s: s.facts.first):
            found.setdefault(TP(segment.facts.topic, segment.facts.partition), []).append(segment)
        return found

    def entry(self, segment: SegmentRef) -> Entry:
        """Give where a segment is stored."""
        return self.entries[segment.entry]

    def records(self, tp: TP) -> int:
        """Count the records of one partition."""
        return sum(s.facts.records for s in self.segments(tp))


def read(manifest: Manifest) -> Saved:
    """Read the system's part of a manifest.

    :raises Corrupt: when it is not a Kafka manifest, or a segment has no entry
    """
    try:
        detail = msgspec.convert(manifest.detail, KafkaDetail)
    except msgspec.ValidationError as error:
        raise Corrupt(
            f"{manifest.target} {manifest.id} is not a backup of Kafka: {error}", hint="use another backup"
        ) from error
    entries = {entry.name: entry for entry in manifest.entries}
    missing = [s.entry for s in detail.segments if s.entry not in entries]
    if missing:
        raise Corrupt(
            f"{manifest.target} {manifest.id} names segments that it has no entry for: {', '.join(missing[:3])}",
            hint="use another backup, and take a new one now",
        )
    return Saved(manifest=manifest, detail=detail, cut=cuts.read(manifest.cut), entries=entries)


def newest(history: Sequence[Manifest]) -> Saved | None:
    """Give the newest backup that can be built on, or nothing."""
    return read(history[-1]) if history else None
