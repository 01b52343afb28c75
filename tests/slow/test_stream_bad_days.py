"""The stream's servers and its launcher are killed under traffic, in the middle of what they do; nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from include.engine.contracts import Connection
from include.engine.sandbox.home import Sandbox
from include.engine.streaming import Life
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.estate import clock
from tests.integration.spark.brook import Brook
from tests.integration.spark.keeping import kept_until, require_all, traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PROJECT = Path(__file__).resolve().parents[2]
AWAY = 75.0  # seconds that Cassandra is away: more than a minute

# Launches the job that the environment describes, as a task of Airflow does.
LAUNCHER = """
import json, os
import msgspec
from include.engine.contracts import Connection
from include.engine.systems.spark.settings import Settings
from include.engine.systems.spark.stream import SparkStream
from tests.integration.spark.brook import TARGET
from tests.integration.sweeping import Known
from tests.estate import clock
told = json.loads(os.environ["LAUNCH"])
known = {name: msgspec.convert(one, Connection) for name, one in told["connections"].items()}
SparkStream(TARGET, Settings(**told["settings"]), Known(known)).launch(reason="a test", clock=clock)
"""


@pytest.fixture
def brook(sandbox: Sandbox) -> Iterator[Brook]:
    kafka = KafkaCluster(sandbox, "shared").start()
    cassandra = CassandraServer(sandbox, "shared", settings={"auto_snapshot": False}).start(timeout=300)
    with Brook(kafka, cassandra) as brook:
        yield brook


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
        kept_until(stream, sent.records)
        brook.kafka.nodes[0].kill()
        time.sleep(3)
        brook.kafka.start()
        kept_until(stream, sent.records)
    kept_until(stream, sent.records)
    require_all(brook, sent)


def test_cassandra_is_away_for_more_than_a_minute_and_the_job_that_is_kept_waits_for_it(brook: Brook) -> None:
    stream = brook.stream()
    stream.launch(reason="a test", clock=clock)
    with traffic(brook) as sent:
        kept_until(stream, 100)
        brook.cassandra.stop()
        left = time.monotonic()
        while time.monotonic() < left + AWAY:
            kept_until(stream, 0)  # one look of whoever keeps it, and what it decides
            time.sleep(2)
        seen = stream.look(clock)
        assert (seen.life, seen.generation) == (Life.RUNNING, 1)  # nobody made it worse meanwhile
        assert seen.seconds > AWAY - 20
        brook.cassandra.start(timeout=300)
        kept_until(stream, sent.records)
    kept_until(stream, sent.records)
    assert stream.look(clock).generation == 1
    require_all(brook, sent)


def test_a_node_of_three_is_killed_under_traffic_and_the_stream_does_not_even_wait(sandbox: Sandbox) -> None:
    kafka = KafkaCluster(sandbox, "shared").start()
    ring = CassandraServer(sandbox, "three", size=3, settings={"auto_snapshot": False}).start(timeout=600)
    with Brook(kafka, ring) as brook:
        stream = brook.stream()
        stream.launch(reason="a test", clock=clock)
        with traffic(brook, pause=0.05) as sent:
            for victim in (1, 2):
                kept_until(stream, sent.records + 100)
                ring.nodes[victim].kill()
                kept_until(stream, sent.records + 500)  # by the two that are left
                ring.start(timeout=600)
        kept_until(stream, sent.records)
        assert stream.look(clock).generation == 1
        require_all(brook, sent)
    ring.stop()


def test_whoever_launches_is_killed_in_the_middle_of_it_and_one_job_runs_all_the_same(brook: Brook) -> None:
    stream = brook.stream(restarts=20)
    told = {
        "connections": {name: msgspec.to_builtins(one) for name, one in brook.connections.known.items()},
        "settings": brook.declared(restarts=20),
    }
    environment = os.environ | {"LAUNCH": json.dumps(told), "PYTHONPATH": str(PROJECT)}
    launches = brook.directory / "checkpoint" / "_mainstay" / "launches"
    with traffic(brook) as sent:
        for later in (0.0, 0.02, 0.3):  # the right is taken; the driver is being started; it may have been
            stream.say("run", reason="what came before is forgotten", by="tests", clock=clock)
            known = len(list(launches.glob("*.json"))) if launches.exists() else 0
            launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER], env=environment, start_new_session=True)
            deadline = time.monotonic() + 60
            while (len(list(launches.glob("*.json"))) if launches.exists() else 0) == known:
                assert time.monotonic() < deadline, "it has not launched anything"
                time.sleep(0.001)
            time.sleep(later)
            launcher.kill()  # the task alone: a driver that it has started is nobody's child by design
            launcher.wait()
            kept_until(stream, sent.records)
            assert len(drivers(brook)) == 1
            os.kill(brook.pid(stream), signal.SIGKILL)
    kept_until(stream, sent.records)
    require_all(brook, sent)


def drivers(brook: Brook) -> list[int]:
    """The processes that work on the checkpoint of this test."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"SparkSubmit" in command and f"{brook.directory}/checkpoint".encode() in environment:
            found.append(int(entry.name))
    return found
