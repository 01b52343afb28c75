"""A node that joins while a snapshot is taken: no backup is sealed without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Stop
from include.engine.errors import Contended, Unreachable
from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra import snapshot
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.control import Control
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.verbs import backup
from tests.estate import eventually
from tests.integration.cassandra.estate import TARGET, Estate, Told, detail, now

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def written(cql: Cql) -> bool:
    """Write a row for every node, each of which answers; one that has just joined may not know the table yet."""
    try:
        cql.many("INSERT INTO one.t (k) VALUES (?)", [(n,) for n in range(300)], consistency="ONE")
        for node in cql.ring():  # the driver may still hold it to be down, as it was a moment ago
            cql.rows("SELECT k FROM one.t LIMIT 1", at=node)
    except Unreachable:
        return False
    return True


def test_a_node_that_joins_while_the_snapshot_is_taken_fails_it_and_is_in_the_next(
    sandbox: Sandbox, object_store: ObjectStoreServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = CassandraServer(sandbox, "joining", size=3)
    for node in ring.nodes[:2]:
        node.spawn()
    for node in ring.nodes[:2]:
        node.wait(timeout=300)
    ring.nodes[0].process.wait_ready(ring._roles_exist, timeout=300)
    estate = Estate(ring, object_store, bucket, tmp_path)
    name = estate.name()
    pipeline = estate.pipeline(keyspaces=["one"])
    at_once = snapshot._all_at_once
    try:
        with ring.connect(timeout=60) as cql:
            cql.rows("CREATE KEYSPACE one WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}")
            cql.rows("CREATE TABLE one.t (k int PRIMARY KEY)")

            def joined_first(
                controls: Mapping[str, Control], tag: str, keyspaces: Sequence[str], ttl: timedelta
            ) -> float:
                ring.nodes[2].start(timeout=300)
                eventually(lambda: len(cql.ring()) == 3, within=120)
                eventually(lambda: written(cql), within=120, what="the new node has the table, and answers")
                return at_once(dict(controls), tag, keyspaces, ttl)

            with monkeypatch.context() as once:
                once.setattr(snapshot, "_all_at_once", joined_first)
                with pytest.raises(Contended, match="joined the ring while the snapshot was taken"):
                    backup.freeze(pipeline, name, [TARGET], clock=now)
            left = {
                row["name"]
                for node in cql.ring()
                for row in cql.rows("SELECT name FROM system_views.snapshots", at=node)
            }
            assert not {tag for tag in left if name in tag}

            backup.freeze(pipeline, name, [TARGET], clock=now)
            manifest = backup.copy(pipeline, name, TARGET, progress=Told(), stop=Stop(), clock=now)
            backup.release(pipeline, name, [TARGET])
            nodes = {node.host_id for node in detail(manifest).cut.nodes}
            assert nodes == {node.host_id for node in cql.ring()}
            assert {entry.name.partition("/")[0] for entry in manifest.entries if "/" in entry.name} == nodes
    finally:
        ring.stop()
