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
from include.engine.errors import Misconfigured, NotFound, Refused, Unsupported
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
from include.engine.sandbox.ports import require_free
from include.engine.store.catalog import Catalog
from include.engine.systems.postgres import by_hand, guards, inspection, lines, planning, rehearsal, room
from include.engine.systems.postgres.archive import read_histories
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.frozen_log import FrozenLog, await_samples, freeze_log
from include.engine.systems.postgres.landing import Ground, Landing
from include.engine.systems.postgres.selection import Choice, choose_chain, choose_way
from include.engine.systems.postgres.tidying import tidy
from include.engine.systems.postgres.wal_audit import Archive, Histories
from include.engine.systems.postgres.wal_objects import list_wal

_SAMPLES_WITHIN = 60.0  # seconds that a drill waits for the archive to reach the samples of a backup just taken
_PROJECT = Path(__file__).resolve().parents[4]
RESTORED = "restored"  # the server's name in its sandbox


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

    unlooked = (
        "rows were not compared with the backup's samples, pg_amcheck did not look, and rows were not read: --no-checks"
    )

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

        :raises NotFound: when no backup or no log reaches the point
        :raises Unsupported: when PostgreSQL of that version is not here
        :raises Refused: when the destination is in use, the source, not empty, or too small
        """
        guards.require_whole(request)
        point = RecoveryPoint.parse(request.point)
        choice = choose_chain(request.manifests, point, backup=request.backup)
        archive, histories = self.survey(choice.manifest)
        if point.kind is PointKind.LATEST and request.backup is None:
            choice = lines.follow(choice, request.manifests, point, archive, histories)
        way = choose_way(choice.manifest, archive, histories, point)
        passed_by = lines.warnings(choice.manifest, way.timeline, archive, histories)
        detail = PostgresDetail.of(choice.manifest)
        self.binaries(choice.manifest)
        destination = self._destination(request, choice)
        needed = planning.bytes_needed(choice)
        path = Path(destination.path)
        found = guards.NOTHING if request.rehearsal else self._guard(destination, choice, request.confirm)
        room.require_space(path, needed, room.bytes_thrown_away(path, found))
        doing = _plan_id(self.target, choice.manifest.id, point, destination)
        fetched = sum(manifest.bytes for manifest in choice.chain) + planning.log_bytes(archive, way, detail)
        return RestorePlan(
            target=self.target,
            backup=choice.manifest.id,
            chain=tuple(manifest.id for manifest in choice.chain),
            point=point,
            destination=destination,
            bytes_to_fetch=fetched,
            bytes_needed=needed,
            steps=planning.steps(choice, way, point, destination, again=found.left_by(doing)),
            would_overwrite=guards.overwritten(path, found, doing),
            warnings=(*choice.warnings, *way.warnings, *passed_by),
        )

    def restore(self, job: RestoreJob) -> Restored:
        """Do what the plan says (see ``contracts.RestoreEngine``).

        A restore that dies leaves a marked directory, which the next run may throw away.

        :raises Corrupt: naming the object that is not what was backed up
        :raises Refused: when more would be overwritten than the plan says
        """
        kind, path = job.plan.destination.kind, Path(job.plan.destination.path)
        manifest, doing = job.chain[-1], _plan_id(self.target, job.plan.backup, job.plan.point, job.plan.destination)
        ground = self._ready(job)
        found = guards.look(path)
        guards.require_idle(path, found)
        if more := set(guards.overwritten(path, found, doing)) - set(job.plan.would_overwrite):
            raise Refused(
                f"{path} is not as it was planned: the restore would overwrite {', '.join(more)}",
                hint="plan the restore again",
            )
        room.require_space(path, job.plan.bytes_needed, room.bytes_thrown_away(path, found))
        sandbox = self.home.sandbox(self._sandbox_name(job.plan, doing))
        marker = guards.Marker.ours(plan=doing, backup=manifest.id, started=job.clock(), sandbox=sandbox.name)
        if found.marker is not None:  # its server may have outlived it
            self.home.sandbox(found.marker.sandbox).stop()
        sandbox.stop()
        passing = kind is DestinationKind.DIRECTORY
        if kind is DestinationKind.SANDBOX:
            sandbox.directory(f"postgres-{RESTORED}")
        port = None
        if kind is DestinationKind.SERVER:
            port = sandbox.port(f"postgres-{RESTORED}", self.servers[job.plan.destination.name].port)
            require_free(job.plan.destination.name, port)
        # Who comes second ends here, and leaves the sandbox alone: the same restore, begun twice, has one and the same.
        guards.occupy(path, found, marker, sandbox.account)
        if passing:
            sandbox.claim()
        try:
            with sandbox.restoring():
                landing = Landing(ground, job, path, sandbox=sandbox, port=port)
                restored = inspection.land_and_look(landing) if job.checks else landing.land()
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
        backups = [found for found in self.catalog.survey(self.target).manifests if found.id != manifest.id]
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

        :raises Unsupported: with the name of the package to install: this machine lacks something, not the backup
        """
        try:
            return PostgresBinaries.find(PostgresDetail.of(manifest).server_version_num // 10000, Shelf.of(self.home))
        except NotFound as error:
            raise Unsupported(error.message, hint=error.hint) from error

    def _frozen(self, job: RestoreJob) -> FrozenLog | None:
        if job.plan.point.kind is not PointKind.LATEST:
            return None
        manifest, bucket = job.chain[-1], self.catalog.bucket
        await_samples(bucket, self.target, manifest, limit=_SAMPLES_WITHIN, progress=job.progress, stop=job.stop)
        size = PostgresDetail.of(manifest).wal_segment_bytes
        return freeze_log(bucket, self.target, size, self.identities, job.clock)

    def _ready(self, job: RestoreJob) -> Ground:
        """Let all refuse that can, before the destination is looked at and taken: a plan may have waited a day for its approval.

        :raises NotFound: when the log has a gap by now
        :raises Unsupported: when PostgreSQL of that version is not here
        :raises Unauthorized: when no key at hand opens the backup
        """
        ground = self._ground(job)
        for manifest in job.chain:
            job.reader.read(manifest.entries[0])  # a missing key is told at once, before anything is read
        return ground

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

    def _guard(self, destination: Destination, choice: Choice, confirm: str) -> guards.Occupation:
        """Refuse what must not be overwritten; give what is there."""
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
        return found

    @staticmethod
    def _sandbox_name(plan: RestorePlan, doing: str) -> str:
        if plan.destination.kind is DestinationKind.SERVER:
            return f"server-{plan.destination.name}"
        return plan.destination.name or f"restore-{plan.target.name[:24]}-{doing}"


def open_engine(
    target: Target,
    catalog: Catalog,
    identities: Sequence[str] = (),
    servers: Mapping[str, Place] | None = None,
    **_live: object,  # connections and targets: a restore makes its own server and asks no running one
) -> PostgresRestore:
    """Give what restores *target*, for ``wiring``."""
    return PostgresRestore(target, catalog, Home.of(_PROJECT), identities=identities, servers=servers)


def _plan_id(target: Target, backup: str, point: RecoveryPoint, destination: Destination) -> str:
    # Names what a restore does, so that doing it again finds its own remains.
    text = f"{target} {backup} {point} {destination.path}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
