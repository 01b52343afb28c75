"""Restores a checkpoint from the bucket alone: into a directory or a prefix, made to fit the topics that were restored with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from include.engine.contracts import Clock, Connection, Connections, PlanRequest, Rehearsal, RestoreJob
from include.engine.errors import Misconfigured, NotFound, Refused
from include.engine.model import (
    Check,
    Destination,
    DestinationKind,
    Manifest,
    Moved,
    PointKind,
    RecoveryPoint,
    Restored,
    RestorePlan,
    Stage,
    Target,
    Verdict,
)
from include.engine.replaying import Resumed
from include.engine.store.bucket import Bucket
from include.engine.streaming import Life
from include.engine.systems.spark import checkpoint, unfinished
from include.engine.systems.spark.backup import NOTES, SparkDetail, detail_of
from include.engine.systems.spark.by_hand import instructions
from include.engine.systems.spark.journal import FOLDER, Journal, Topic
from include.engine.systems.spark.settings import Settings
from include.engine.systems.spark.stream import SparkStream


def open_engine(
    target: Target,
    catalog: object,
    *,
    identities: Sequence[str] = (),
    servers: Mapping[str, object] | None = None,
    connections: Connections | None = None,
    targets: Mapping[Target, object] | None = None,
) -> SparkRestore:
    """Open what restores *target*."""
    del catalog, identities, servers
    settings = (targets or {}).get(target)
    return SparkRestore(target, settings if isinstance(settings, Settings) else None, connections)


class SparkRestore:
    """Restores one job's checkpoint (see ``contracts.RestoreEngine``).

    A destination is a directory, or, as a ``server``, the URL of an object store's prefix with the name of its connection in
    front: ``stream_store=s3://bucket/prefix``.
    """

    def __init__(self, target: Target, settings: Settings | None, connections: Connections | None) -> None:
        self.target = target
        self._settings = settings
        self._connections = connections

    def plan(self, request: PlanRequest) -> RestorePlan:
        """Decide what a restore would do (see ``contracts.RestoreEngine``)."""
        point = RecoveryPoint.parse(request.point)
        manifest = _choose(self.target, request, point)
        kind = DestinationKind(request.destination_kind)
        destination = Destination(kind=kind, path=request.path, name=request.server)
        detail = detail_of(manifest.cut)
        taken: tuple[str, ...] = ()
        if kind is not DestinationKind.SANDBOX and not _is_new(destination):
            bucket = self._place(destination)
            taken = unfinished.foreign(bucket, manifest, detail.flows)
            self._require_absent(bucket, Journal(bucket))
            if taken and request.confirm != str(self.target):
                raise Refused(
                    f"{bucket.url} is not empty: it holds {', '.join(taken[:3])}",
                    hint=f"restore beside it and change `checkpoint`, or stop the job and confirm by typing {self.target}",
                )
        return RestorePlan(
            target=self.target,
            backup=manifest.id,
            chain=(manifest.id,),
            point=point,
            destination=destination,
            bytes_to_fetch=manifest.bytes,
            bytes_needed=manifest.original_bytes,
            steps=tuple(
                f"write the checkpoint of {name} at batch {flow.batch}" for name, flow in sorted(detail.flows.items())
            ),
            would_overwrite=taken,
            warnings=(
                "it fits the topics that it was taken with; restore the set as a whole when Kafka is restored as well",
                *self._afterwards(destination),
                *manifest.notes,
            ),
        )

    def restore(self, job: RestoreJob) -> Restored:
        """Write the checkpoint, and read it back (see ``contracts.RestoreEngine``).

        With ``job.moved`` it is made to fit the topics that were restored before it.
        """
        kind = job.plan.destination.kind
        if kind is DestinationKind.SANDBOX:
            path = Path(job.plan.destination.path) if job.plan.destination.path else None
            if path is None:
                raise Misconfigured("a checkpoint has no sandbox of its own", hint="name a directory to restore to")
        bucket = self._place(job.plan.destination)
        self._at_rest(bucket, job.plan, job.clock)
        return self._write(job, bucket)

    def rest(self, plan: RestorePlan, clock: Clock) -> None:
        """Let nobody run on the checkpoint while others are restored (see ``replaying.Rests``)."""
        if not _is_new(plan.destination):
            self._at_rest(self._place(plan.destination), plan, clock)

    @contextmanager
    def rehearse(self, job: RestoreJob) -> Iterator[Rehearsal]:
        """Restore into a directory that goes away, and check it (see ``contracts.RestoreEngine``)."""
        with TemporaryDirectory(prefix="mainstay-checkpoint-") as scratch:
            restored = self._write(job, Bucket.open(f"file://{scratch}"))
            proved = restored.verdict is Verdict.PASS
            yield Rehearsal(
                restored=restored,
                checks=restored.checks,
                newest_record=job.chain[-1].cut.at if proved else None,
                newest_at_source=None,
            )

    def resume(self, job: RestoreJob, *, log: Connection, tables: Connection) -> AbstractContextManager[Resumed]:
        """Restore into a sandbox and run the job there (see ``replaying.Resumes``)."""
        from include.engine.systems.spark.resume import resumed

        return resumed(self.target, self._settings, job, log=log, tables=tables, write=self._write)

    def by_hand(self, manifest: Manifest) -> str:
        """Say how to restore with stock tools (see ``contracts.RestoreEngine``)."""
        return instructions(manifest)

    def _afterwards(self, destination: Destination) -> tuple[str, ...]:
        known = destination.kind is not DestinationKind.SANDBOX and not _is_new(destination)
        live = known and self._is_live(self._place(destination))
        wish = f'./mainstay stream {self.target} run --reason "…"'
        return (f"it is the checkpoint that the job runs on: the job rests afterwards, until {wish}",) if live else ()

    def _at_rest(self, bucket: Bucket, plan: RestorePlan, clock: Clock) -> None:
        """See that nobody runs on the checkpoint until it is written, and that whoever keeps jobs running launches none.

        :raises Refused: when the job runs
        """
        journal = Journal(bucket)
        if not self._is_live(bucket) and journal.newest() is None:
            return
        self._require_absent(bucket, journal)
        if journal.wish().action == "run":
            reason = f"its checkpoint is restored from {plan.backup}"
            journal.say("stop", reason=reason, by="a restore", clock=clock)
        self._require_absent(bucket, journal)  # launched before it was said, and after we looked

    def _require_absent(self, bucket: Bucket, journal: Journal) -> None:
        newest = journal.newest()
        if newest is None or not self._is_live(bucket):
            return  # where another job's launches are, only its own inventory knows how to look
        assert self._settings is not None
        assert self._connections is not None
        stream = SparkStream(self.target, self._settings, self._connections)
        life = stream.engine.life(newest.name, journal.handle(newest.generation))
        if life is not Life.ABSENT:
            raise Refused(
                f"{newest.name} is {life} on the checkpoint that would be written",
                hint=f'end it in good order first: ./mainstay stream {self.target} stop --reason "…"',
            )

    def _is_live(self, bucket: Bucket) -> bool:
        """Whether it is the checkpoint that the inventory's job runs on."""
        return (
            self._settings is not None
            and self._connections is not None
            and bucket.url.rstrip("/") == self._settings.checkpoint
        )

    def _write(self, job: RestoreJob, bucket: Bucket) -> Restored:
        manifest = job.chain[-1]
        began = time.monotonic()
        job.progress.stage(f"write the checkpoint of {self.target}", job.plan.bytes_to_fetch)
        entries = {entry.name: entry for entry in manifest.entries}
        b"".join(job.reader.read(entries[NOTES]))  # proves that the backup is whole; the cut holds the same
        detail = detail_of(manifest.cut)
        wanted: dict[str, bytes] = {}
        for name, flow in sorted(detail.flows.items()):
            files = flow.read()
            read = checkpoint.inspect(name, files, flow.topic).batch is not None
            state = [entry for entry in manifest.entries if entry.name.startswith(f"{name}/state/")]
            files |= {one.name.removeprefix(f"{name}/"): b"".join(job.reader.read(one)) for one in state}
            if job.moved:
                files = checkpoint.rewrite(
                    name, files, checkpoint.by_partition(job.moved), checkpoint.renamed(job.moved)
                )
            elif flow.topic_id and read:  # so that the job refuses a topic that was made anew since it has read
                about = Topic(topic=flow.topic, id=flow.topic_id)
                wanted[Journal.topic_key(name)] = msgspec.json.encode(about)
            wanted |= {f"{name}/{path}": raw for path, raw in files.items()}
        # Not before now: a damaged object, and a position that nobody told, must leave what lies there as it was.
        with unfinished.noted(bucket, manifest):
            bucket.delete([one.key for one in bucket.list() if not _stays(one.key)])
            for key, raw in wanted.items():
                job.stop.check()
                bucket.upload(key, [raw])
                job.progress.advance(len(raw))
            checks = _checks(bucket, wanted, detail, job.moved)
        return Restored(
            target=self.target,
            backup=manifest.id,
            address=bucket.url,
            recovered_to=manifest.cut.at,
            stages=(Stage(name="checkpoint", seconds=time.monotonic() - began, bytes=manifest.bytes),),
            checks=checks,
            detail={"flows": {name: flow.batch for name, flow in detail.flows.items()}, "moved": len(job.moved)},
        )

    def _place(self, destination: Destination) -> Bucket:
        if destination.kind is DestinationKind.SERVER and "://" in destination.name:
            name, _, url = destination.name.rpartition("=")
            store = self._connections.get(name) if name and self._connections else None
            return Bucket.open(url, store)
        if destination.kind is DestinationKind.SERVER:
            if self._settings is None:
                raise Misconfigured("the destination names no place", hint="write connection=s3://bucket/prefix")
            name = self._settings.connection
            return Bucket.open(
                self._settings.checkpoint, self._connections.get(name) if name and self._connections else None
            )
        if not destination.path:
            raise Misconfigured("the destination names no directory", hint="name an absolute path")
        return Bucket.open(f"file://{Path(destination.path).absolute()}")


