"""One real Cassandra node and one real S3 server for all tests here; each test has keyspaces and a bucket of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra import keyspaces
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.faults import Wire
from tests.integration.cassandra.estate import Estate


@pytest.fixture(scope="session")
def cassandra(sandbox: Sandbox) -> CassandraServer:
    """A running node with the pipeline's keyspaces and some rows; tests that stop or break one start their own."""
    server = CassandraServer(sandbox, "shared", settings={"auto_snapshot": False}).start()
    with server.connect() as cql:
        keyspaces.create(cql)
        keyspaces.fill(cql, events=1500, sessions=400, users=60)
    return server


@pytest.fixture(scope="session")
def cql(cassandra: CassandraServer) -> Iterator[Cql]:
    """A session of the superuser."""
    with cassandra.connect() as session:
        yield session


@pytest.fixture
def keyspace(cql: Cql, request: pytest.FixtureRequest) -> str:
    """An empty keyspace, this test's own; it goes with the sandbox, because dropping each takes a second."""
    words = re.sub("[^a-z0-9]+", "_", request.node.name.removeprefix("test_"))[:30]
    name = f"t_{words}_{os.urandom(3).hex()}"
    cql.rows(f"CREATE KEYSPACE {name} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}}")
    return name


@pytest.fixture
def estate(cassandra: CassandraServer, object_store: ObjectStoreServer, bucket: str, tmp_path: Path) -> Estate:
    """A pipeline of one target, ``cassandra/main``, with an empty bucket."""
    return Estate(cassandra, object_store, bucket, tmp_path)


@pytest.fixture
def wire(estate: Estate) -> Iterator[Wire]:
    """The estate's nodes and control plane reach the store through it."""
    with Wire(estate.store.host, estate.store.port) as wire:
        store = estate.connections.known["store"]
        estate.connections.known["store"] = msgspec.structs.replace(
            store, extra={**store.extra, "endpoint_url": wire.endpoint}
        )
        yield wire
