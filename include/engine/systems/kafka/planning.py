"""Which offsets a backup has to read, which segments of earlier backups it can name again, and what is lost.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

from msgspec import Struct

from include.engine.model import Entry
from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.cut import KafkaCut, TopicCut
from include.engine.systems.kafka.detail import Gap, SegmentRef, TopicDetail
from include.engine.systems.kafka.ranges import Range

_PIECE = 20_000  # offsets that are not worth a cut
_READING = 3600.0  # seconds that reading may take, at most, before tombstones go that were there when it was planned


class Previous(Struct, frozen=True, kw_only=True):
    """What the newest backup has saved."""

    backup: str
    at: datetime
    topics: Mapping[str, TopicDetail]
    cut: KafkaCut
    segments: Sequence[SegmentRef]
    gaps: Sequence[Gap] = ()
    entries: Mapping[str, Entry] = {}
    damaged: bool = False  # it was read back, and something in it is not what was saved


class Policy(Struct, frozen=True, kw_only=True):
    """What a topic's configuration means for a backup."""

    compacted: bool = False
    tombstones_live: float = 86_400.0  # seconds (delete.retention.ms)

    @classmethod
    def of(cls, topic: TopicDetail) -> Policy:
        """Read it from a topic as it was described."""
        cleanup = topic.configs.get("cleanup.policy")
        live = topic.configs.get("delete.retention.ms")
        return cls(
            compacted=cleanup is not None and "compact" in (cleanup.value or ""),
            tombstones_live=float((live.value if live else None) or 86_400_000) / 1000,
        )

    def may_lack_tombstones(self, seconds_since: float) -> bool:
        """Say whether one that was written after a cut that long ago may have been read by nobody, and be gone."""
        return self.compacted and seconds_since >= self.tombstones_live


class ReadPlan(Struct, frozen=True, kw_only=True):
    """What one backup does."""

    ranges: tuple[Range, ...]
    kept: tuple[SegmentRef, ...]
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]


def plan_reads(
    cut: KafkaCut,
    previous: Previous | None,
    *,
    policies: Mapping[str, Policy],
    seconds_since: float,
    keep_expired: bool,
    cut_back: Collection[TP] = (),
) -> ReadPlan:
    """Decide what to read.

    :param cut_back: partitions that do not go on from where the previous cut ends (see ``cut_back``)
    :param seconds_since: from the previous cut until now
    """
    ranges: list[Range] = []
    kept: list[SegmentRef] = []
    gaps: list[Gap] = []
    notes: list[str] = []
    saved = _by_partition(previous.segments if previous else ())
    torn = previous.gaps if previous else ()
    damaged = previous is not None and previous.damaged
    if previous is not None and previous.damaged:
        notes.append(
            f"{previous.backup} was found damaged when it was read back: all that the brokers have is read anew"
        )
    for name, topic in sorted(cut.topics.items()):
        before = previous.cut.topics.get(name) if previous else None
        why = _starts_over(name, topic, before, policies.get(name, Policy()), seconds_since)
        if why:
            notes.append(why)
            before = None
        for partition in range(topic.partitions):
            low, high = topic.low[partition], topic.high[partition]
            since = before.high[partition] if before and partition < before.partitions else None
            if since is not None and (since > high or TP(name, partition) in cut_back):
                notes.append(_truncated(TP(name, partition), high, since))
                since = None
            if since is None:
                ranges += _range(name, partition, low, high)
                continue
            mine = [s for s in saved.get(TP(name, partition), []) if keep_expired or s.facts.last >= low]
            start = max(low, since)
            if damaged:  # nobody knows how much of it: only what the brokers have no more is kept, where it is wanted
                mine = [s for s in mine if keep_expired and s.facts.first < low]
                start = max([low, *(s.facts.last + 1 for s in mine)])
            kept += mine
            gaps += [g for g in torn if (g.topic, g.partition) == (name, partition) and (keep_expired or g.stop > low)]
            if low > since:
                gaps.append(Gap(topic=name, partition=partition, start=since, stop=low))
            ranges += _range(name, partition, start, high)
    return ReadPlan(ranges=tuple(ranges), kept=tuple(kept), gaps=tuple(gaps), notes=tuple(notes))


