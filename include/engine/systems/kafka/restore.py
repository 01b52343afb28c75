"""Restores topics and groups from the bucket alone: into a running cluster, a new one in a directory, or a sandbox."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from include.engine.contracts import Connection, Connections, PlanRequest, Rehearsal, RestoreJob
from include.engine.errors import Misconfigured, Refused
from include.engine.model import (
    Check,
    Destination,
    DestinationKind,
    Manifest,
    Moved,
    RecoveryPoint,
    Restored,
    RestorePlan,
    Stage,
    Target,
    Verdict,
)
from include.engine.systems.kafka import checks, groups
from include.engine.systems.kafka import detail as details
from include.engine.systems.kafka.by_hand import instructions
from include.engine.systems.kafka.client import Admin, open_admin
from include.engine.systems.kafka.decisions import Decisions, decide, holding
from include.engine.systems.kafka.declared import topic_defaults
from include.engine.systems.kafka.detail import Saved
from include.engine.systems.kafka.held import reaches
from include.engine.systems.kafka.loading import LoadedPartition, Loading
from include.engine.systems.kafka.places import admit_directory, lasting_cluster, new_cluster, sandbox_cluster
from include.engine.systems.kafka.restore_plan import choose, decided, planned


def open_engine(
    target: Target,
    catalog: object,
    *,
    identities: Sequence[str] = (),
    servers: Mapping[str, object] | None = None,
    connections: Connections | None = None,
    targets: Mapping[Target, object] | None = None,
) -> KafkaRestore:
    """Open what restores *target*.

    :param connections: finds the cluster that a restore to a ``server`` names, by the name of its connection
    """
    del catalog, identities, servers, targets
    return KafkaRestore(target, connections)


@dataclass
class _Loaded:
    """A cluster after the records are in."""

    partitions: list[LoadedPartition]
    moved: list[groups.Moved]
    asked: tuple[Moved, ...]  # where the positions are that the job asked about
    stayed: list[str]  # groups that were not moved, and why
    stages: list[Stage] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


class KafkaRestore:
    """Restores one cluster's backups (see ``contracts.RestoreEngine``)."""

    def __init__(self, target: Target, connections: Connections | None) -> None:
        self.target = target
        self._connections = connections

    def plan(self, request: PlanRequest) -> RestorePlan:
        """Decide what a restore would do (see ``contracts.RestoreEngine``)."""
        point = RecoveryPoint.parse(request.point)
        saved = details.read(choose(self.target, request, point))
        until = int(point.time.timestamp() * 1000) if point.time is not None else None
        kind = DestinationKind(request.destination_kind)
        destination = Destination(kind=kind, path=request.path, name=request.server)
        if kind is DestinationKind.SERVER:
            with open_admin(self._connection(request.server)) as admin:
                self._guard(admin, saved, request)
                decisions = decided(admin, saved, request, until)
        else:
            if kind is DestinationKind.DIRECTORY:
                admit_directory(request.path)
            decisions = decide(
                saved,
                only=request.only,
                rename=request.rename,
                append=request.append,
                until=until,
                brokers=1,
                existing={},
                resuming=frozenset(),
                access=request.access is not False,  # nobody else uses the cluster that we start
            )
        return planned(self.target, saved, point, destination, decisions)

    def restore(self, job: RestoreJob) -> Restored:
        """Do what the plan says; the cluster serves afterwards (see ``contracts.RestoreEngine``)."""
        saved = details.read(job.chain[-1])
        decisions = _decisions(job.plan)
        destination = job.plan.destination
        if destination.kind is DestinationKind.SERVER:
            connection = self._connection(destination.name)
            # The plan may be a day old: what is there now decides.
            return self._into(connection, saved, decisions, job, stages=[])
        began, path = time.monotonic(), Path(destination.path)
        lasting = destination.kind is DestinationKind.SANDBOX
        cluster = lasting_cluster(self.target, saved.manifest.id) if lasting else new_cluster(path, self.target.name)
        with cluster.sandbox.restoring():  # the broker outlives us, whatever happens
            cluster.start()
            stages = [Stage(name="start", seconds=time.monotonic() - began)]
            return self._into(cluster.connection(), saved, decisions, job, stages=stages)

    @contextmanager
    def rehearse(self, job: RestoreJob) -> Iterator[Rehearsal]:
        """Restore into a sandbox of one broker and check everything (see ``contracts.RestoreEngine``)."""
        saved = details.read(job.chain[-1])
        decisions = _decisions(job.plan)
        began = time.monotonic()
        with sandbox_cluster(self.target) as cluster:
            stages = [Stage(name="start", seconds=time.monotonic() - began)]
            restored = self._into(cluster.connection(), saved, decisions, job, stages=stages, thorough=True)
            proved = restored.verdict is Verdict.PASS
            yield Rehearsal(
                restored=restored,
                checks=restored.checks,
                # All that was acknowledged before the cut is in the backup, and all of the backup is back: that is the
                # newest point, though an idle topic's newest record may be older; a hanging transaction holds it back.
                newest_record=reaches(saved.detail.held, saved.manifest.cut.at) if proved else None,
                newest_at_source=None,
                connection=cluster.connection(),
            )

    def by_hand(self, manifest: Manifest) -> str:
        """Say how to restore with stock tools (see ``contracts.RestoreEngine``)."""
        return instructions(details.read(manifest))

    def _into(
        self,
        connection: Connection,
        saved: Saved,
        decisions: Decisions,
        job: RestoreJob,
        *,
        stages: list[Stage],
        thorough: bool = False,
    ) -> Restored:
        with open_admin(connection) as admin:
            decisions = holding(_refreshed(admin, decisions), saved, job.clock(), defaults=topic_defaults(admin))
            loaded = _load(admin, connection, saved, decisions, job, thorough=thorough)
            address = ",".join(f"{broker.host}:{broker.port}" for broker in admin.brokers())
        until = decisions.until
        return Restored(
            target=self.target,
            backup=saved.manifest.id,
            address=address,
            # Not the cut: what is behind a transaction that hung at it did not come back.
            recovered_to=datetime.fromtimestamp(until / 1000, UTC)
            if until is not None
            else saved.manifest.recoverable_to,
            stages=(*stages, *loaded.stages),
            checks=tuple(loaded.checks),
            detail={
                "records": sum(p.records for p in loaded.partitions),
                "topics": {t.source: t.name for t in decisions.topics},
                "groups": [msgspec.to_builtins(moved) for moved in loaded.moved],
                "warnings": [*decisions.warnings, *loaded.stayed],
            },
            moved=loaded.asked,
        )

    def _connection(self, name: str) -> Connection:
        if not name or self._connections is None:
            raise Misconfigured("the destination names no server", hint="give the name of its connection")
        return self._connections.get(name)

    def _guard(self, admin: Admin, saved: Saved, request: PlanRequest) -> None:
        """Let nobody write into the source by accident."""
        if admin.cluster_id() == saved.manifest.source.identity and request.confirm != str(self.target):
            raise Refused(
                f"{request.server} is the cluster that was backed up",
                hint=f"restore into another one, or confirm by typing {self.target}",
            )


