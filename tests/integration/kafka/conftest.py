"""One broker for all tests of Kafka, and a stand with topics of its own for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.engine.sandbox.home import Sandbox
from include.engine.systems.kafka.server import KafkaCluster
from tests.systems.kafka.stand import Stand


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
