"""Restores a PostgreSQL cluster from the bucket alone: plan, and do what the plan says.

::

    engine = PostgresRestore(target, catalog, Home.of(PROJECT), identities=keys)
    plan = engine.plan(request)                       # reads the bucket and the destination, changes nothing
    restored = engine.restore(RestoreJob(plan=plan, ...))
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from include.engine.contracts import PlanRequest, Rehearsal, RestoreJob
from include.engine.errors import MainstayError, Misconfigured, NotFound, Refused
from include.engine.model import (
    Destination,
    DestinationKind,
    Manifest,
    PointKind,
    RecoveryPoint,
    Restored,
    RestorePlan,
    Target,
)
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Home
from include.engine.store.catalog import Catalog
from include.engine.systems.postgres import by_hand, guards, rehearsal
from include.engine.systems.postgres.archive import read_histories
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.frozen_log import FrozenLog, await_samples, freeze_log
from include.engine.systems.postgres.landing import Ground, Landing, tidy
from include.engine.systems.postgres.selection import Choice, Way, choose_chain, choose_way, estimate
from include.engine.systems.postgres.spool import AHEAD
from include.engine.systems.postgres.wal_audit import Archive, Histories
from include.engine.systems.postgres.wal_objects import list_wal

_SAMPLES_WITHIN = 60.0  # seconds that a drill waits for the archive to reach the samples of a backup just taken
_PROJECT = Path(__file__).resolve().parents[4]
RESTORED = "restored"  # the server's name in its sandbox
_ROOM = 1.1  # what a database needs beyond its size: hint bits, temporary files, the growth of a busy catalog
_WAL_ROOM = AHEAD + 32  # segments that recovery keeps at most between two restart points of a default max_wal_size


class Place(Protocol):
    """A server that the inventory names as a destination."""

    @property
    def data_dir(self) -> Path:
        """The directory that will hold the data."""

    @property
    def port(self) -> int:
        """The port that the restored server listens on, on loopback."""


class PostgresRestore:
    """Restores one PostgreSQL target (see ``contracts.RestoreEngine``).

    :param home: where sandboxes are made
    :param identities: age secret keys; needed when the WAL archive is encrypted
    """

    def __init__(
        self,
        target: Target,
        catalog: Catalog,
        home: Home,
        *,
        identities: Sequence[str] = (),
        servers: Mapping[str, Place] | None = None,
    ) -> None:
        self.target, self.catalog, self.home = target, catalog, home
        self.identities = tuple(identities)
        self.servers = dict(servers or {})

    def plan(self, request: PlanRequest) -> RestorePlan:
        """Decide what a restore would do (see ``contracts.RestoreEngine``).

        :raises NotFound: when no backup or no log reaches the point, or PostgreSQL of that version is not here
        :raises Refused: when the destination is in use, the source, not empty, or too small
        """
        guards.require_whole(request)
        point = RecoveryPoint.parse(request.point)
        choice = choose_chain(request.manifests, point, backup=request.backup)
        archive, histories = self.survey(choice.manifest)
        way = choose_way(choice.manifest, archive, histories, point)
        detail = PostgresDetail.of(choice.manifest)
        self.binaries(choice.manifest)
        destination = self._destination(request, choice)
        needed = _bytes_needed(choice)
        overwritten = self._guard(destination, choice, request.confirm)
        guards.require_space(Path(destination.path), needed)
        fetched = sum(manifest.bytes for manifest in choice.chain) + _log_bytes(archive, way, detail)
        return RestorePlan(
            target=self.target,
            backup=choice.manifest.id,
            chain=tuple(manifest.id for manifest in choice.chain),
            point=point,
            destination=destination,
            bytes_to_fetch=fetched,
            bytes_needed=needed,
            steps=_steps(choice, way, point, destination),
            would_overwrite=overwritten,
            seconds_expected=estimate(fetched, self._rates()),
            warnings=(*choice.warnings, *way.warnings),
        )

    def restore(self, job: RestoreJob) -> Restored:
        """Do what the plan says (see ``contracts.RestoreEngine``).

        A restore that dies leaves a marked directory, which the next run may throw away.

        :raises Corrupt: naming the object that is not what was backed up
        """
        kind, path = job.plan.destination.kind, Path(job.plan.destination.path)
        manifest = job.chain[-1]
        found = guards.look(path)
        guards.require_idle(path, found)
        if found.kind in ("cluster", "foreign") and not job.plan.would_overwrite:
            raise Refused(f"{path} is no longer empty", hint="plan the restore again")
        sandbox = self.home.sandbox(self._sandbox_name(job.plan))
        marker = guards.Marker.ours(
            plan=_plan_id(job.plan), backup=manifest.id, started=job.clock(), sandbox=sandbox.name
        )
        if found.marker is not None:  # its server may have outlived it
            self.home.sandbox(found.marker.sandbox).stop()
        sandbox.stop()
        passing = kind is DestinationKind.DIRECTORY
        if passing:
            sandbox.claim()
        try:
            if kind is DestinationKind.SANDBOX:
                sandbox.directory(f"postgres-{RESTORED}")
            guards.occupy(path, found, marker, sandbox.account)
            port = self.servers[job.plan.destination.name].port if kind is DestinationKind.SERVER else None
            landing = Landing(self._ground(job), job, path, sandbox=sandbox, port=port)
            restored = landing.land()
            if passing:
                landing.server.stop()
                tidy(path, sandbox.account)
            guards.release(path)
        except BaseException:
            sandbox.stop()
            raise
        finally:
            if passing:
                sandbox.destroy()
        return restored

    def rehearse(self, job: RestoreJob) -> AbstractContextManager[Rehearsal]:
        """Restore into a sandbox, check it and keep it until the context ends (see ``contracts.RestoreEngine``)."""
        return rehearsal.rehearse(self._ground(job, self._frozen(job)), job, home=self.home)

    def by_hand(self, manifest: Manifest) -> str:
        """Say in Markdown how to restore *manifest* with stock tools only (see ``contracts.RestoreEngine``)."""
        backups = [found for found in self.catalog.backups(self.target) if found.id != manifest.id]
        return by_hand.instructions(manifest, backups, bucket=self.catalog.bucket.url)

    def survey(self, manifest: Manifest) -> tuple[Archive, Histories]:
        """List the WAL archive and read its history files.

        :raises Corrupt: naming a history file that is damaged
        """
        size = PostgresDetail.of(manifest).wal_segment_bytes
        objects = list_wal(self.catalog.bucket, self.target)
        return Archive(objects, size), read_histories(self.catalog.bucket, objects)

    def binaries(self, manifest: Manifest) -> PostgresBinaries:
        """Give the programs of the backup's major version.

        :raises NotFound: with the name of the package to install
        """
        return PostgresBinaries.find(PostgresDetail.of(manifest).server_version_num // 10000, Shelf.of(self.home))

    def _frozen(self, job: RestoreJob) -> FrozenLog | None:
        if job.plan.point.kind is not PointKind.LATEST:
            return None
        manifest, bucket = job.chain[-1], self.catalog.bucket
        await_samples(bucket, self.target, manifest, limit=_SAMPLES_WITHIN, progress=job.progress, stop=job.stop)
        size = PostgresDetail.of(manifest).wal_segment_bytes
        return freeze_log(bucket, self.target, size, self.identities, job.clock)

    def _ground(self, job: RestoreJob, frozen: FrozenLog | None = None) -> Ground:
        manifest = job.chain[-1]
        archive, histories = self.survey(manifest)
        return Ground(
            target=self.target,
            bucket=self.catalog.bucket,
            identities=self.identities,
            binaries=self.binaries(manifest),
            way=choose_way(manifest, frozen.archive if frozen else archive, histories, job.plan.point),
            frozen=frozen,
            superuser=PostgresDetail.of(manifest).superuser,
        )

    def _destination(self, request: PlanRequest, choice: Choice) -> Destination:
        kind = DestinationKind(request.destination_kind)
        if kind is DestinationKind.SANDBOX:
            name = f"restore-{self.target.name[:24]}-{choice.manifest.id.lower()}"
            path = self.home.root / "sandboxes" / name / "servers" / f"postgres-{RESTORED}" / "data"
            return Destination(kind=kind, path=str(path), name=name)
        if kind is DestinationKind.SERVER:
            if request.server not in self.servers:
                known = ", ".join(sorted(self.servers)) or "none"
                raise NotFound(f"the inventory has no server {request.server!r}", hint=f"it has: {known}")
            return Destination(kind=kind, path=str(self.servers[request.server].data_dir), name=request.server)
        if not request.path:
            raise Misconfigured("the restore has no directory to go to", hint="name one with --to")
        return Destination(kind=kind, path=request.path)

    def _guard(self, destination: Destination, choice: Choice, confirm: str) -> tuple[str, ...]:
        """Refuse what must not be overwritten; give what would be."""
        path = Path(destination.path)
        found = guards.look(path)
        guards.require_idle(path, found)
        names = (destination.name, str(path)) if destination.kind is DestinationKind.SERVER else (str(path),)
        identity = choice.manifest.source.identity
        guards.require_allowed(path, found, identity=identity, confirm=confirm, names=names)
        inside = next(parent for parent in (path, *path.parents) if parent.is_dir())
        if destination.kind is not DestinationKind.SANDBOX and not self.home.account.reaches(
            inside if inside != path else path.parent
        ):
            raise Refused(
                f"{self.home.account.name}, who runs the server, cannot enter {inside}",
                hint="choose a directory outside of a private one such as /root, or open the way with chmod o+x",
            )
        if found.kind == "unfinished":
            return (f"{path}: an unfinished restore, which is thrown away",)
        return (f"{path}: moved aside",) if found.kind in ("cluster", "foreign") else ()

    def _rates(self) -> list[tuple[int, float]]:
        try:
            drills = self.catalog.drills()
        except MainstayError:
            return []  # an estimate is not worth a failed plan
        return [(d.bytes, d.rto_seconds) for d in drills if d.target == self.target and d.rto_seconds]

    @staticmethod
    def _sandbox_name(plan: RestorePlan) -> str:
        if plan.destination.kind is DestinationKind.SERVER:
            return f"server-{plan.destination.name}"
        return plan.destination.name or f"restore-{plan.target.name[:24]}-{_plan_id(plan)}"


def open_engine(
    target: Target,
    catalog: Catalog,
    identities: Sequence[str] = (),
    servers: Mapping[str, Place] | None = None,
    **_live: object,  # connections and targets: a restore makes its own server and asks no running one
) -> PostgresRestore:
    """Give what restores *target*, for ``wiring``."""
    return PostgresRestore(target, catalog, Home.of(_PROJECT), identities=identities, servers=servers)


def _plan_id(plan: RestorePlan) -> str:
    # Names what a plan does, so that doing it again finds its own remains.
    text = f"{plan.target} {plan.backup} {plan.point} {plan.destination.path}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _bytes_needed(choice: Choice) -> int:
    detail = PostgresDetail.of(choice.manifest)
    known = [one.bytes for one in detail.databases if one.bytes is not None]
    full = choice.chain[0].original_bytes
    size = max(sum(known), full) if known else full
    # A chain lies on the disk twice while it is combined.
    parts = sum(manifest.original_bytes for manifest in choice.chain) if len(choice.chain) > 1 else 0
    return int(size * _ROOM) + parts + _WAL_ROOM * detail.wal_segment_bytes


def _log_bytes(archive: Archive, way: Way, detail: PostgresDetail) -> int:
    """What the archive has to give between the backup and the newest point, as stored."""
    first = int(detail.stop_wal[8:16], 16) * ((1 << 32) // archive.size) + int(detail.stop_wal[16:], 16)
    numbers = archive.whole.get(way.timeline, {})
    return sum(wal.bytes for number, wal in numbers.items() if number >= first)


def _steps(choice: Choice, way: Way, point: RecoveryPoint, destination: Destination) -> tuple[str, ...]:
    ids = ", ".join(manifest.id for manifest in choice.chain)
    steps = [f"fetch, decrypt and unpack {ids} into {destination.path}, comparing every object with its SHA-256"]
    if len(choice.chain) > 1:
        steps.append("combine the chain with pg_combinebackup")
    steps += [
        "verify every file with pg_verifybackup and flush it to the disk",
        f"recover to {point} along timeline {way.timeline}, with the log from the archive",
    ]
    end = {
        DestinationKind.DIRECTORY: "shut down cleanly; the directory can be started by any PostgreSQL of that version",
        DestinationKind.SERVER: f"leave the server {destination.name} serving on loopback",
        DestinationKind.SANDBOX: "leave the sandbox serving",
    }
    return (*steps, end[destination.kind])
