"""What the nodes of a ring say of themselves: that all are up, of one schema and new enough, and where their data lie."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from include.engine.errors import Contended, Incomplete, Unreachable, Unsupported
from include.engine.systems.cassandra.client import Cql, Node
from include.engine.systems.cassandra.threads import side_by_side

_OLDEST = (4, 1)  # snapshots with a TTL, and the virtual table that lists them
_AGREEMENT = 10.0  # seconds that a schema change may take to reach all nodes


def require_all_up(cql: Cql, nodes: Sequence[Node], what: str = "the backup") -> None:
    """Ask every node of the ring itself.

    :param what: would be incomplete without one of them
    :raises Unreachable: naming those that do not answer
    :raises Unsupported: when a node is too old
    """

    def silent(node: Node) -> bool:
        try:
            cql.rows("SELECT release_version FROM system.local", at=node, timeout=10)
        except Unreachable:
            return True
        return False

    down = [node.address for node, gone in zip(nodes, side_by_side(silent, nodes), strict=True) if gone]
    if down:
        raise Unreachable(
            f"{len(down)} of {len(nodes)} nodes are down ({', '.join(down)}): {what} would be incomplete",
            hint="bring them back, or remove them from the ring with `nodetool removenode`, and run it again",
        )
    old = [f"{n.address} ({n.version})" for n in nodes if version_of(n.version) < _OLDEST]
    if old:
        raise Unsupported(f"Cassandra 4.1 or newer is needed; too old: {', '.join(old)}", hint="upgrade these nodes")


def require_agreement(cql: Cql, nodes: Sequence[Node], sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until all nodes have the same schema.

    :raises Unreachable: when they do not come to agree
    """
    deadline = time.monotonic() + _AGREEMENT
    while True:
        asked = side_by_side(lambda node: cql.rows("SELECT schema_version FROM system.local", at=node), nodes)
        versions = {str(row["schema_version"]) for rows in asked for row in rows}
        if len(versions) == 1:
            return
        if time.monotonic() > deadline:
            raise Unreachable(
                f"the nodes have {len(versions)} different schemas", hint="look at `nodetool describecluster`"
            )
        sleep(0.2)


def acquaintances(cql: Cql, nodes: Sequence[Node]) -> dict[str, frozenset[str]]:
    """Give the host ids that each of *nodes* knows of besides its own, by its own; those of nodes long gone may be among them."""
    asked = side_by_side(lambda node: cql.rows("SELECT host_id FROM system.peers_v2", at=node), nodes)
    return {
        node.host_id: frozenset(str(row["host_id"]) for row in rows if row["host_id"] is not None)
        for node, rows in zip(nodes, asked, strict=True)
    }


def require_no_newcomer(before: Mapping[str, frozenset[str]], after: Mapping[str, frozenset[str]]) -> None:
    """Check that no node has joined between two looks (:func:`acquaintances`).  Pure.

    Of what was written since it joined, it alone may have a copy.

    :raises Contended: naming who has
    """
    members = set(before)
    joined = sorted({one for host_id, known in after.items() for one in known - before[host_id] - members})
    if joined:
        raise Contended(
            f"{', '.join(joined)} joined the ring while the snapshot was taken: it would lack what this node alone has",
            hint="run it again: it is taken of the ring as it is then",
        )


def births(cql: Cql, nodes: Sequence[Node]) -> dict[str, datetime | None]:
    """Give when each node's server was first started, by its own clock: it chose its host id then, and never writes it again.

    None for a node that does not answer.
    """

    def one(node: Node) -> datetime | None:
        try:
            (row,) = cql.rows("SELECT WRITETIME(host_id) AS born FROM system.local", at=node)
        except Unreachable:
            return None
        return datetime.fromtimestamp(row["born"] / 1_000_000, UTC) if row["born"] else None

    return dict(zip((node.host_id for node in nodes), side_by_side(one, nodes), strict=True))


def data_directories(cql: Cql, node: Node) -> list[str]:
    """Ask a node where its data files lie; a node may have several disks."""
    rows = cql.rows("SELECT value FROM system_views.settings WHERE name = 'data_file_directories'", at=node)
    found = [part.strip() for row in rows for part in str(row["value"]).strip("[]").split(",")]
    directories = [part for part in found if part]
    if not directories:
        raise Incomplete(f"{node.address} does not say where its data lie", hint="set data_file_directories there")
    return directories


def cluster_name(cql: Cql) -> str:
    """Give the name that the cluster calls itself."""
    return str(cql.rows("SELECT cluster_name FROM system.local")[0]["cluster_name"])


def version_of(text: str) -> tuple[int, ...]:
    """Read a release version, so that 5.0.10 is newer than 5.0.9; what follows a dash does not count."""
    return tuple(int(part) for part in text.split("-", maxsplit=1)[0].split(".") if part.isdecimal())
