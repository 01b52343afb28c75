"""A node whose data lie in several directories, as on several disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine.model import Verdict
from include.engine.sandbox.accounts import private_directory
from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.integration.cassandra.estate import Estate, rows

pytestmark = pytest.mark.integration


@pytest.fixture
def disks(sandbox: Sandbox) -> Iterator[CassandraServer]:
    server = CassandraServer(sandbox, "disks")
    places = [server.nodes[0].data_directory, server.nodes[0].directory / "second disk"]
    for place in places:
        private_directory(place, owner=sandbox.account, mode=0o700)
    server.settings = {"data_file_directories": [str(place) for place in places]}
    yield server.start()
    server.stop()


def test_a_table_that_lies_on_two_disks_is_backed_up_whole_and_comes_back(
    disks: CassandraServer, object_store: ObjectStoreServer, bucket: str, tmp_path: Path
) -> None:
    estate = Estate(disks, object_store, bucket, tmp_path)
    with disks.connect() as cql:
        cql.rows("CREATE KEYSPACE wide WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}")
        cql.rows("CREATE TABLE wide.t (k int PRIMARY KEY, v text)")
        cql.many("INSERT INTO wide.t (k, v) VALUES (?, ?)", [(n, f"v{n}") for n in range(500)])
        disks.nodes[0].nodetool("flush", "wide")
        both = {path.parents[2].name for path in disks.nodes[0].directory.glob("*/wide/t-*/*-Data.db")}
        assert both == {"data", "second disk"}
        then = rows(cql, "wide.t")
        manifest = estate.backup()
        assert len([entry for entry in manifest.entries if entry.name.endswith("-Data.db")]) >= 2
        cql.rows("TRUNCATE wide.t", timeout=60)
        assert estate.restore(confirm="cassandra_admin").verdict is Verdict.PASS
        assert rows(cql, "wide.t") == then
