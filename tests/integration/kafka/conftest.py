"""One broker for all tests of Kafka, and a stand with topics of its own for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from include.engine.sandbox.home import Sandbox
from include.engine.systems.kafka.connect import Connect
from include.engine.systems.kafka.connect_server import ConnectWorker
from include.engine.systems.kafka.mirror import KafkaMirror, open_mirror
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.settings import Mirror, Settings
from include.engine.systems.kafka.topology import connector_name, heartbeat_name
from tests.systems.kafka.stand import TARGET, Servers, Stand


@pytest.fixture(scope="session")
def kafka(sandbox: Sandbox) -> KafkaCluster:
    """A running cluster of one broker; tests that stop or break one start their own."""
    return KafkaCluster(sandbox, "shared").start()


@pytest.fixture
def stand(kafka: KafkaCluster) -> Iterator[Stand]:
    """Backups and restores of topics that are this test's own."""
    stand = Stand(kafka)
    yield stand
    stand.clear()


@pytest.fixture(scope="package")
def dr(sandbox: Sandbox) -> Iterator[KafkaCluster]:
    """The cluster that gets the copies."""
    cluster = KafkaCluster(sandbox, "dr").start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="package")
def worker(sandbox: Sandbox, dr: KafkaCluster) -> Iterator[ConnectWorker]:
    """The Connect worker that makes them."""
    worker = ConnectWorker(sandbox, dr).start()
    yield worker
    worker.stop()


def load_topic(stand: Stand) -> str:
    """What a load test of this test's own would call its topic."""
    return f"mainstay_load_{stand.prefix}20261123t020000z"


@pytest.fixture
def mirror(stand: Stand, dr: KafkaCluster, worker: ConnectWorker) -> Iterator[KafkaMirror]:
    """A mirror of this test's topics, with an alias of its own: connectors share Connect's memory of offsets."""
    declared = Mirror(
        connect="connect",
        to="dr",
        topics=(stand.prefix + ".*", load_topic(stand)),
        groups=(stand.prefix + ".*",),
        replication_factor=1,
        source_alias=stand.prefix.strip("_"),
    )
    name = uuid.uuid4().hex[:6]
    connections = Servers(main=stand.cluster.connection(), dr=dr.connection(), connect=worker.connection())
    yield open_mirror(TARGET, Settings(connection="main", mirrors={name: declared}), name, connections)
    for connector in (connector_name(name), heartbeat_name(name)):
        Connect(worker.connection()).delete(connector)
