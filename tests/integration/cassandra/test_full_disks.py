"""The disk of a node is full when its snapshot is taken: told as that, and once there is room the backup is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine.errors import PermanentError, Unreachable
from include.engine.model import Verdict
from include.engine.sandbox.accounts import private_directory
from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.integration.cassandra.estate import Estate, rows
from tests.sabotage.test_full_disks import SmallDisk, small_disk

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


@pytest.fixture
def disk(sandbox: Sandbox) -> Iterator[SmallDisk]:
    """A disk that a node can start on."""
    with small_disk(sandbox, "128m") as disk:
        yield disk


@pytest.fixture
def server(sandbox: Sandbox, disk: SmallDisk) -> Iterator[CassandraServer]:
    """A node whose data lie on the small disk, and which does about a full one what production nodes do: it stops."""
    data = private_directory(disk.path / "data", owner=sandbox.account, mode=0o700)
    settings: dict[str, object] = {"data_file_directories": [str(data)], "disk_failure_policy": "stop"}
    server = CassandraServer(sandbox, "small-disk", settings=settings)
    yield server.start()
    server.stop()


def test_a_full_disk_fails_the_snapshot_and_with_room_the_backup_holds_every_row(
    server: CassandraServer, disk: SmallDisk, object_store: ObjectStoreServer, bucket: str, tmp_path: Path
) -> None:
    estate = Estate(server, object_store, bucket, tmp_path)
    with server.connect() as cql:
        cql.rows("CREATE KEYSPACE small WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}")
        cql.rows("CREATE TABLE small.t (k int PRIMARY KEY, v text)")
        cql.many("INSERT INTO small.t (k, v) VALUES (?, ?)", [(n, f"value {n}") for n in range(500)])
        then = rows(cql, "small.t")
        disk.fill()
        with pytest.raises(PermanentError, match=r"FSWriteError|No space left on device") as told:
            estate.backup()
        assert "whether that node's data disk is full" in told.value.hint
    with pytest.raises(Unreachable):  # the node has stopped: it is not backed up as if it were well
        estate.backup()
    assert estate.objects() == {}
    disk.clear()
    server.restart()
    with server.connect() as cql:
        manifest = estate.backup()
        assert manifest.bytes > 0
        names = {str(row["name"]) for row in cql.rows("SELECT name FROM system_views.snapshots")}
        assert not [name for name in names if name.startswith("mainstay")]
        cql.rows("TRUNCATE small.t", timeout=60)
        assert estate.restore(confirm="cassandra_admin").verdict is Verdict.PASS
        assert rows(cql, "small.t") == then