def _stays(key: str) -> bool:
    """Whether a note outlives a restore: what people wished and who launched, but not which topic the checkpoint is about.

    Launches go on counting, so that a driver of before that was taken for dead is fenced.
    """
    return key.startswith(f"{FOLDER}/") and not key.startswith(f"{FOLDER}/flows/")


def _choose(target: Target, request: PlanRequest, point: RecoveryPoint) -> Manifest:
    manifests = list(request.manifests)
    if point.kind in (PointKind.POSITION, PointKind.NAME):
        raise Misconfigured(f"{point} does not name a point of a checkpoint", hint="use latest, backup or a time")
    if request.backup is not None:
        manifests = [manifest for manifest in manifests if manifest.id == request.backup]
    elif point.kind is PointKind.TIME and point.time is not None:
        manifests = [manifest for manifest in manifests if manifest.cut.at <= point.time]
    if not manifests:
        wanted = request.backup or f"that is as old as {point}"
        raise NotFound(f"{target} has no backup {wanted}", hint="`./mainstay catalog` lists them")
    return manifests[-1]


def _is_new(destination: Destination) -> bool:
    """Whether it is a directory that is not there: a plan must not make it, as opening a store does."""
    return (
        destination.kind is DestinationKind.DIRECTORY and bool(destination.path) and not Path(destination.path).exists()
    )


def _checks(
    bucket: Bucket, wanted: Mapping[str, bytes], detail: SparkDetail, moved: Sequence[Moved]
) -> tuple[Check, ...]:
    """Read back what was written, and judge it as the job would."""
    wrong = [key for key, raw in wanted.items() if bucket.read(key) != raw]
    known = checkpoint.renamed(moved)
    at = []
    for name, flow in sorted(detail.flows.items()):
        files = {key.removeprefix(f"{name}/"): bucket.read(key) for key in wanted if key.startswith(f"{name}/")}
        state = checkpoint.inspect(name, files, known.get(flow.topic, flow.topic))
        at.append(f"{name} after batch {state.batch} at {sum(sum(p.values()) for p in state.offsets.values())}")
    strangers = sorted(one.key for one in bucket.list() if one.key not in wanted and not one.key.startswith(FOLDER))
    return (
        Check(
            name="checkpoint is as in the backup",
            verdict=Verdict.FAIL if wrong or strangers else Verdict.PASS,
            detail=f"different: {(wrong + strangers)[:3]}" if wrong or strangers else f"{len(wanted)} files read back",
        ),
        Check(name="checkpoint can be gone on from", verdict=Verdict.PASS, detail=f"{', '.join(at)} (sums of offsets)"),
    )
