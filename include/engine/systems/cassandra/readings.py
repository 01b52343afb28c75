"""What the probes of a cluster read, and how.

The nodes that are up are read, and reading raises when one of these does not answer: a number that could not be read is never
invented.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.errors import Incomplete, PermanentError, Unreachable
from include.engine.model import Reading
from include.engine.systems.cassandra.client import Cql, Node
from include.engine.systems.cassandra.control import Jolokia
from include.engine.systems.cassandra.node_configuration import STORAGE_SERVICE
from include.engine.systems.cassandra.ring import data_directories
from include.engine.systems.cassandra.schema import SYSTEM_KEYSPACES
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import quote, transport_to

_PATIENCE = 5.0  # seconds after which a node that gives no answer counts as down
_REPAIRS_LOOKED_AT = 500  # of a table's newest: some fail, each is one range
_METRICS = "org.apache.cassandra.metrics:type="
_HINTS_FOLDER = "SELECT value FROM system_views.settings WHERE name = 'hints_directory'"
_HINTS_FILE = re.compile(r"-(?P<began>[0-9]+)-[0-9]+\.hints$")
# One request to each node asks for all of these.
ASKED: Sequence[tuple[str, str, str, str]] = (
    ("cassandra.compactions.pending", "compactions", f"{_METRICS}Compaction,name=PendingTasks", "Value"),
    ("cassandra.messages.dropped", "messages", f"{_METRICS}DroppedMessage,scope=*,name=Dropped", "Count"),
    ("cassandra.messages.dropping", "messages/s", f"{_METRICS}DroppedMessage,scope=*,name=Dropped", "FiveMinuteRate"),
    ("cassandra.load", "bytes", f"{_METRICS}Storage,name=Load", "Count"),
    ("cassandra.exceptions", "exceptions", f"{_METRICS}Storage,name=Exceptions", "Count"),
    ("cassandra.hints.written", "hints", f"{_METRICS}Storage,name=TotalHints", "Count"),
    ("cassandra.streams", "streams", "org.apache.cassandra.net:type=StreamManager", "CurrentStreams"),
    ("cassandra.nodes.unreachable", "nodes", STORAGE_SERVICE, "UnreachableNodes"),
)


class Look(Struct, frozen=True):
    """What a probe has at hand while it reads."""

    cql: Cql
    settings: Settings
    connection: Connection
    at: datetime
    timeout: float

    def reading(self, metric: str, value: float, unit: str, **labels: str) -> Reading:
        """Give a reading of this moment."""
        return Reading(metric=metric, value=float(value), unit=unit, at=self.at, labels=labels)

    def rows(
        self, statement: str, parameters: Sequence[object] = (), *, at: Node | None = None
    ) -> list[dict[str, Any]]:
        """Ask, within the probe's time."""
        return self.cql.rows(statement, parameters, at=at, timeout=self.timeout)

    def states(self) -> Mapping[Node, str | None]:
        """Ask every node of the ring itself, and give the version of its schema; None for one that is down."""

        def one(node: Node) -> str | None:
            try:
                rows = self.cql.rows(
                    "SELECT schema_version FROM system.local", at=node, timeout=min(_PATIENCE, self.timeout)
                )
            except Unreachable:
                return None
            return str(rows[0]["schema_version"])

        nodes = self.cql.ring()
        return dict(zip(nodes, side_by_side(one, nodes), strict=True))

    def on_all(self, work: Callable[[Node], list[Reading]]) -> Iterator[Reading]:
        """Read every node that is up.

        :raises Unreachable: when none is, or one of them does not answer now
        """
        up = [node for node, version in self.states().items() if version is not None]
        if not up:
            raise Unreachable("no node of the ring answers", hint="check that they are up with `nodetool status`")
        for readings in side_by_side(work, up):
            yield from readings


