"""Restores a backup: into the ring it came from by import, into any other by sstableloader, into a directory, into a sandbox."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from include.engine import model
from include.engine.contracts import Connections, PlanRequest, Rehearsal, RestoreEngine, RestoreJob
from include.engine.errors import Misconfigured, Refused, Unsupported
from include.engine.inventory import TargetSettings
from include.engine.model import (
    Check,
    DestinationKind,
    Manifest,
    RecoveryPoint,
    Restored,
    RestorePlan,
    Stage,
    Target,
    Verdict,
)
from include.engine.store.catalog import Catalog
from include.engine.systems.cassandra.by_hand import instructions
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.clusters import Clusters
from include.engine.systems.cassandra.cut import detail_of
from include.engine.systems.cassandra.planning import plan_steps, plan_warnings
from include.engine.systems.cassandra.selection import (
    Method,
    Selection,
    StoredFile,
    changed,
    choose_backup,
    files_of,
    require_logged,
    require_readable,
    select,
    until_after,
)

# What fetches and loads is imported by the methods that do: every seal of a set asks this module for a text, and nothing else.
if TYPE_CHECKING:
    from include.engine.sandbox.home import Home

_PROJECT = Path(__file__).resolve().parents[4]


def open_engine(
    target: Target,
    catalog: Catalog,
    *,
    identities: Sequence[str] = (),  # noqa: ARG001 - objects of this system are never encrypted in the client
    servers: Mapping[str, object] | None = None,  # noqa: ARG001 - a cluster is named by its connection
    connections: Connections | None = None,
    targets: Mapping[Target, TargetSettings] | None = None,
) -> RestoreEngine:
    """Give what restores *target*, for ``wiring``."""
    return CassandraRestore(target, catalog, connections=connections, targets=targets or {})


class CassandraRestore:
    """Restores one Cassandra target (see ``contracts.RestoreEngine``).

    :param connections: finds the cluster that is named as the server to restore into
    :param targets: the inventory's, which say how the nodes of their clusters are reached
    """

    def __init__(
        self,
        target: Target,
        catalog: Catalog,
        *,
        connections: Connections | None,
        targets: Mapping[Target, TargetSettings],
    ) -> None:
        self.target = target
        self.catalog = catalog
        self._clusters = Clusters(target, connections, targets)

    @cached_property
    def home(self) -> Home:
        """Where sandboxes and fetched files lie."""
        from include.engine.sandbox.home import Home

        return Home.of(_PROJECT)

    def plan(self, request: PlanRequest) -> RestorePlan:
        """Decide what a restore would do (see ``contracts.RestoreEngine``)."""
        manifest = choose_backup(request.manifests, request.backup, request.point)
        detail = detail_of(manifest)
        selection = select(detail.cut.schema, request.only, request.rename)
        files = files_of(manifest, selection)
        kind = DestinationKind(request.destination_kind)
        logs, altered, ring = self._logs(request, manifest, kind, selection)
        overwritten: list[str] = []
        spared: list[str] = []
        method = Method.FILES if kind is DestinationKind.DIRECTORY else Method.IMPORT
        path, name = "", request.server
        if kind is DestinationKind.DIRECTORY:
            path = str(_empty_directory(request.path))
        elif kind is DestinationKind.SERVER:
            method, overwritten, spared = self._clusters.look(self.catalog.bucket, request, manifest, selection, files)
        else:
            name, overwritten = self._look_at_sandbox(request, manifest, selection, files)
        size = sum(file.entry.bytes for file in files) + logs
        return RestorePlan(
            target=self.target,
            backup=manifest.id,
            chain=(manifest.id,),
            point=RecoveryPoint.parse(request.point),
            destination=model.Destination(kind=kind, path=path, name=name),
            bytes_to_fetch=size,
            bytes_needed=2 * size if method is Method.LOADER else size,
            steps=plan_steps(method, kind, selection, request.point if logs else ""),
            would_overwrite=tuple(overwritten),
            warnings=plan_warnings(selection, detail, request, changed=altered, spared=spared, ring=ring),
            detail={
                "method": str(method),
                "tables": [list(table) for table in selection.tables],
                "tableless": list(selection.tableless),
                "rename": selection.rename,
                "append": request.append,
            },
        )

    def restore(self, job: RestoreJob) -> Restored:
        """Do what the plan says, and check it (see ``contracts.RestoreEngine``)."""
        from include.engine.systems.cassandra.restoration import Restoration

        kind = job.plan.destination.kind
        if kind is DestinationKind.SANDBOX:
            return self._into_lasting_sandbox(job)
        if kind is DestinationKind.DIRECTORY:
            return self._into_directory(job)
        destination = self._clusters.find(job.plan.destination.name, detail_of(job.chain[-1]))
        with Cql(destination.connection, timeout=60) as cql:
            return Restoration(job, self.catalog.bucket, self.home, cql, destination).run(
                Method(job.plan.detail["method"])
            )

    def rehearse(self, job: RestoreJob) -> AbstractContextManager[Rehearsal]:
        """Restore into a sandbox and check it (see ``contracts.RestoreEngine``)."""
        return self._rehearse(job)

    def by_hand(self, manifest: Manifest) -> str:
        """Say in Markdown how to restore *manifest* with stock tools only (see ``contracts.RestoreEngine``)."""
        return instructions(manifest, bucket=self.catalog.bucket.url)

    @contextmanager
    def _rehearse(self, job: RestoreJob) -> Iterator[Rehearsal]:
        from include.engine.systems.cassandra.into_sandbox import heap_here, into_node
        from include.engine.systems.cassandra.restoration import since
        from include.engine.systems.cassandra.server import CassandraServer

        heap = heap_here(job)
        with self.home.for_drill(self.target.name) as sandbox:
            began = time.monotonic()
            server = CassandraServer(sandbox, "restored", jolokia=False, heap=heap).start()
            started = Stage(name="start a node", seconds=since(began), counts=False)
            restored = into_node(self.catalog.bucket, self.home, job, server)
            restored = msgspec.structs.replace(restored, stages=(started, *restored.stages))
            # What was acknowledged before the snapshot began is in it: that moment is the age of the newest proved record.
            proved = all(check.verdict is Verdict.PASS for check in restored.checks)
            newest = job.chain[-1].cut.at if proved else None
            yield Rehearsal(
                restored=restored,
                checks=restored.checks,
                newest_record=newest,
                newest_at_source=None,
                connection=server.connection(),
            )

    def _into_lasting_sandbox(self, job: RestoreJob) -> Restored:
        from include.engine.systems.cassandra.into_sandbox import heap_here, into_node
        from include.engine.systems.cassandra.lasting_sandbox import LastingSandbox

        lasting = LastingSandbox(self.home, job.plan.destination.name)
        with lasting.begun(heap_here(job)) as server:
            restored = into_node(self.catalog.bucket, self.home, job, server)
        return msgspec.structs.replace(
            restored,
            address=f"{server.host}:{server.native_port}",
            detail={**restored.detail, "sandbox": lasting.name, "nodetool": str(server.nodes[0].nodetool_path)},
        )

    def _look_at_sandbox(
        self, request: PlanRequest, manifest: Manifest, selection: Selection, files: Sequence[StoredFile]
    ) -> tuple[str, list[str]]:
        """Name the sandbox, and say whether somebody may be looking at what an earlier restore has brought there.

        :raises Unsupported: when our Cassandra is older than the files
        """
        from include.engine.systems.cassandra import program
        from include.engine.systems.cassandra.lasting_sandbox import LastingSandbox, name_of

        require_readable(files, [program.CASSANDRA.version])
        name = name_of(self.target, manifest.id, RecoveryPoint.parse(request.point).time, selection)
        # What an attempt left that did not come to its end is nobody's: a retry must not ask for leave to go on.
        done = LastingSandbox(self.home, name).done
        return name, [f"the sandbox {name}, where the same was restored before"] if done else []

    def _into_directory(self, job: RestoreJob) -> Restored:
        from include.engine.systems.cassandra import fetch
        from include.engine.systems.cassandra.restoration import selection_of, since

        manifest = job.chain[-1]
        selection = selection_of(job.plan)
        directory = _empty_directory(job.plan.destination.path)
        files = files_of(manifest, selection)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)  # rows are in it; one that was there stays as it is
        began = time.monotonic()
        job.progress.stage("fetch", sum(file.entry.bytes for file in files))
        fetched = fetch.to_here(files, directory, job.reader, job.progress, job.stop)
        schema = selection.part_of(detail_of(manifest).cut.schema)
        (directory / "schema.cql").write_text(schema.text())
        (directory / "RESTORE.md").write_text(self.by_hand(manifest))
        whole = Check(name="files", verdict=Verdict.PASS, detail=f"{len(files)} files, each compared with its SHA-256")
        return Restored(
            target=self.target,
            backup=manifest.id,
            address=str(directory),
            recovered_to=manifest.cut.at,
            stages=(Stage(name="fetch", seconds=since(began), bytes=fetched),),
            checks=(whole,),
        )

    def _logs(
        self, request: PlanRequest, manifest: Manifest, kind: DestinationKind, selection: Selection
    ) -> tuple[int, list[str], Collection[str]]:
        """Look whether the archived commit logs lead to the point in time, if one is asked for.

        :returns: their bytes, the tables of which they may not tell all, and the nodes of the ring as it is now, if it answered
        """
        point = RecoveryPoint.parse(request.point).time
        if point is None:
            return 0, [], ()
        from include.engine.systems.cassandra.replay import segments_for

        if kind is not DestinationKind.SANDBOX or request.rename:
            raise Unsupported(
                "commit logs are replayed by a server as it starts, under the names that tables had: into a sandbox",
                hint="use --to-sandbox without --rename; its tables can be loaded from there, as docs/cassandra.md says",
            )
        manifests = until_after(request.manifests, manifest, point)
        require_logged(manifests, selection)
        ring = self._clusters.born_now(detail_of(manifest))
        logs = sum(segment.bytes for segment in segments_for(self.catalog.bucket, manifests, point, ring))
        return logs, changed(manifests, selection), ring


def _empty_directory(path: str) -> Path:
    if not path:
        raise Misconfigured("no directory to restore into is named", hint="name an empty one with --to")
    directory = Path(path)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise Refused(f"{directory} is not an empty directory", hint="name another one, or empty it yourself")
    return directory
