"""Load on Cassandra: rows written and read in a keyspace of the test's own, by the driver in processes of their own."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import msgspec

from include.engine.contracts import Clock, Connection
from include.engine.errors import MainstayError
from include.engine.loading.contracts import LoadRun, Measured, Worker
from include.engine.loading.permission import CANARY
from include.engine.loading.profiles import Profile
from include.engine.loading.schedule import Schedule
from include.engine.loading.workers import generate, limit_by_cost
from include.engine.model import GeneratorLimit, Reading
from include.engine.systems.cassandra.client import Cql, Node, quoted
from include.engine.systems.cassandra.row_load import TABLE
from include.engine.systems.cassandra.workload import Workload

_SCHEMA_TIMEOUT = 120.0  # seconds: a node that flushes takes its time to drop a table
_FILLED_AT_ONCE = 5000
# Else the nodes keep a snapshot of every table that is dropped, as `auto_snapshot` tells them by default: all that was written.
NO_SNAPSHOT = "allow_auto_snapshot = false"
_KNOWS_NO_SNAPSHOT = 5  # the first major version with it


class CassandraLoad:
    """Writes to and reads from one cluster.

    :param connection: of a role that may create keyspaces
    """

    def __init__(self, connection: Connection, profile: Profile) -> None:
        assert isinstance(profile.workload, Workload)
        self._connection = connection
        self._profile = profile
        self._workload = profile.workload
        self._asking: Cql | None = None

    def environment(self) -> Mapping[str, str]:
        """Say how many nodes of which version there are."""
        with Cql(self._connection) as cql:
            ring = cql.ring()
        return {
            "cassandra": ", ".join(sorted({node.version for node in ring})),
            "nodes": str(len(ring)),
            "consistency": self._workload.consistency,
            "client": f"cassandra-driver {version('cassandra-driver')}",
            "snapshots of what is dropped": "none" if _may_drop_without_snapshot(ring) else "as auto_snapshot says",
        }

    def limit(self, run: LoadRun, *, rate: float) -> GeneratorLimit:
        """Try the driver for a second: there is no Cassandra in memory, and only with one does it do its work."""
        return limit_by_cost(self._worker(run), rate, run, bound=self._profile.in_flight, client="the driver")

    def prepare(self, run: LoadRun) -> None:
        """Create the keyspace and the table, and the rows that will be read."""
        load = self._workload
        with Cql(self._connection, timeout=_SCHEMA_TIMEOUT) as cql:
            ring = cql.ring()
            centres = sorted({node.datacenter for node in ring})
            factors = {dc: min(load.replication_factor, sum(node.datacenter == dc for node in ring)) for dc in centres}
            replication = ", ".join(f"'{dc}': {factor}" for dc, factor in factors.items())
            cql.rows(
                f"CREATE KEYSPACE IF NOT EXISTS {quoted(run.name)} WITH replication = "
                f"{{'class': 'NetworkTopologyStrategy', {replication}}}"
            )
            table = f"{quoted(run.name)}.{TABLE}"
            options = f" WITH {NO_SNAPSHOT}" if _may_drop_without_snapshot(ring) else ""
            cql.rows(f"CREATE TABLE IF NOT EXISTS {table} (id bigint PRIMARY KEY, at bigint, value blob){options}")
            if load.reads:
                value = b"x" * load.payload_bytes
                insert = f"INSERT INTO {table} (id, at, value) VALUES (?, ?, ?)"  # noqa: S608 - a name that is ours
                # No more in a second than the inventory allows of the load itself: production feels either.
                rate = run.most or math.inf
                at_once = int(max(1, min(_FILLED_AT_ONCE, rate)))
                for first in range(0, load.rows, at_once):
                    run.stop.check()
                    next_one = time.monotonic() + at_once / rate
                    some = range(first, min(load.rows, first + at_once))
                    cql.many(insert, [(key, 0, value) for key in some])
                    if some.stop < load.rows:
                        time.sleep(max(0.0, next_one - time.monotonic()))

    def measure(self, run: LoadRun, schedule: Schedule) -> Measured:
        """Write and read."""
        return generate(
            self._worker(run),
            schedule,
            processes=run.processes,
            bound=self._profile.in_flight,
            grace=self._profile.grace.total_seconds(),
            stop=run.stop,
            progress=run.progress,
            most=run.most,
        )

    def canary(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read one local row, over a connection that stays open meanwhile: to connect costs a node more than to answer."""
        began = time.monotonic()
        try:
            if self._asking is None:
                self._asking = Cql(self._connection, timeout=timeout)
            self._asking.rows("SELECT release_version FROM system.local", timeout=timeout)
        except MainstayError:
            self._hang_up()
            raise
        return [Reading(metric=CANARY, value=time.monotonic() - began, unit="s", at=clock())]

    def leftovers(self, prefix: str) -> Sequence[str]:
        """Name keyspaces of load tests."""
        with Cql(self._connection) as cql:
            found = cql.rows("SELECT keyspace_name FROM system_schema.keyspaces", consistency="LOCAL_ONE")
        return sorted(row["keyspace_name"] for row in found if row["keyspace_name"].startswith(prefix))

    def remove(self, names: Sequence[str]) -> None:
        """Drop keyspaces."""
        self._hang_up()
        with Cql(self._connection, timeout=_SCHEMA_TIMEOUT) as cql:
            for name in names:
                cql.rows(f"DROP KEYSPACE IF EXISTS {quoted(name)}")

    def _worker(self, run: LoadRun) -> Worker:
        load = self._workload
        parameters = {
            "connection": msgspec.to_builtins(self._connection),
            "keyspace": run.name,
            "timeout": load.timeout_ms / 1000,
            **{
                key: getattr(load, key)
                for key in ("consistency", "payload", "payload_bytes", "rows", "writes", "reads")
            },
        }
        return Worker(module="include.engine.systems.cassandra.row_load", parameters=parameters)

    def _hang_up(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.close()


def _may_drop_without_snapshot(ring: Sequence[Node]) -> bool:
    return all(int(node.version.partition(".")[0]) >= _KNOWS_NO_SNAPSHOT for node in ring)


def open_load(connection: Connection, profile: Profile) -> CassandraLoad:
    """Give the engine for one cluster.  Asks nothing of it yet."""
    return CassandraLoad(connection, profile)
