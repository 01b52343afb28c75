"""Load from end to end: through a real Kafka and a twin of the job to Cassandra, until each row can be read."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.engine import load_wiring, wiring
from include.engine.contracts import Connection, Stop
from include.engine.errors import Unreachable, Unsupported
from include.engine.inventory import Inventory
from include.engine.loading import profiles
from include.engine.loading.contracts import LoadRun
from include.engine.loading.naming import ours
from include.engine.loading.profiles import Profile
from include.engine.loading.schedule import Schedule
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Home
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.client import TopicPlan, open_admin
from include.engine.systems.kafka.declared import create_topics
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.spark.flow_load import PHASES
from include.engine.systems.spark.workload import Workload
from tests.estate import clock
from tests.integration.spark.brook import QUICK
from tests.integration.sweeping import Known
from tests.loading.range import ALLOWED, Told

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ID = "20261123t030000z"
DEAD = "20260101t000000z"
PIPELINE = "endtoend"
PREFIX = f"mainstay_load_{PIPELINE}"
TARGET = "spark/main"


def inventory(folder: Path, **changes: Any) -> Inventory:
    """One declared job, whose own topic and table are not there: its twin must not need them."""
    flows = {"events": {"shape": "events", "topic": "not_there", "table": "not.there"}}
    document = {
        "pipeline": PIPELINE,
        "store": {"url": f"file://{folder}/bucket"},
        "spark": {
            "main": {
                "kafka": "reader",
                "cassandra": "writer",
                "checkpoint": f"file://{folder}/declared",
                "flows": flows,
                "profile": {"java_options": QUICK, "driver_memory": "512m"},
                "load": ALLOWED | {"connections": {"kafka": "kafka_load", "cassandra": "cassandra_load"}},
                **changes,
            }
        },
    }
    path = folder / "inventory.yaml"
    path.write_text(yaml.safe_dump(document))
    return wiring.load_inventory(path)


def profile(**changes: Any) -> Profile:
    document = yaml.safe_load((load_wiring.LOAD_PROFILES / "spark-steady.yaml").read_text()) | changes
    return profiles.parse(yaml.safe_dump(document), {"spark": Workload}, name="spark-steady")


def process(path: Path) -> ServerProcess:
    return ServerProcess(path.stem, state=path, log=path.with_suffix(".log"), account=ourselves())


def test_rows_are_awaited_until_the_job_dies_and_nothing_of_it_stays(
    kafka: KafkaCluster, cassandra: CassandraServer, tmp_path: Path
) -> None:
    connections = Known({"kafka_load": kafka.connection(), "cassandra_load": cassandra.connection()})
    engine = load_wiring.open_load(inventory(tmp_path), connections, TARGET, profile(grace="120s"))
    # A test that was killed has left a job that still runs, and a topic.
    loads = Home.of(wiring.PROJECT).root / "loads"
    dead, mine = loads / f"{PREFIX}_{DEAD}", loads / f"{PREFIX}_{ID}"
    (dead / "engine").mkdir(parents=True)
    orphan = process(dead / "engine" / "orphan.json")
    orphan.start(ServerSpec(command=["sleep", "600"], directory=dead, environment={}))
    with open_admin(kafka.connection()) as admin:
        create_topics(admin, [TopicPlan(name=dead.name, partitions=1, factor=1)])
    left = ours(PREFIX, engine.leftovers(PREFIX))
    assert left == [f"job:{dead.name}", f"kafka:{dead.name}"]
    engine.remove(left)
    assert not orphan.running
    assert engine.leftovers(PREFIX) == []

    run = LoadRun(name=mine.name, progress=Told(), stop=Stop(), clock=clock)
    try:
        engine.prepare(run)
        limit = engine.limit(run, rate=20)
        step = engine.measure(run, Schedule.steady(20, 4, warm_up=2)).step
        assert len(engine.canary(clock, timeout=60)) == 2  # both sides are asked
        (job,) = (mine / "engine").glob("*.json")
        killing = threading.Timer(3, process(job).kill)
        killing.start()
        with pytest.raises(Unreachable, match="the job has ended"):
            engine.measure(run, Schedule.steady(20, 600))
        killing.join()
    finally:
        engine.remove(engine.leftovers(PREFIX))
    assert engine.leftovers(PREFIX) == []
    assert not mine.exists()

    assert limit is not None
    assert limit.by_cost  # by what both clients cost, and not by a loop without them
    assert 20 < limit.rate < 50_000
    assert (step.errors, step.from_intended.count) == ({}, 80)
    assert set(step.phases) == set(PHASES)
    assert {one.count for one in step.phases.values()} == {80}
    # What the parts say adds up to the whole.
    assert sum(one.mean for one in step.phases.values()) == pytest.approx(step.from_sent.mean, rel=0.2)
    assert step.phases[PHASES[2]].p50 > 0
    assert "latency_growth" in step.figures
    environment = engine.environment()
    assert environment["spark"].endswith("local mode")
    assert {"kafka", "cassandra", "nodes"} <= set(environment)


def test_a_job_that_is_not_of_this_machine_is_refused(tmp_path: Path) -> None:
    declared = {"engine": "standalone", "cluster": "master"}
    nobody = Known({"kafka_load": Connection(), "cassandra_load": Connection()})
    with pytest.raises(Unsupported, match="runs on standalone"):
        load_wiring.open_load(inventory(tmp_path, **declared), nobody, TARGET, profile())
