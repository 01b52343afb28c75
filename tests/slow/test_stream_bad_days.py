"""The stream's servers are killed under traffic: broker and object store, in the middle of a checkpoint; nothing is lost."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from include.engine.contracts import Connection
from include.engine.errors import TransientError
from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.spark.stream import SparkStream
from include.engine.verbs.stream import Act, Watched, act, decide
from tests.integration.spark.brook import Brook, clock
from tests.integration.spark.test_stream import person

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PATIENCE = 600.0


@pytest.fixture
def brook(sandbox: Sandbox) -> Iterator[Brook]:
    kafka = KafkaCluster(sandbox, "shared").start()
    cassandra = CassandraServer(sandbox, "shared", settings={"auto_snapshot": False}).start(timeout=300)
    with Brook(kafka, cassandra) as brook:
        yield brook


def kept_until(stream: SparkStream, records: int) -> None:
    """Keep the job as its DAG does, until it has done *records*: under traffic there are always some that wait."""
    watched, deadline = Watched(), time.monotonic() + PATIENCE
    while True:
        try:
            seen = stream.look(clock)
            watched = watched.after(seen)
            decision = decide(seen, watched, stream.policy)
            assert decision.act is not Act.PAGE, decision.why
            act(stream, decision, clock=clock)
            if seen.position >= records:
                return
        except TransientError:
            pass  # nobody knows how it is: look again
        assert time.monotonic() < deadline, stream.logs()
        time.sleep(1)


@contextmanager
def traffic(brook: Brook) -> Iterator[list[int]]:
    """Send users until the context ends; gives how many, in its only place."""
    over, sent = threading.Event(), [0]

    def flow() -> None:
        while not over.wait(0.2):
            brook.send(brook.users, [person(n) for n in range(sent[0], sent[0] + 10)])
            sent[0] += 10

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def test_broker_and_object_store_are_killed_under_traffic_and_nothing_is_lost(
    brook: Brook, object_store: ObjectStoreServer
) -> None:
    bucket = object_store.create_bucket(f"bad-days-{uuid.uuid4().hex[:8]}")
    brook.connections.known["store"] = Connection(
        login=object_store.access_key,
        password=object_store.secret_key,
        extra={"endpoint_url": object_store.endpoint, "region_name": object_store.region},
    )
    stream = brook.stream(checkpoint=f"s3://{bucket}/job", connection="store", restarts=20)
    stream.launch(reason="a test", clock=clock)
    with traffic(brook) as sent:
        kept_until(stream, 100)
        object_store.kill()
        time.sleep(8)  # several batches long
        object_store.start()
        kept_until(stream, sent[0])
        brook.kafka.nodes[0].kill()
        time.sleep(3)
        brook.kafka.start()
        kept_until(stream, sent[0])
    kept_until(stream, sent[0])
    assert brook.count(brook.users_table) == sent[0]
