"""Carries out a restore into a running cluster, stage by stage."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from include.engine.contracts import RestoreJob
from include.engine.errors import MainstayError
from include.engine.model import Check, Restored, RestorePlan, Stage, Verdict
from include.engine.sandbox.accounts import own_tree
from include.engine.sandbox.home import Home
from include.engine.store.bucket import Bucket
from include.engine.store.shared import SharedFolder
from include.engine.systems.cassandra import checks, fetch
from include.engine.systems.cassandra.client import Cql, Node
from include.engine.systems.cassandra.cut import detail_of
from include.engine.systems.cassandra.landing import Destination, Landing
from include.engine.systems.cassandra.ring import data_directories, require_all_up
from include.engine.systems.cassandra.schema import Statement
from include.engine.systems.cassandra.selection import Method, Selection, files_of, require_taken
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import quote, transport_to
from include.engine.systems.cassandra.unfinished import Begun, Unfinished

if TYPE_CHECKING:
    from include.engine.systems.cassandra.server import CassandraServer

_FETCH = "fetch"

Work = Callable[[], None]


class Restoration:
    """One restore of one plan into one cluster."""

    def __init__(self, job: RestoreJob, bucket: Bucket, home: Home, cql: Cql, destination: Destination) -> None:
        self.job = job
        self._bucket = bucket
        self._home = home
        self.manifest = job.chain[-1]
        self.detail = detail_of(self.manifest)
        self.selection = selection_of(job.plan)
        self.files = files_of(self.manifest, self.selection)
        ids = self.detail.cut.table_ids if job.plan.point.time else None
        self.landing = Landing(cql, destination, self.detail.cut.schema, self.selection, ids=ids)
        self.stages: list[Stage] = []
        self._unfinished = Unfinished(
            bucket, job.plan.target, self.manifest.id, job.plan.destination.name, self.selection
        )

    def run(self, method: Method, *, sandbox: CassandraServer | None = None) -> Restored:
        """Make the tables, bring the rows, build what is derived from them, and compare.

        :param sandbox: the cluster, when it is one of ours: files need not be sent to it
        """
        landing, job = self.landing, self.job
        size = sum(file.entry.bytes for file in self.files)
        require_all_up(landing.cql, landing.nodes, "the restore")
        # Every byte is here and compared before anything is emptied: a backup that cannot be read costs nobody a row.
        if method is Method.LOADER:
            fill, sweep = self._fetched_to_load(size)
        elif sandbox is not None:
            fill, sweep = self._fetched_to_sandbox(sandbox, size)
        else:
            fill, sweep = self._fetched_to_nodes(size)
        with self._stage("make the tables"):
            begun = self._unfinished.find(job.clock())
            emptied = sandbox is None and not job.plan.detail.get("append")
            if emptied:
                landing.empty(job.plan.would_overwrite, spare=begun.tables if begun else ())
            landing.make_tables()
        there = [*landing.derived(), *(begun.derived if begun else ())]
        # What was noted first stays, as that attempt saw the tables as they were; one that has emptied none has noted no table.
        if sandbox is None and (begun is None or (emptied and not begun.tables)):
            self._note(there, emptied=emptied)
        with self._stage(str(method), size):
            landing.filled(method, there, fill)
        sweep()
        with self._stage("build indexes and views"):
            landing.make_derived(there, job.stop)
        if sandbox is None:
            self._forget()
        with self._stage("check", counts=False):
            found = self._checks()
        return Restored(
            target=self.job.plan.target,
            backup=self.manifest.id,
            address=", ".join(node.address for node in self.landing.nodes),
            recovered_to=self.manifest.cut.at,
            stages=tuple(self.stages),
            checks=tuple(found),
            detail={"method": str(method), "tables": [f"{k}.{t}" for k, t in self.landing.tables]},
        )

    def _note(self, there: Sequence[Statement], *, emptied: bool) -> None:
        tables = tuple(f"{keyspace}.{table}" for keyspace, table in self.landing.tables) if emptied else ()
        try:
            self._unfinished.note(Begun(at=self.job.clock(), tables=tables, derived=tuple(there)))
        except MainstayError as error:
            # On a bare machine the key pair may be one that can only read: the restore itself must not fail for that.
            self.job.progress.say(f"that the restore has begun could not be noted in the bucket: {error.message}")

    def _forget(self) -> None:
        try:
            self._unfinished.forget()
        except MainstayError as error:
            self.job.progress.say(
                f"the note that this restore has begun is still in the bucket: {error.message}; who restores the same backup"
                " within a day is told that its tables are not emptied"
            )

    def _fetched_to_load(self, size: int) -> tuple[Work, Work]:
        """Fetch for sstableloader; give what loads the rows, and what removes the files afterwards."""
        text = f"{self.job.plan.target} {self.manifest.id} {self.job.plan.destination.name}"
        directory = self._home.root / "restores" / hashlib.sha256(text.encode()).hexdigest()[:16]
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fetch_here(directory, size)
        return (
            lambda: self.landing.load_files(directory, self._home, self.job.progress, self.job.stop),
            lambda: shutil.rmtree(directory, ignore_errors=True),
        )

    def _fetched_to_sandbox(self, server: CassandraServer, size: int) -> tuple[Work, Work]:
        """Fetch for a node of ours (see :meth:`_fetched_to_load`)."""
        directory = server.nodes[0].staging
        self._fetch_here(directory, size)
        own_tree(directory, server.sandbox.account)
        return (
            lambda: self.landing.import_files({self.landing.nodes[0].host_id: self._folders(str(directory))}),
            lambda: shutil.rmtree(directory, ignore_errors=True),
        )

    def _fetched_to_nodes(self, size: int) -> tuple[Work, Work]:
        """Let the nodes fetch (see :meth:`_fetched_to_load`)."""
        settings = self.landing.destination.settings
        assert settings is not None
        shared = SharedFolder(self._bucket, self.job.plan.target)
        single = len(self.landing.nodes) == 1
        if not single:
            require_taken(self.files, [node.host_id for node in self.landing.nodes])
        staged = {node.host_id: self._staging(node, settings) for node in self.landing.nodes}

        def fetch_on(node: Node) -> None:
            fetch.to_node(
                [file for file in self.files if single or file.host_id == node.host_id],
                staged[node.host_id],
                shared,
                transport_to(settings, node.address),
                progress=self.job.progress,
                stop=self.job.stop,
                timeout=settings.timeout.total_seconds(),
                rate=settings.restore_bandwidth_bytes,
            )

        with self._stage(_FETCH, size):
            self.job.progress.stage(_FETCH, size)
            side_by_side(fetch_on, self.landing.nodes)
        folders = {
            node.host_id: self._folders(staged[node.host_id], None if single else node.host_id)
            for node in self.landing.nodes
        }

        def sweep() -> None:
            for node in self.landing.nodes:
                transport_to(settings, node.address).run(f"rm -rf -- {quote(staged[node.host_id])}", timeout=600)

        return lambda: self.landing.import_files(folders), sweep

    def _staging(self, node: Node, settings: Settings) -> str:
        """A directory on the node's data disk: files that lie there move into a table without being copied."""
        first = data_directories(self.landing.cql, node)[0].rstrip("/")
        top = settings.node(node.address).staging or f"{first.rpartition('/')[0]}/mainstay-restore"
        return f"{top}/{self.manifest.id}"

    def _fetch_here(self, directory: Path, size: int) -> None:
        with self._stage(_FETCH, size):
            self.job.progress.stage(_FETCH, size)
            fetch.to_here(self.files, directory, self.job.reader, self.job.progress, self.job.stop)

    def _folders(self, top: str, host_id: str | None = None) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for file in self.files:
            if host_id in (None, file.host_id):
                found[file.keyspace, file.table].add(f"{top}/{file.host_id}/{file.keyspace}/{file.table}")
        return {table: sorted(folders) for table, folders in found.items()}

    def _checks(self) -> list[Check]:
        cql = self.landing.cql
        found = [
            checks.timed(lambda: checks.schema_is_equal(cql, self.landing.schema)),
            checks.timed(lambda: checks.reads_at_quorum(cql, self.landing.tables)),
        ]
        if self.job.plan.detail.get("append"):
            why = "rows were added to what was there: there is nothing to compare them with"
            return [*found, Check(name="rows", verdict=Verdict.UNVERIFIED, detail=why)]
        samples = checks.samples_of(self.manifest, self.selection)
        return found + checks.rows_are_equal(cql, samples, self.job.clock)

    @contextmanager
    def _stage(self, name: str, size: int = 0, *, counts: bool = True) -> Iterator[None]:
        self.job.stop.check()
        began = time.monotonic()
        if name != _FETCH:  # which counts its bytes as they come
            self.job.progress.stage(name)
        yield
        self.stages.append(Stage(name=name, seconds=since(began), bytes=size, counts=counts))


def selection_of(plan: RestorePlan) -> Selection:
    """Read what a plan has decided to restore."""
    return Selection(
        tables=tuple((str(keyspace), str(table)) for keyspace, table in plan.detail["tables"]),
        rename=dict(plan.detail["rename"]),
        tableless=tuple(plan.detail.get("tableless", ())),
    )


def since(began: float) -> float:
    """Give the seconds since *began*, to the millisecond."""
    return round(time.monotonic() - began, 3)
