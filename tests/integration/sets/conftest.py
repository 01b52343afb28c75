"""One pipeline of PostgreSQL, Kafka and Cassandra over the run's shared servers, and one set of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.server import PostgresServer
from tests.integration.sets.stage import Stage


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    object_store: ObjectStoreServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """The pipeline.  The brokers and nodes are those that the tests of each system use: started twice, they are the same."""
    own = request.path.stem.replace("test_", "sets-").replace(
        "_", "-"
    )  # each module fills a database and a bucket of its own
    stage = Stage(
        sandbox=sandbox,
        postgres=PostgresServer(sandbox, own).start(),
        kafka=KafkaCluster(sandbox, "shared").start(),
        cassandra=CassandraServer(sandbox, "shared", settings={"auto_snapshot": False}).start(),
        store=object_store,
        bucket=object_store.create_bucket(own),
        folder=tmp_path_factory.mktemp("sets"),
    )
    with stage.archiving():
        yield stage
    stage.clear()
    stage.postgres.stop()
