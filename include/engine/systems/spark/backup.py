"""Takes a backup of a job's checkpoint: where each flow was at its last finished batch, consistent while the job runs.

The notes are small, so the freeze keeps them in the cut itself: Spark may clear them away while the other targets are copied.
What an operator of the job keeps as state is copied afterwards; the job that ships has none.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from include.engine.contracts import Clock, Connection, CopyJob
from include.engine.errors import Incomplete, NotFound, TransientError
from include.engine.inventory import TargetSettings
from include.engine.model import Cut, Entry, Flow, Kind, Manifest, Reconciled, SourceIdentity, Target
from include.engine.store.bucket import Bucket
from include.engine.systems.spark import checkpoint
from include.engine.systems.spark.journal import Journal
from include.engine.systems.spark.reconcile import reconcile
from include.engine.systems.spark.settings import Settings

NOTES = "notes.json"
_TRIES = 5  # a batch may end between two of our looks


class Named(Protocol):
    """Finds a connection by its name in the inventory."""

    def get(self, name: str) -> Connection:
        """Give it."""
        ...


class FrozenFlow(Struct, frozen=True, kw_only=True):
    """One flow as it was frozen: the batch, and the notes that make up its checkpoint (base64 of the files).

    :param topic_id: which topic it is about (see ``journal.Topic``); empty in a backup that was taken before this was kept
    """

    topic: str
    topic_id: str = ""
    table: str
    batch: int | None
    files: Mapping[str, str]

    def read(self) -> dict[str, bytes]:
        """Give the notes."""
        return {path: base64.b64decode(text) for path, text in self.files.items()}


class SparkDetail(Struct, frozen=True, kw_only=True):
    """What a cut of a checkpoint holds."""

    flows: Mapping[str, FrozenFlow]


def open_source(target: Target, settings: TargetSettings, connections: Named) -> SparkSource:
    """Open a live checkpoint.  Asks for nothing yet."""
    assert isinstance(settings, Settings)
    store = connections.get(settings.connection) if settings.connection else None
    return SparkSource(target, settings, store, connections)


class SparkSource:
    """A job's checkpoint, seen by the backup verb (see ``contracts.BackupSource``)."""

    def __init__(self, target: Target, settings: Settings, store: Connection | None, connections: Named) -> None:
        self.target = target
        self.settings = settings
        self._connections = connections
        self._bucket = Bucket.open(settings.checkpoint, store)

    def freeze(self, backup: str, clock: Clock) -> Cut:
        """Fix where every flow is.  Nothing is left anywhere, so *backup* is not needed.

        :raises Incomplete: when the job was never started
        :raises Corrupt: when the checkpoint is damaged
        :raises Refused: when it is about another topic
        """
        del backup
        journal = Journal(self._bucket)
        facts = journal.facts()
        known = {name: topic for name in self.settings.flows if (topic := journal.topic(name)) is not None}
        frozen: dict[str, FrozenFlow] = {}
        offsets: checkpoint.Offsets = {}
        for name, flow in sorted(self.settings.flows.items()):
            files = self._notes(name)
            state = checkpoint.inspect(name, files, flow.topic)
            frozen[name] = FrozenFlow(
                topic=flow.topic,
                topic_id=known[name].id if name in known else "",
                table=flow.table,
                batch=state.batch,
                files={path: base64.b64encode(raw).decode() for path, raw in files.items()},
            )
            offsets |= state.offsets
        return Cut(
            at=clock(),
            position=", ".join(f"{name} batch {one.batch}" for name, one in frozen.items()),
            offsets=offsets,
            identities={topic.topic: topic.uuid for topic in known.values()},
            flows=tuple(_flow(name, one, facts.get(name)) for name, one in frozen.items()),
            detail=msgspec.to_builtins(SparkDetail(flows=frozen)),
        )

    def copy(self, job: CopyJob) -> Manifest:
        """Store the notes of the cut, and what operators keep as state (see ``contracts.BackupSource``)."""
        started = job.clock()
        detail = detail_of(job.cut)
        job.progress.stage(f"copy {job.target}")
        entries: list[Entry] = [job.writer.write(NOTES, [msgspec.json.format(msgspec.json.encode(detail))])]
        for name, flow in detail.flows.items():
            paths = [one.key.removeprefix(f"{name}/") for one in self._bucket.list(name)]
            for path in checkpoint.state_files(paths, flow.batch if flow.batch is not None else -1):
                job.stop.check()
                entries.append(job.writer.write(f"{name}/{path}", [self._state(name, path)]))
        return Manifest(
            id=job.id,
            target=job.target,
            kind=Kind.FULL,
            started=started,
            finished=job.clock(),
            recoverable_from=job.cut.at,
            recoverable_to=job.cut.at,
            cut=job.cut,
            entries=tuple(entries),
            source=SourceIdentity(identity=self._identity(detail), version="1", address=self.settings.checkpoint),
            notes=tuple(f"{flow.name}: {flow.why}" for flow in job.cut.flows if flow.idempotent is not True),
            detail={"engine": self.settings.engine, "group": self.settings.group_of(self.target.name)},
        )

    def release(self, backup: str) -> None:
        """Do nothing: a backup leaves nothing at the checkpoint."""

    def inventory_gaps(self) -> Sequence[str]:
        """Name the folders of the checkpoint that no declared flow has: a flow that was taken out, or renamed."""
        found = {one.key.split("/", 1)[0] for one in self._bucket.list() if "/" in one.key}
        unknown = sorted(name for name in found - set(self.settings.flows) if not name.startswith(("_", ".")))
        return [f"the checkpoint of {name} is in no backup of {self.target}" for name in unknown]

    def reconcile(self, cut: Cut) -> Sequence[Reconciled]:
        """Look for what became of the newest records before *cut* (see ``replaying.Reconciles``)."""
        log, tables = self._connections.get(self.settings.kafka), self._connections.get(self.settings.cassandra)
        return [
            reconcile(name, flow, cut.offsets.get(flow.topic, {}), log=log, tables=tables)
            for name, flow in sorted(self.settings.flows.items())
        ]

    def _notes(self, flow: str) -> dict[str, bytes]:
        """Read a flow's notes, again when Spark has cleared one away between listing and reading."""
        for left in reversed(range(_TRIES)):
            paths = [one.key.removeprefix(f"{flow}/") for one in self._bucket.list(flow)]
            if not paths:
                raise Incomplete(
                    f"{self.settings.checkpoint} holds no checkpoint of {flow}",
                    hint="start the job (DAG stream), or check `checkpoint` in the inventory",
                )
            try:
                return {path: self._bucket.read(f"{flow}/{path}") for path in checkpoint.needed(paths)}
            except NotFound:
                if not left:
                    raise
        raise AssertionError

    def _state(self, flow: str, path: str) -> bytes:
        try:
            return self._bucket.read(f"{flow}/{path}")
        except NotFound as error:
            raise TransientError(
                f"{flow}/{path} was cleared away while it was copied", hint="take a new set; this one is behind"
            ) from error

    def _identity(self, detail: SparkDetail) -> str:
        ids = [
            msgspec.json.decode(flow.read()[checkpoint.METADATA], type=dict[str, Any]) for flow in detail.flows.values()
        ]
        return ",".join(str(one.get("id")) for one in ids)


def detail_of(cut: Cut) -> SparkDetail:
    """Give what a cut of a checkpoint holds."""
    return msgspec.convert(cut.detail, SparkDetail)


def _flow(name: str, frozen: FrozenFlow, facts: Any) -> Flow:
    """Say what the job itself found about a flow when it began."""
    if not isinstance(facts, dict):
        return Flow(name=name, topic=frozen.topic, table=frozen.table, why="the job has never told what it found")
    offences = facts.get("unrepeatable") or {}
    key = ", ".join(facts.get("key") or ())
    told = "; ".join(f"{column} comes from {', '.join(found)}" for column, found in sorted(offences.items()))
    why = (
        f"the key ({key}) comes from the record alone" if facts.get("idempotent") else f"a replay writes others: {told}"
    )
    same = bool(facts.get("idempotent")) and not offences
    if facts.get("idempotent") and offences:
        why = f"the key ({key}) comes from the record, but {told}"
    return Flow(name=name, topic=frozen.topic, table=frozen.table, idempotent=same, why=why)
