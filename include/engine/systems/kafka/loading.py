"""Loads a backup into a running cluster: topics, records, configurations, groups; goes on where an earlier attempt died.

A marker group on the destination says where each partition ended before the first record and which restore began it.  Only we
write there, idempotently and without transactions, so ``end - base`` is what earlier attempts have written.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import msgspec

from include.engine.contracts import Connection, Progress, Reader, Stop
from include.engine.errors import Contended, Corrupt, Incomplete, Refused
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, Admin, TopicPlan
from include.engine.systems.kafka.decisions import Decisions, TopicDecision, back_to, loading
from include.engine.systems.kafka.declared import change_configs, create_topics, own_configs, topic_configs
from include.engine.systems.kafka.detail import Saved, SegmentRef
from include.engine.systems.kafka.isolation import Child
from include.engine.systems.kafka.loader import Loaded

WRITERS = 2
MARKER = "mainstay-restore"


@dataclass(frozen=True)
class Piece:
    """What one segment became on the destination."""

    records: int
    content: str


@dataclass
class LoadedPartition:
    """What one partition became on the destination."""

    source: TP
    name: str
    base: int  # its end before the first record
    pieces: list[Piece] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many records it got."""
        return sum(piece.records for piece in self.pieces)

    @property
    def tp(self) -> TP:
        """Where they are."""
        return TP(self.name, self.source.partition)


