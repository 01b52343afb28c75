"""Loads a backup into a running cluster: topics, records, configurations, groups; goes on where an earlier attempt died.

A marker group on the destination says where each partition ended before the first record.  Only we should write there,
idempotently and without transactions, so ``end - base`` is what earlier attempts have written; whether it is so is seen by
reading it back (``resuming``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import msgspec

from include.engine.contracts import Connection, Progress, Reader, Stop
from include.engine.errors import Corrupt, Incomplete, Refused, Unauthorized
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, Admin, TopicPlan
from include.engine.systems.kafka.decisions import Decisions, back_to, loading
from include.engine.systems.kafka.declared import change_configs, create_topics, own_configs, topic_configs
from include.engine.systems.kafka.detail import Saved, SegmentRef
from include.engine.systems.kafka.isolation import Child, Frame
from include.engine.systems.kafka.loader import Loaded
from include.engine.systems.kafka.refusals import foreign
from include.engine.systems.kafka.resuming import Begun, compared, divide

WRITERS = 2
MARKER = "mainstay-restore"
_OVER = "over"  # what a mark says that nobody let us delete


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
        names = {topic.source: topic.name for topic in decisions.topics}
        self._marker = marker(saved, names, decisions.until)

    def prepare(self) -> list[LoadedPartition]:
        """Create the topics, or make those that are there ready; remember where each partition began."""
        begun = begun_at(self._admin, self._marker)
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
        marks: dict[TP, tuple[int, str]] = {}
        for partition in partitions:
            tp = partition.tp
            mark = begun.get(tp)
            partition.base = mark[0] if mark is not None and mark[0] <= ends[tp] else ends[tp]
            # Also after an attempt that was to append: what it found there is none of the backup's.
            if partition.base > begins[tp] and not self._decisions.append:
                raise Refused(
                    f"the topic {partition.name} is there and holds records",
                    hint="restore under another name, delete the topic, or ask for appending",
                )
            if mark is None or partition.base != mark[0]:
                marks[tp] = (partition.base, "")
        existing = [topic for topic in self._decisions.topics if topic.exists]
        for topic in existing:
            first = TP(topic.name, 0)
            if first in marks:  # not begun yet: what it is now is what it will be again
                kept = own_configs(topic_configs(self._admin, [topic.name]).get(topic.name, {}))
                said = (
                    "" if kept == loading(topic.configs) else json.dumps(kept)
                )  # an attempt that died has just made it
                marks[first] = (marks[first][0], said)
        self._admin.commit(self._marker, marks)  # first: after the change nobody knows any more what it was
        for topic in existing:
            change_configs(self._admin, topic.name, set_=loading({}))
        return partitions

    def load(self, partitions: Sequence[LoadedPartition]) -> None:
        """Write all records that are not there yet.

        :raises Refused: when somebody else writes to the topics, or has done so since an earlier attempt began
        :raises Corrupt: when a segment is not what was saved
        """
        begun = self._begun(partitions)
        hands = _shares(partitions, self._saved)
        self._stop.on_stop(self._kill)
        with ThreadPoolExecutor(max(1, len(hands)), thread_name_prefix="load") as pool:
            running = [pool.submit(self._load, hand, begun) for hand in hands]
            try:
                for done in as_completed(running):
                    done.result()
            except BaseException:
                self._kill()
                self._stop.check()
                raise
        self._stop.check()
        self._count(partitions)

    def put_back(self) -> None:
        """Put the configurations back."""
        begun = begun_at(self._admin, self._marker)
        for topic in self._decisions.topics:
            configs = topic.configs
            _, kept = begun.get(TP(topic.name, 0), (0, ""))
            if kept and self._decisions.append:
                configs = json.loads(kept)
            wanted, reset = back_to(configs)
            rest = {
                key: value for key, value in topic.configs.items() if not self._decisions.append and key not in wanted
            }
            change_configs(self._admin, topic.name, set_={**rest, **wanted}, reset=reset)

    def forget(self) -> None:
        """Forget that there was a restore.  The last thing to do: without the mark, a retry is one over topics with records."""
        try:
            self._admin.delete_groups([self._marker])
        except (
            Unauthorized
        ):  # a mark that counts on would let the same records be appended once only: the second time, none is
            left = begun_at(self._admin, self._marker)
            self._admin.commit(self._marker, {tp: (offset, _OVER) for tp, (offset, _) in left.items()})

    def _begun(self, partitions: Sequence[LoadedPartition]) -> dict[TP, Begun]:
        """Give how far each partition is, after reading back what is there."""
        ends = self._admin.offsets([p.tp for p in partitions], LATEST, committed=False)
        until = self._decisions.until
        found = {
            p.tp: divide(
                [s for s in self._saved.segments(p.source) if until is None or s.facts.oldest <= until],
                ends[p.tp] - p.base,
                until,
            )
            for p in partitions
        }
        bases = {p.tp: p.base for p in partitions}
        return compared(found, bases, self._connection, readers=WRITERS, stop=self._stop)

    def _load(self, hand: Sequence[LoadedPartition], begun: Mapping[TP, Begun]) -> None:
        with Child("loader") as child:
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
                self._load_partition(child, answers, partition, begun[partition.tp])
            child.finish_sending()
            for _ in answers:
                raise Incomplete("a loader said more than it was asked", hint="run it again")

    def _load_partition(self, child: Child, answers: Iterator[Frame], partition: LoadedPartition, begun: Begun) -> None:
        partition.pieces += [Piece(done.facts.records, done.facts.content) for done in begun.whole]
        expected = partition.base + partition.records + begun.rest
        name, number = partition.tp
        child.send({"begin": {"topic": name, "partition": number, "skip": begun.rest, "there": begun.content}})
        for segment in begun.left:
            self._stop.check()
            raw = b"".join(self._reader.read(self._saved.entry(segment)))
            child.send({"raw": raw, "what": self._saved.entry(segment).key})
            answer = msgspec.convert(next(answers)["loaded"], Loaded)
            self._check(segment, answer)
            partition.pieces.append(Piece(answer.selected, answer.content))
            expected += answer.loaded
            if self._admin.offsets([partition.tp], LATEST, committed=False)[partition.tp] != expected:
                raise foreign(str(partition.tp))
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
            if ends[partition.tp] != partition.base + partition.records:
                raise foreign(str(partition.tp))

    def _kill(self) -> None:
        for child in self._children:
            child.kill()


def begun_at(admin: Admin, marker: str) -> dict[TP, tuple[int, str]]:
    """Give where each partition began when a restore that is not over was begun, and what its topic was then."""
    return {tp: mark for tp, mark in admin.committed([marker]).get(marker, {}).items() if mark[1] != _OVER}


def marker(saved: Saved, names: Mapping[str, str], until: int | None) -> str:
    """Name the group that remembers one restore: one backup, to one point, of these topics under these names.

    Every attempt at it finds the same group, and no other restore does.
    """
    what = hashlib.sha256(json.dumps([until, sorted(names.items())]).encode()).hexdigest()[:12]
    return f"{MARKER}-{saved.manifest.target.name}-{saved.manifest.id}-{what}"


def _shares(partitions: Sequence[LoadedPartition], saved: Saved) -> list[list[LoadedPartition]]:
    hands: list[list[LoadedPartition]] = [[] for _ in range(WRITERS)]
    loads = [0] * WRITERS
    sizes = {p.tp: sum(s.facts.raw_bytes for s in saved.segments(p.source)) for p in partitions}
    for partition in sorted(partitions, key=lambda p: (-sizes[p.tp], p.tp)):
        least = loads.index(min(loads))
        hands[least].append(partition)
        loads[least] += sizes[partition.tp] + 1
    return [hand for hand in hands if hand]