def _truncated(tp: TP, high: int, since: int) -> str:
    where = f"ends at {high}, before {since}" if high < since else f"does not go on from {since}"
    return f"{tp} {where} where the last backup stopped: its log was truncated (an unclean election?) and is read anew"


def outlived(plan: ReadPlan, policies: Mapping[str, Policy], seconds_since: float) -> list[str]:
    """Name the topics that were built on, and may have lost tombstones before these were read.

    :param seconds_since: from the previous cut until all was read
    """
    built_on = {segment.facts.topic for segment in plan.kept}
    return sorted(name for name in built_on if policies[name].may_lack_tombstones(seconds_since))


def shares(ranges: Sequence[Range], readers: int) -> list[list[Range]]:
    """Deal *ranges* out to readers, the longest first, each to whoever has least; empty hands are left out."""
    hands: list[list[Range]] = [[] for _ in range(max(1, readers))]
    loads = [0] * len(hands)
    for wanted in sorted(ranges, key=lambda r: r.start - r.stop):
        least = loads.index(min(loads))
        hands[least].append(wanted)
        loads[least] += wanted.stop - wanted.start
    return [hand for hand in hands if hand]


def runs(ranges: Sequence[Range], readers: int) -> list[list[Range]]:
    """Lay *ranges* in a line and cut it into as many parts of one length as there are readers; empty hands are left out.

    One partition may be most of a cluster.  Each reader gets neighbours: what it has fetched ahead is what it wants next.
    """
    share = max(1, -(-sum(r.stop - r.start for r in ranges) // max(1, readers)))
    hands: list[list[Range]] = [[]]
    room = share
    for wanted in sorted(ranges, key=lambda r: (r.topic, r.partition, r.start)):
        start = wanted.start
        while len(hands) < readers and wanted.stop - start >= room:
            cut = wanted.stop if wanted.stop - start - room < _PIECE else start + room
            if start < cut:
                hands[-1].append(Range(topic=wanted.topic, partition=wanted.partition, start=start, stop=cut))
            hands.append([])
            start, room = cut, share
        if start < wanted.stop:
            hands[-1].append(Range(topic=wanted.topic, partition=wanted.partition, start=start, stop=wanted.stop))
            room -= wanted.stop - start
    return [hand for hand in hands if hand]


def overlapping(segments: Sequence[SegmentRef]) -> list[str]:
    """Name the segments that hold offsets of an earlier one: restored, those records would be doubled."""
    problems = []
    for tp, found in _by_partition(segments).items():
        ordered = sorted(found, key=lambda s: s.facts.first)
        problems += [
            f"{tp} [{later.facts.first}, {later.facts.last}]"
            for earlier, later in pairwise(ordered)
            if later.facts.first <= earlier.facts.last
        ]
    return problems


def _starts_over(
    name: str, topic: TopicCut, before: TopicCut | None, policy: Policy, seconds_since: float
) -> str | None:
    """Say why nothing that was saved of a topic can be built on; None when all of it can."""
    if before is None:
        return None
    if before.id != topic.id:
        return f"{name} was deleted and created again since the last backup: it is read anew"
    if topic.partitions < before.partitions:
        return f"{name} has fewer partitions than in the last backup: it is read anew"
    # A little earlier than they go: they must still be there when they are read.
    if policy.may_lack_tombstones(seconds_since + min(_READING, policy.tombstones_live / 10)):
        # A key deleted after the last cut may have lost its tombstone by now: it would rise from our old segments.
        return f"{name} is compacted and tombstones may have gone since the last backup: it is read anew"
    return None


def _range(topic: str, partition: int, low: int, high: int) -> list[Range]:
    return [Range(topic=topic, partition=partition, start=low, stop=high)] if low < high else []


def _by_partition(segments: Sequence[SegmentRef]) -> dict[TP, list[SegmentRef]]:
    found: dict[TP, list[SegmentRef]] = {}
    for segment in segments:
        found.setdefault(TP(segment.facts.topic, segment.facts.partition), []).append(segment)
    return found