def read_nodes(look: Look) -> Iterator[Reading]:
    """Read which nodes answer, and whether those agree about the schema."""
    states = look.states()
    for node, version in states.items():
        labels = {"node": node.address, "datacenter": node.datacenter, "rack": node.rack}
        yield look.reading("cassandra.node.up", version is not None, "1", **labels)
    yield look.reading("cassandra.nodes.up", sum(version is not None for version in states.values()), "nodes")
    yield look.reading("cassandra.nodes.down", sum(version is None for version in states.values()), "nodes")
    yield look.reading("cassandra.schema.versions", len({v for v in states.values() if v is not None}), "versions")


def read_pools(look: Look) -> Iterator[Reading]:
    """Read the tasks that wait for a thread, and those that wait for room to wait; idle pools are summed up only."""

    def one(node: Node) -> list[Reading]:
        pools = look.rows("SELECT name, pending_tasks, blocked_tasks FROM system_views.thread_pools", at=node)
        found = [
            look.reading(
                f"cassandra.tasks.{kind}", pool[f"{kind}_tasks"], "tasks", node=node.address, pool=pool["name"]
            )
            for pool in pools
            for kind in ("pending", "blocked")
            if pool[f"{kind}_tasks"]
        ]
        for kind in ("pending", "blocked"):
            total = sum(pool[f"{kind}_tasks"] for pool in pools)
            found.append(look.reading(f"cassandra.tasks.{kind}", total, "tasks", node=node.address, pool="all"))
        return found

    yield from look.on_all(one)


def read_jolokia(look: Look) -> Iterator[Reading]:
    """Read what only JMX tells, in one request for each node."""

    def one(node: Node) -> list[Reading]:
        port = look.settings.node(node.address).jolokia_port
        assert port is not None
        agent = Jolokia(node.address, port, look.connection, timeout=look.timeout)
        values = agent.ask_all([{"type": "read", "mbean": bean, "attribute": name} for _, _, bean, name in ASKED])
        return [
            look.reading(metric, _number(value), unit, node=node.address)
            for (metric, unit, _, _), value in zip(ASKED, values, strict=True)
        ]

    yield from look.on_all(one)


def read_disks(look: Look) -> Iterator[Reading]:
    """Read how full the disks are that hold data; two directories on one disk are one reading."""

    def one(node: Node) -> list[Reading]:
        folders = " ".join(map(quote, data_directories(look.cql, node)))
        said = transport_to(look.settings, node.address).run(f"df -Pk -- {folders}", timeout=look.timeout)
        found: dict[str, Reading] = {}
        for line in said.splitlines()[1:]:
            _, _, used, free, _, mount = line.split(None, 5)
            share = 100 * int(used) / max(1, int(used) + int(free))
            found[mount] = look.reading("cassandra.disk.used", share, "%", node=node.address, mount=mount)
        return list(found.values())

    yield from look.on_all(one)


def read_hints(look: Look) -> Iterator[Reading]:
    """Read what nodes keep for others that were down, and since when.

    From the files themselves, whose names say when they were begun: ``system_views.pending_hints`` leaves out the file that is
    being written, which is all there is until 128 MiB are full or the other node is back.
    """

    def one(node: Node) -> list[Reading]:
        folder = next((row["value"] for row in look.rows(_HINTS_FOLDER, at=node)), None)
        if not folder:
            raise Incomplete(f"{node.address} does not say where its hints lie", hint="set hints_directory there")
        listing = transport_to(look.settings, node.address).run(f"ls -ln -- {quote(str(folder))}", timeout=look.timeout)
        files = hint_files(listing)
        found = [look.reading("cassandra.hints.bytes", sum(files.values()), "bytes", node=node.address)]
        if files:
            age = max(0.0, look.at.timestamp() - min(files) / 1000)
            found.append(look.reading("cassandra.hints.age", age, "s", node=node.address))
        return found

    yield from look.on_all(one)


