"""One server of each system for all load tests here; a test that stops one lets it go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine.contracts import Connection
from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.postgres.server import SUPERUSER, PostgresServer
from tests.integration.loads.range import Range


@pytest.fixture(scope="package")
def broker(sandbox: Sandbox) -> Iterator[KafkaCluster]:
    cluster = KafkaCluster(sandbox, "loads").start()
    yield cluster
    cluster.stop()


@pytest.fixture
def kafka_range(broker: KafkaCluster, tmp_path: Path) -> Range:
    return Range("kafka", broker.connection(), tmp_path)


@pytest.fixture
def postgres_range(postgres: PostgresServer, tmp_path: Path) -> Range:
    connection = Connection(host=postgres.host, port=postgres.port, login=SUPERUSER, password=postgres.password)
    return Range("postgres", connection, tmp_path)


@pytest.fixture(scope="package")
def node(sandbox: Sandbox) -> Iterator[CassandraServer]:
    server = CassandraServer(sandbox, "loads", settings={"auto_snapshot": False}).start()
    yield server
    server.stop()


@pytest.fixture
def cassandra_range(node: CassandraServer, tmp_path: Path) -> Range:
    return Range("cassandra", node.connection(), tmp_path)
