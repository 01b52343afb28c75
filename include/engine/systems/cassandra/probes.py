"""The probes of a live cluster: which nodes are up, what they have queued, dropped and kept, what nobody repaired or cleared.

A node that is down is a reading of the probe ``nodes``; the other probes read the nodes that are up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from msgspec import Struct

from include.engine.contracts import Clock, Connection, Connections
from include.engine.inventory import TargetSettings
from include.engine.model import Reading, Target
from include.engine.probing import Probe
from include.engine.systems.cassandra.readings import (
    ASKED,
    Look,
    read_disks,
    read_hints,
    read_jolokia,
    read_nodes,
    read_pools,
    read_repairs,
    read_replication,
    read_snapshots,
)
from include.engine.systems.cassandra.sessions import session
from include.engine.systems.cassandra.settings import Settings


class ClusterProbe(Struct, kw_only=True):
    """One thing that is read of a cluster (see ``probing.Probe``)."""

    name: str
    metrics: Sequence[str]
    source: str
    look: Callable[[Look], Iterator[Reading]]
    settings: Settings
    connection: Connection

    @property
    def sometimes(self) -> Sequence[str]:
        """What it gives only when there are hints, or a keyspace of the user (see ``probing.Probe``)."""
        return _SOMETIMES.get(self.name, ())

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``)."""
        with session(self.connection) as cql:
            return list(self.look(Look(cql, self.settings, self.connection, clock(), timeout)))


def open_probes(target: Target, settings: TargetSettings, connections: Connections) -> Sequence[Probe]:  # noqa: ARG001
    """Give the probes of a cluster, for ``wiring``.  What only Jolokia tells is read only where the inventory has it."""
    own = cast("Settings", settings)
    connection = connections.get(own.connection)
    chosen = [probe for probe in _PROBES if own.jolokia or probe[0] != "jolokia"]
    return [
        ClusterProbe(name=name, metrics=metrics, source=source, look=look, settings=own, connection=connection)
        for name, metrics, source, look in chosen
    ]


_SOMETIMES = {
    "hints": ("cassandra.hints.age",),
    "repairs": ("cassandra.repair.age",),
    "replication": ("cassandra.replication.copies",),
}
_PROBES: Sequence[tuple[str, Sequence[str], str, Callable[[Look], Iterator[Reading]]]] = (
    (
        "nodes",
        ("cassandra.node.up", "cassandra.nodes.up", "cassandra.nodes.down", "cassandra.schema.versions"),
        "each node of the ring, asked itself by CQL",
        read_nodes,
    ),
    (
        "pools",
        ("cassandra.tasks.pending", "cassandra.tasks.blocked"),
        "system_views.thread_pools of each node",
        read_pools,
    ),
    ("jolokia", tuple(asked[0] for asked in ASKED), "JMX of each node, through Jolokia", read_jolokia),
    ("disks", ("cassandra.disk.used",), "df of the data directories, on each node", read_disks),
    ("hints", ("cassandra.hints.bytes",), "the files of hints, on each node", read_hints),
    (
        "snapshots",
        ("cassandra.snapshots", "cassandra.snapshots.lasting", "cassandra.snapshots.bytes"),
        "system_views.snapshots of each node",
        read_snapshots,
    ),
    ("repairs", ("cassandra.repair.never",), "system_distributed.repair_history", read_repairs),
    (
        "replication",
        ("cassandra.replication.differing",),
        "system_schema.keyspaces, compared with the inventory",
        read_replication,
    ),
)