def hint_files(listing: str) -> dict[int, int]:
    """Give when each file of hints was begun, in milliseconds since the epoch, and its bytes, from what ``ls -ln`` says.

    A name is ``<host id>-<milliseconds>-<version>.hints`` (org.apache.cassandra.hints.HintsDescriptor).
    """
    found: dict[int, int] = {}
    for line in listing.splitlines():
        if name := _HINTS_FILE.search(line):
            began = int(name["began"])
            found[began] = found.get(began, 0) + int(line.split(None, 5)[4])
    return found


def read_snapshots(look: Look) -> Iterator[Reading]:
    """Read the disk space that snapshots hold, and which nobody will clear: those without a time to live."""

    def one(node: Node) -> list[Reading]:
        rows = look.rows("SELECT name, expires_at, true_size FROM system_views.snapshots", at=node)
        lasting = {row["name"] for row in rows if row["expires_at"] is None}
        size = sum(row["true_size"] or 0 for row in rows)
        return [
            look.reading("cassandra.snapshots", len({row["name"] for row in rows}), "snapshots", node=node.address),
            look.reading("cassandra.snapshots.lasting", len(lasting), "snapshots", node=node.address),
            look.reading("cassandra.snapshots.bytes", size, "bytes", node=node.address),
        ]

    yield from look.on_all(one)


def read_repairs(look: Look) -> Iterator[Reading]:
    """Read when tables of several copies were repaired last; the history remembers what was done in the last month or so."""
    never = 0
    for keyspace, copies in _copies(look).items():
        if sum(copies.values()) < 2:
            continue
        tables = look.rows("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", (keyspace,))
        for table in sorted(row["table_name"] for row in tables):
            rows = look.rows(
                "SELECT finished_at, status FROM system_distributed.repair_history WHERE keyspace_name = %s"
                " AND columnfamily_name = %s ORDER BY id DESC LIMIT %s",
                (keyspace, table, _REPAIRS_LOOKED_AT),
            )
            done = [_seconds(row["finished_at"]) for row in rows if row["status"] == "SUCCESS" and row["finished_at"]]
            never += not done
            if done:
                age = look.at.timestamp() - max(done)
                yield look.reading("cassandra.repair.age", age, "s", table=f"{keyspace}.{table}")
    yield look.reading("cassandra.repair.never", never, "tables")


def read_replication(look: Look) -> Iterator[Reading]:
    """Read the copies of each keyspace, and how many keyspaces have others than the inventory declares."""
    declared = look.settings.replication
    differing = 0
    found = _copies(look)
    for keyspace, copies in found.items():
        for place, count in copies.items():
            yield look.reading("cassandra.replication.copies", count, "copies", keyspace=keyspace, datacenter=place)
    for keyspace, wanted in declared.items():
        differing += found.get(keyspace, {}) != wanted
    yield look.reading("cassandra.replication.differing", differing, "keyspaces")


def _copies(look: Look) -> dict[str, dict[str, int]]:
    """How many copies each keyspace has, by datacenter; ``*`` where it does not tell them apart."""
    rows = look.rows("SELECT keyspace_name, replication FROM system_schema.keyspaces")
    return {
        row["keyspace_name"]: {
            "*" if name == "replication_factor" else name: int(count.partition("/")[0])
            for name, count in row["replication"].items()
            if name != "class"
        }
        for row in rows
        if row["keyspace_name"] not in SYSTEM_KEYSPACES
    }


def _number(value: Any) -> float:
    """A number, the sum of what a pattern found, or the length of a list."""
    if isinstance(value, dict):
        return sum(_number(one) for one in value.values())
    if isinstance(value, list):
        return len(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PermanentError(f"Jolokia gave {value!r:.60} where a number was expected", hint="compare its version")
    return float(value)


def _seconds(at: datetime) -> float:
    """Seconds since the epoch of a time that the driver gives, which is in UTC and does not say so."""
    return at.replace(tzinfo=UTC).timestamp()
