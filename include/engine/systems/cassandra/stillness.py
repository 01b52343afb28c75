"""Tells which tables stood still between two moments, by the directories that their SSTables lie in.

Whatever changes what a table has on a disk makes or removes a file in its directory: a flush, a stream, an import, a truncation,
a compaction.  A snapshot flushes first, and a flush of nothing makes no file.  So when no directory of a table has changed, on any
node, since before the first reading until after the snapshot, nothing was written in between: what was read is what is in the
snapshot, and need not be read again.  A look that cannot be had proves nothing, and costs nothing but the second reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from include.engine.errors import MainstayError
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.sstables import table_of
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import quote, transport_to

_SETTLED = 5  # seconds: times are whole ones, and a file lies there a moment before the server counts it in
_TIMEOUT = 30.0


class Look(Struct, frozen=True, kw_only=True):
    """What one node said of its directories.

    :param at: when, in seconds since 1970 by the node's clock
    :param changed: when each was changed last, by path
    :param busy: those in which files are being brought or taken away just now
    """

    at: int
    changed: Mapping[str, int]
    busy: frozenset[str]


Looks = Mapping[str, Look]  # by host id


class Stillness:
    """Looks at the directories of some keyspaces on all nodes.

    :param directories: gives the data directories of a node
    """

    def __init__(
        self,
        settings: Settings,
        nodes: Sequence[Node],
        keyspaces: Sequence[str],
        directories: Callable[[Node], Sequence[str]],
    ) -> None:
        self._settings, self._nodes, self._keyspaces, self._directories = settings, nodes, keyspaces, directories

    def look(self) -> Looks:
        """Look at all nodes at once; give nothing when one of them does not answer."""

        def one(node: Node) -> Look:
            script = looking(self._directories(node), self._keyspaces)
            return read_look(transport_to(self._settings, node.address).run(script, timeout=_TIMEOUT))

        try:
            looks = side_by_side(one, self._nodes)
        except MainstayError:
            return {}  # what is not known to be still is read again
        return {node.host_id: look for node, look in zip(self._nodes, looks, strict=True)}

    def since(self, before: Looks) -> frozenset[tuple[str, str]]:
        """Look again, and name the tables that have stood still since *before*."""
        return still(before, self.look()) if before else frozenset()


def looking(directories: Sequence[str], keyspaces: Sequence[str]) -> str:
    """Print ``N time``, ``D time path`` for each table's directory, and ``B path`` for each file of a transaction under way."""
    places = [quote(f"{directory.rstrip('/')}/{keyspace}") for directory in directories for keyspace in keyspaces]
    return f"""echo "N $(date +%s)"
for place in {" ".join(places)}; do
  [ -d "$place" ] || continue
  find "$place" -mindepth 1 -maxdepth 1 -type d -exec stat -c 'D %Y %n' {{}} + || return 1
  find "$place" -mindepth 2 -maxdepth 2 -name '*_txn_*.log' -exec printf 'B %s\\n' {{}} +
done"""


def read_look(text: str) -> Look:
    """Read what :func:`looking` printed."""
    at = 0
    changed: dict[str, int] = {}
    busy: set[str] = set()
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "N":
            at = int(rest)
        elif kind == "D":
            time, _, path = rest.partition(" ")
            changed[path] = int(time)
        elif kind == "B":
            busy.add(rest.rpartition("/")[0])
    return Look(at=at, changed=changed, busy=frozenset(busy))


def still(before: Looks, after: Looks) -> frozenset[tuple[str, str]]:
    """Name the tables whose directories are, on every node, as they were some seconds before the first look.  Pure."""
    if before.keys() != after.keys():
        return frozenset()
    seen: list[set[tuple[str, str]]] = []
    moved: set[tuple[str, str]] = set()
    for host_id, then in before.items():
        now = after[host_id]
        places = {path: table_of(path) for path in (*then.changed, *now.changed)}
        seen.append({table for table in places.values() if table is not None})
        for path, table in places.items():
            changed = then.changed.get(path)
            settled = changed is not None and changed == now.changed.get(path) and changed <= then.at - _SETTLED
            if table is not None and (not settled or path in then.busy | now.busy):
                moved.add(table)
    return frozenset(set.intersection(*seen) - moved) if seen else frozenset()
