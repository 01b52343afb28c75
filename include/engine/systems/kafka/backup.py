"""Takes a backup of a cluster: the cut, then the records up to it that no earlier backup has, as shared segments.

Reading happens in child processes, storing here, side by side.  Every manifest names all segments that a restore needs, so a
backup stands alone though an hourly one costs only what is new; segments that nobody names any more are swept.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as version_of

import msgspec

from include.engine.contracts import Clock, Connection, CopyJob
from include.engine.errors import Incomplete
from include.engine.excluding import LeftOut
from include.engine.inventory import TargetSettings
from include.engine.model import Cut, Entry, Kind, Manifest, SourceIdentity, Target
from include.engine.systems.kafka import cut as cuts
from include.engine.systems.kafka import detail as details
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import Admin, ConfigEntry, TopicState, open_admin
from include.engine.systems.kafka.cut import KafkaCut
from include.engine.systems.kafka.cut_back import cut_back
from include.engine.systems.kafka.declared import read_declared, topic_configs
from include.engine.systems.kafka.detail import TOPICS_ENTRY, Gap, KafkaDetail, Saved, SegmentRef, TopicDetail
from include.engine.systems.kafka.held import hanging, held, reaches
from include.engine.systems.kafka.isolation import Child
from include.engine.systems.kafka.left_out import left_out
from include.engine.systems.kafka.planning import Policy, Previous, outlived, overlapping, plan_reads, runs
from include.engine.systems.kafka.ranges import Range, SegmentFacts
from include.engine.systems.kafka.settings import Settings

_WORTH_A_READER = 200_000  # offsets
_UPLOADS = 4  # segments on their way to the store at once, per run; each is held in memory


def open_source(target: Target, settings: TargetSettings, connection: Connection) -> KafkaSource:
    """Open a live cluster.  Asks it for nothing yet."""
    assert isinstance(settings, Settings)
    return KafkaSource(target, settings, connection)


class KafkaSource:
    """A live cluster, seen by the backup verb (see ``contracts.BackupSource``)."""

    def __init__(self, target: Target, settings: Settings, connection: Connection) -> None:
        self.target = target
        self.settings = settings
        self.connection = connection

    def freeze(self, backup: str, clock: Clock) -> Cut:
        """Fix the cut; nothing is left on the server, so *backup* is not needed."""
        del backup
        with open_admin(self.connection) as admin:
            return cuts.take(admin, covers=self.settings.covers, keeps=self.settings.keeps, clock=clock)

    def copy(self, job: CopyJob) -> Manifest:
        """Read what is new up to the cut, store it, and describe the whole (see ``contracts.BackupSource``)."""
        started = job.clock()
        cut = cuts.read(job.cut)
        with open_admin(self.connection) as admin:
            topics = _still_there(admin, cut)
            configs = topic_configs(admin, cut.topics)
            described = {name: _described(topics[name], configs.get(name, {})) for name in cut.topics}
            declared = read_declared(admin)
            version = admin.version()
            newest = details.newest([manifest for manifest in job.history if manifest.cut.at < job.cut.at])
            damaged = newest is not None and newest.manifest.id in job.doubted
            previous = None if job.full or newest is None else _previous(newest, damaged=damaged)
            policies = {name: Policy.of(topic) for name, topic in described.items()}
            plan = plan_reads(
                cut,
                previous,
                policies=policies,
                seconds_since=_age(job, previous),
                keep_expired=self.settings.keep_expired,
                cut_back=cut_back(admin, cut, previous.cut) if previous else (),
            )
            copied = _Copying(self, job, again=job.full or damaged).run(plan.ranges)
            _still_there(admin, cut)
            late = outlived(plan, policies, _age(job, previous))
        segments = sorted(
            [*plan.kept, *copied.segments], key=lambda s: (s.facts.topic, s.facts.partition, s.facts.first)
        )
        if late:
            raise Incomplete(
                f"reading took until tombstones of {', '.join(late[:5])} may have gone since the last backup",
                hint="run it again: it reads these topics anew",
            )
        doubled = overlapping(segments)
        if doubled:
            raise Incomplete(f"segments overlap: {', '.join(doubled[:3])}", hint="run it again with a full backup")
        found = KafkaDetail(
            topics=described,
            segments=tuple(segments),
            gaps=tuple(sorted([*plan.gaps, *copied.gaps], key=str)),
            held=held(cut, job.cut.at, newest),
            declared=declared,
            built_on=previous.backup if previous else None,
            new_records=sum(segment.facts.records for segment in copied.segments),
        )
        # All gaps that are in this backup are told in it, not only the new ones: a restore of it will lack them.
        lost = (f"lost to retention before it was saved: {gap}" for gap in found.gaps)
        stuck = (f"not in this backup, {one}" for one in hanging(found.held, job.cut.at))
        notes = (*plan.notes, *lost, *stuck)
        for note in notes:
            job.progress.say(f"{self.target}: {note}")
        entries = {**(previous.entries if previous else {}), **copied.entries}
        return _manifest(job, cut, found, entries, started=started, version=version, notes=notes)

    def release(self, backup: str) -> None:
        """Do nothing: a backup leaves nothing on the brokers."""

    def inventory_gaps(self) -> Sequence[str]:
        """Name the topics and the groups that no pattern names."""
        return self.left_out().gaps

    def left_out(self) -> LeftOut:
        """Name them, and those that `exclude` and `exclude_groups` name (see ``excluding.Excludes``)."""
        with open_admin(self.connection) as admin:
            return left_out(admin, self.settings, self.target)


@dataclass
class _Copied:
    """What a run has stored."""

    segments: list[SegmentRef] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)


class _Copying:
    """The readers and the uploads of one run.

    :param again: store segments over what is there under the same names
    """

    def __init__(self, source: KafkaSource, job: CopyJob, *, again: bool) -> None:
        self._source = source
        self._job = job
        self._again = again
        self._room = threading.Semaphore(_UPLOADS)
        self._copied = _Copied()
        self._lock = threading.Lock()
        self._children: list[Child] = []

    def run(self, ranges: Sequence[Range]) -> _Copied:
        job = self._job
        job.progress.stage(f"copy {sum(r.stop - r.start for r in ranges)} offsets of {job.target}")
        # A reader costs a third of a second of CPU before its first record.
        worth = 1 + sum(r.stop - r.start for r in ranges) // _WORTH_A_READER
        hands = runs(ranges, min(self._source.settings.readers, worth))
        if not hands:
            return self._copied
        job.stop.on_stop(self._kill)
        with (
            ThreadPoolExecutor(len(hands), thread_name_prefix="read") as readers,
            ThreadPoolExecutor(_UPLOADS, thread_name_prefix="store") as stores,
        ):
            reading = [readers.submit(self._read, hand, stores) for hand in hands]
            try:
                for done in as_completed(reading):
                    done.result()
            except BaseException:
                self._kill()  # one reader's failure fails the run: the others need not go on
                job.stop.check()
                raise
        job.stop.check()
        return self._copied

    def _read(self, hand: Sequence[Range], stores: ThreadPoolExecutor) -> None:
        settings = self._source.settings
        storing: list[Future[None]] = []
        finished = 0
        with Child("reader") as child:
            self._children.append(child)
            child.send(
                {
                    "settings": librdkafka_settings(self._source.connection),
                    "ranges": msgspec.to_builtins(list(hand)),
                    "limits": {"records": settings.segment_records, "raw_bytes": settings.segment_bytes},
                }
            )
            child.finish_sending()
            for frame in child.frames():
                self._job.stop.check()
                storing = _unfinished(storing)
                if "gap" in frame:
                    self._copied.gaps.append(msgspec.convert(frame["gap"], Gap))
                elif "finished" in frame:
                    finished += 1
                else:
                    self._room.acquire()
                    facts = msgspec.convert(frame["segment"], SegmentFacts)
                    storing.append(stores.submit(self._store, facts, frame["raw"]))
        for stored in storing:
            stored.result()
        if finished != len(hand):
            raise Incomplete(f"a reader finished {finished} of {len(hand)} ranges", hint="run it again")

    def _store(self, facts: SegmentFacts, raw: bytes) -> None:
        try:
            name = f"{facts.topic}/{facts.partition}/{facts.first:020d}-{facts.last:020d}.parquet"
            entry = self._job.writer.share(name, raw, original_bytes=facts.raw_bytes, again=self._again)
        finally:
            self._room.release()
        with self._lock:
            self._copied.segments.append(SegmentRef(entry=entry.name, facts=facts))
            self._copied.entries[entry.name] = entry
        self._job.progress.advance(facts.raw_bytes)

    def _kill(self) -> None:
        for child in self._children:
            child.kill()


def _unfinished(storing: Sequence[Future[None]]) -> list[Future[None]]:
    """Leave out what is stored, and raise what failed: hours of reading would be for nothing when the store takes no more."""
    for stored in storing:
        if stored.done():
            stored.result()
    return [stored for stored in storing if not stored.done()]


def _still_there(admin: Admin, cut: KafkaCut) -> dict[str, TopicState]:
    """Describe the topics of the cut.

    :raises Incomplete: when one is gone or is another one of the same name
    """
    topics = admin.topics(cut.topics)
    changed = [name for name, topic in cut.topics.items() if name not in topics or topics[name].id != topic.id]
    if changed:
        raise Incomplete(
            f"{', '.join(sorted(changed)[:5])} was deleted after the cut",
            hint="take a new set; exclude a topic that comes and goes in the inventory",
        )
    return topics


def _described(topic: TopicState, configs: dict[str, ConfigEntry]) -> TopicDetail:
    return TopicDetail(id=topic.id, partitions=len(topic.partitions), factor=topic.factor, configs=configs)


def _age(job: CopyJob, previous: Previous | None) -> float:
    """Give the seconds that tombstones have had to go: from the cut that is built on until now, not until the new cut."""
    return (job.clock() - previous.at).total_seconds() if previous else 0.0


def _previous(saved: Saved, *, damaged: bool) -> Previous:
    return Previous(
        damaged=damaged,
        backup=saved.manifest.id,
        at=saved.manifest.cut.at,
        topics=saved.detail.topics,
        cut=saved.cut,
        segments=saved.detail.segments,
        gaps=saved.detail.gaps,
        entries=saved.entries,
    )


def _manifest(
    job: CopyJob,
    cut: KafkaCut,
    found: KafkaDetail,
    entries: Mapping[str, Entry],
    *,
    started: datetime,
    version: str,
    notes: Sequence[str],
) -> Manifest:
    document = msgspec.json.format(
        msgspec.json.encode({"cut": cut, "topics": found.topics, "declared": found.declared})
    )
    own = job.writer.write(TOPICS_ENTRY, [document])
    to = reaches(found.held, job.cut.at)
    # No later than that: what a producer has stamped in microseconds is of a year that no calendar has.
    oldest = [s.facts.oldest for s in found.segments if 0 <= s.facts.oldest < to.timestamp() * 1000]
    since = datetime.fromtimestamp(min(oldest) / 1000, UTC) if oldest else to
    return Manifest(
        id=job.id,
        target=job.target,
        kind=Kind.FULL,  # it names all that it needs: nothing else has to be kept for it
        started=started,
        finished=job.clock(),
        recoverable_from=since,
        recoverable_to=to,
        cut=job.cut,
        entries=(own, *(entries[segment.entry] for segment in found.segments)),
        source=SourceIdentity(identity=cut.cluster, version=version),
        tools={"confluent-kafka": version_of("confluent-kafka"), "pyarrow": version_of("pyarrow")},
        notes=tuple(notes),
        detail=msgspec.to_builtins(found),
    )
