"""Load from end to end: through a real Kafka and a twin of the job to Cassandra, until each row can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from include.engine import load_wiring, wiring
from include.engine.contracts import Stop
from include.engine.inventory import Inventory
from include.engine.loading import profiles
from include.engine.loading.profiles import Profile
from include.engine.model import Target, Verdict
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Home
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.store.bucket import Bucket
from include.engine.store.loads import Loads
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.client import TopicPlan, open_admin
from include.engine.systems.kafka.declared import create_topics
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.spark.flow_load import PHASES
from include.engine.systems.spark.load import end_job
from include.engine.systems.spark.workload import Workload
from include.engine.verbs import load as verb
from tests.integration.spark.brook import QUICK, Named, clock
from tests.loading.range import ALLOWED, Told

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ID = "20261123T030000Z"
DEAD = "20260101t000000z"
PIPELINE = "endtoend"
PREFIX = f"mainstay_load_{PIPELINE}"
TARGET = "spark/main"


def inventory(folder: Path) -> Inventory:
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
            }
        },
    }
    path = folder / "inventory.yaml"
    path.write_text(yaml.safe_dump(document))
    return wiring.load_inventory(path)


def profile(**changes: Any) -> Profile:
    document = yaml.safe_load((load_wiring.LOAD_PROFILES / "spark-steady.yaml").read_text()) | changes
    return profiles.parse(yaml.safe_dump(document), {"spark": Workload}, name="spark-steady")


class Killing(Told):
    """Kills the job as soon as a first rate was measured."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def say(self, text: str) -> None:
        super().say(text)
        if "a second: " in text:
            for path in (self.folder / "engine").glob("*.json"):
                process(path).kill()


def process(path: Path) -> ServerProcess:
    return ServerProcess(path.stem, state=path, log=path.with_suffix(".log"), account=ourselves())


def test_rows_are_awaited_until_the_job_dies_and_nothing_of_it_stays(
    kafka: KafkaCluster, cassandra: CassandraServer, tmp_path: Path
) -> None:
    found = inventory(tmp_path)
    connections = Named({"kafka_load": kafka.connection(), "cassandra_load": cassandra.connection()})
    # A test that was killed has left a job that still runs, and a topic.
    dead = Home.of(wiring.PROJECT).root / "loads" / f"{PREFIX}_{DEAD}"
    (dead / "engine").mkdir(parents=True)
    orphan = process(dead / "engine" / "orphan.json")
    orphan.start(ServerSpec(command=["sleep", "600"], directory=dead, environment={}))
    with open_admin(kafka.connection()) as admin:
        create_topics(admin, [TopicPlan(name=f"{PREFIX}_{DEAD}", partitions=1, factor=1)])
    search = {"begin": 20, "end": 40, "factor": 2, "step": "4s", "limit": "5m"}
    wanted = profile(warm_up="2s", grace="90s", gates={"p50": 100_000, "errors": 0.0}, search=search)
    engine = load_wiring.open_load(found, connections, TARGET, wanted)
    told = Killing(dead.with_name(f"{PREFIX}_{ID.lower()}"))
    try:
        result = verb.run(
            found.pipeline,
            Loads(Bucket.open(f"file://{tmp_path}/bucket")),
            engine,
            verb.Wish(profile=wanted, target=TARGET, permission=found.settings(Target.parse(TARGET)).load, search=True),
            id_=ID,
            progress=told,
            stop=Stop(),
            clock=clock,
        )
    finally:
        end_job(told.folder)
        end_job(dead)

    assert not orphan.running
    assert f"job:{PREFIX}_{DEAD}, kafka:{PREFIX}_{DEAD}" in " ".join(result.notes)
    (step,) = result.steps  # the job died before the second was over
    assert (step.errors, step.from_intended.count) == ({}, 80)
    assert set(step.phases) == set(PHASES)
    assert {one.count for one in step.phases.values()} == {80}
    # What the parts say adds up to the whole, and what waits for a batch of one a second waits about half of it.
    assert sum(one.mean for one in step.phases.values()) == pytest.approx(step.from_sent.mean, rel=0.05)
    assert step.phases[PHASES[2]].p50 > 0
    assert "latency_growth" in step.figures
    assert result.environment["spark"].endswith("local mode")
    assert {"kafka", "cassandra", "nodes"} <= set(result.environment)
    finished = next(check for check in result.checks if check.name == "finished")
    assert finished.verdict is Verdict.FAIL
    assert "the job has ended" in finished.detail
    assert next(check for check in result.checks if check.name == "removed").verdict is Verdict.PASS
    assert engine.leftovers(PREFIX) == []
    assert not told.folder.exists()
