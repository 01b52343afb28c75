"""Carries out a restore into a running cluster, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.engine.contracts import RestoreJob
from include.engine.errors import MainstayError
from include.engine.model import Check, Restored, RestorePlan, Stage, Verdict
from include.engine.sandbox.home import Home
from include.engine.store.bucket import Bucket
from include.engine.store.shared import SharedFolder
from include.engine.systems.cassandra import checks
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.cut import detail_of
from include.engine.systems.cassandra.landing import Destination, Landing
from include.engine.systems.cassandra.ring import require_all_up
from include.engine.systems.cassandra.schema import Statement
from include.engine.systems.cassandra.selection import Method, Selection, files_of
from include.engine.systems.cassandra.staging import InSandbox, OnNodes, OnWorker, Staging, alone
from include.engine.systems.cassandra.unfinished import Begun, Unfinished

if TYPE_CHECKING:
    from include.engine.systems.cassandra.server import CassandraServer

_FETCH = "fetch"


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
        :raises Contended: when another process on this machine does the same restore
        """
        job, landing = self.job, self.landing
        if sandbox is not None:
            return self._run(method, InSandbox(job, landing, self.files, sandbox), ours=True)
        name = self._unfinished.name
        with alone(self._home, name, job.clock()) as directory:
            if method is Method.LOADER:
                return self._run(method, OnWorker(job, landing, self.files, self._home, directory))
            shared = SharedFolder(self._bucket, job.plan.target)
            return self._run(method, OnNodes(job, landing, self.files, shared, name))

    def _run(self, method: Method, files: Staging, *, ours: bool = False) -> Restored:
        landing, job = self.landing, self.job
        size = sum(file.entry.bytes for file in self.files)
        then, where = self.detail.cut.nodes, job.plan.destination.name
        require_all_up(landing.cql, landing.nodes, "the restore")
        # All that can be refused is asked, and every byte is there and compared, before anything is emptied: a restore that
        # cannot be done costs nobody a row.
        if not ours:
            with self._stage("ask for what is needed"):
                landing.require_fit(method, then, where)
                files.require_ready()
        with self._stage(_FETCH, size):
            job.progress.stage(_FETCH, size)
            files.fetch()
        with self._stage("make the tables"):
            landing.require_fit(method, then, where)  # to fetch may have taken hours
            files.require_whole()
            begun = self._unfinished.find(job.clock())
            emptied = not ours and not job.plan.detail.get("append")
            if emptied:
                landing.empty(job.plan.would_overwrite, spare=begun.tables if begun else ())
            landing.make_tables()
        there = [*landing.derived(), *(begun.derived if begun else ())]
        # What was noted first stays, as that attempt saw the tables as they were; one that has emptied none has noted no table.
        if not ours and (begun is None or (emptied and not begun.tables)):
            self._note(there, emptied=emptied)
        with self._stage(str(method), size):
            landing.filled(method, there, files.fill)
        files.sweep()
        with self._stage("build indexes and views"):
            landing.make_derived(there, job.stop)
        if not ours:
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