def _load(
    admin: Admin, connection: Connection, saved: Saved, decisions: Decisions, job: RestoreJob, *, thorough: bool
) -> _Loaded:
    loading = Loading(admin, connection, saved, decisions, reader=job.reader, progress=job.progress, stop=job.stop)
    stages = []
    began = time.monotonic()
    groups.require_stopped(admin, saved, {topic.source for topic in decisions.topics})
    partitions = loading.prepare()
    stages.append(Stage(name="topics", seconds=time.monotonic() - began))
    job.progress.stage("load records", job.plan.bytes_to_fetch)
    began = time.monotonic()
    loading.load(partitions)
    stages.append(Stage(name="records", seconds=time.monotonic() - began, bytes=job.plan.bytes_to_fetch))
    found: list[Check] = []
    if thorough:  # before the configurations are back: retention may then begin to delete
        began = time.monotonic()
        found += checks.after_load(admin, connection, partitions)
        stages.append(Stage(name="check records", seconds=time.monotonic() - began, counts=False))
    began = time.monotonic()
    moved = groups.translate(saved, partitions, until=decisions.until, reader=job.reader)
    stay = groups.with_unread(admin, moved, partitions) if decisions.append else []
    moved = [one for one in moved if one not in stay]
    groups.apply(admin, moved)
    asked = groups.find(saved, partitions, job, until=decisions.until)
    stages.append(Stage(name="groups", seconds=time.monotonic() - began))
    if thorough:
        began = time.monotonic()
        until = decisions.until
        found.append(checks.reading_on(admin, connection, saved, partitions, moved, until=until, reader=job.reader))
        stages.append(Stage(name="check groups", seconds=time.monotonic() - began, counts=False))
    loading.put_back()
    if decisions.grants is not None:  # last: from here on they may keep us out
        found += checks.granted(admin, decisions.grants)
    found += checks.after_finish(admin, decisions, moved)
    loading.forget()
    stayed = [
        f"{one.group} stays where it is in {one.target}: it reads what it has not read yet, then all that was appended"
        for one in stay
    ]
    return _Loaded(partitions=partitions, moved=moved, asked=asked, stayed=stayed, stages=stages, checks=found)


def _refreshed(admin: Admin, decisions: Decisions) -> Decisions:
    """Look again which topics exist: an earlier attempt may have created some."""
    found = admin.topics([topic.name for topic in decisions.topics])
    topics = tuple(msgspec.structs.replace(topic, exists=topic.name in found) for topic in decisions.topics)
    return msgspec.structs.replace(decisions, topics=topics)


def _decisions(plan: RestorePlan) -> Decisions:
    return msgspec.convert(plan.detail, Decisions)