class Loading:
    """One restore into one cluster."""

    def __init__(
        self,
        admin: Admin,
        connection: Connection,
        saved: Saved,
        decisions: Decisions,
        *,
        reader: Reader,
        progress: Progress,
        stop: Stop,
    ) -> None:
        self._admin = admin
        self._connection = connection
        self._saved = saved
        self._decisions = decisions
        self._reader = reader
        self._progress = progress
        self._stop = stop
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self.marker = f"{MARKER}-{saved.manifest.target.name}"

    def prepare(self) -> list[LoadedPartition]:
        """Create the topics, or make those that are there ready; remember where each partition began."""
        begun = self._admin.committed([self.marker]).get(self.marker, {})
        missing = [topic for topic in self._decisions.topics if not topic.exists]
        create_topics(
            self._admin,
            [
                TopicPlan(name=t.name, partitions=t.partitions, factor=t.factor, configs=loading(t.configs))
                for t in missing
            ],
        )
        partitions = [
            LoadedPartition(source=TP(topic.source, p), name=topic.name, base=-1)
            for topic in self._decisions.topics
            for p in range(topic.partitions)
        ]
        ends = self._admin.offsets([partition.tp for partition in partitions], LATEST, committed=False)
        begins = self._admin.offsets(ends, EARLIEST)
        holding = {tp.topic for tp, end in ends.items() if end > begins[tp] and tp not in begun}
        marks: dict[TP, tuple[int, str]] = {}
        note = self.note(self._decisions.until)
        for partition in partitions:
            mark = begun.get(partition.tp)
            if mark is not None and mark[1].startswith(note):
                partition.base = mark[0]
            elif partition.name in holding and not self._decisions.append:
                raise Refused(
                    f"the topic {partition.name} is there and holds records",
                    hint="restore under another name, delete the topic, or ask for appending",
                )
            else:
                partition.base = ends[partition.tp]
                marks[partition.tp] = (partition.base, note)
        for topic in self._decisions.topics:
            first = TP(topic.name, 0)
            if topic.exists and first in marks:  # not begun yet: what it is now is what it will be again
                kept = self._kept_configs(topic)
                marks[first] = (marks[first][0], note + json.dumps(kept))
                change_configs(self._admin, topic.name, set_=loading({}))
        self._admin.commit(self.marker, marks)
        return partitions

    def note(self, until: int | None) -> str:
        """Give what a partition's mark begins with: which restore it belongs to."""
        return f"{self._saved.manifest.id} until {until} "

    def load(self, partitions: Sequence[LoadedPartition]) -> None:
        """Write all records that are not there yet.

        :raises Contended: when somebody else writes to the topics
        :raises Corrupt: when a segment is not what was saved
        """
        hands = _shares(partitions, self._saved)
        self._stop.on_stop(self._kill)
        with ThreadPoolExecutor(max(1, len(hands)), thread_name_prefix="load") as pool:
            running = [pool.submit(self._load, hand) for hand in hands]
            try:
                for done in as_completed(running):
                    done.result()
            except BaseException:
                self._kill()
                self._stop.check()
                raise
        self._stop.check()
        self._count(partitions)

    def finish(self) -> None:
        """Put the configurations back and forget that there was a restore."""
        begun = self._admin.committed([self.marker]).get(self.marker, {})
        for topic in self._decisions.topics:
            configs = topic.configs
            mark = begun.get(TP(topic.name, 0))
            kept = mark[1].removeprefix(self.note(self._decisions.until)) if mark else ""
            if kept and self._decisions.append:
                configs = json.loads(kept)
            wanted, reset = back_to(configs)
            rest = {
                key: value for key, value in topic.configs.items() if not self._decisions.append and key not in wanted
            }
            change_configs(self._admin, topic.name, set_={**rest, **wanted}, reset=reset)
        self._admin.delete_groups([self.marker])

    def _kept_configs(self, topic: TopicDecision) -> Mapping[str, str]:
        return own_configs(topic_configs(self._admin, [topic.name]).get(topic.name, {}))

    def _load(self, hand: Sequence[LoadedPartition]) -> None:
        with Child("loader", patience=240) as child:
            self._children.append(child)
            child.send(
                {
                    "settings": librdkafka_settings(self._connection),
                    "admin": msgspec.to_builtins(self._connection),
                    "until": self._decisions.until,
                }
            )
            answers = child.frames()
            for partition in hand:
                self._load_partition(child, answers, partition)
            child.finish_sending()
            for _ in answers:
                raise Incomplete("a loader said more than it was asked", hint="run it again")

    def _load_partition(self, child: Child, answers: object, partition: LoadedPartition) -> None:
        until = self._decisions.until
        segments = [s for s in self._saved.segments(partition.source) if until is None or s.facts.oldest <= until]
        there = self._admin.offsets([partition.tp], LATEST, committed=False)[partition.tp] - partition.base
        expected = partition.base + there
        while segments and (until is None or segments[0].facts.newest <= until) and segments[0].facts.records <= there:
            done = segments.pop(0)
            partition.pieces.append(Piece(done.facts.records, done.facts.content))
            there -= done.facts.records
        child.send({"begin": {"topic": partition.name, "partition": partition.source.partition, "skip": there}})
        for segment in segments:
            self._stop.check()
            raw = b"".join(self._reader.read(self._saved.entry(segment)))
            child.send({"raw": raw, "what": self._saved.entry(segment).key})
            answer = msgspec.convert(next(answers)["loaded"], Loaded)  # type: ignore[call-overload]
            self._check(segment, answer)
            partition.pieces.append(Piece(answer.selected, answer.content))
            expected += answer.loaded
            end = self._admin.offsets([partition.tp], LATEST, committed=False)[partition.tp]
            if end != expected:
                raise _written_to(partition, end, expected)
            self._progress.advance(self._saved.entry(segment).bytes)

    def _check(self, segment: SegmentRef, answer: Loaded) -> None:
        facts = segment.facts
        whole = self._decisions.until is None or facts.newest <= self._decisions.until
        if whole and (answer.selected, answer.content) != (facts.records, facts.content):
            raise Corrupt(
                f"{self._saved.entry(segment).key} does not hold the records that were saved in it",
                hint="restore from another backup, and take a new one now",
            )

    def _count(self, partitions: Sequence[LoadedPartition]) -> None:
        ends = self._admin.offsets([p.tp for p in partitions], LATEST, committed=False)
        for partition in partitions:
            expected = partition.base + partition.records
            if ends[partition.tp] != expected:
                raise _written_to(partition, ends[partition.tp], expected)

    def _kill(self) -> None:
        for child in self._children:
            child.kill()


def _written_to(partition: LoadedPartition, end: int, expected: int) -> Contended:
    return Contended(
        f"{partition.tp} ends at {end}, {expected} was expected: somebody else writes to it, or a second restore runs",
        hint="stop the producers and the other restore, delete the topic, and restore it again",
    )


def _shares(partitions: Sequence[LoadedPartition], saved: Saved) -> list[list[LoadedPartition]]:
    hands: list[list[LoadedPartition]] = [[] for _ in range(WRITERS)]
    loads = [0] * WRITERS
    sizes = {p.tp: sum(s.facts.raw_bytes for s in saved.segments(p.source)) for p in partitions}
    for partition in sorted(partitions, key=lambda p: (-sizes[p.tp], p.tp)):
        least = loads.index(min(loads))
        hands[least].append(partition)
        loads[least] += sizes[partition.tp] + 1
    return [hand for hand in hands if hand]
