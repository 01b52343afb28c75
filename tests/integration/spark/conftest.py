"""One Kafka, one Cassandra and one Spark in local mode for all tests of the stream."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra import keyspaces
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.server import KafkaCluster
from tests.integration.spark.brook import Brook


@pytest.fixture(scope="session")
def kafka(sandbox: Sandbox) -> KafkaCluster:
    """The cluster that the tests of Kafka share as well."""
    return KafkaCluster(sandbox, "shared").start()


@pytest.fixture(scope="session")
def cassandra(sandbox: Sandbox) -> CassandraServer:
    """The node that the tests of Cassandra share as well."""
    server = CassandraServer(sandbox, "shared", settings={"auto_snapshot": False}).start()
    with server.connect() as cql:
        keyspaces.create(cql)
    return server


@pytest.fixture
def brook(kafka: KafkaCluster, cassandra: CassandraServer) -> Iterator[Brook]:
    """A job of two flows with topics, tables and a checkpoint of its own; not started."""
    with Brook(kafka, cassandra) as brook:
        yield brook
