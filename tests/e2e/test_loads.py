"""Load on the live Airflow: its API server, and tasks that do nothing."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from include.engine.cli.demo_tour import failure_of
from include.engine.contracts import Connection
from include.engine.model import LoadResult, Verdict, backup_id
from include.engine.store.loads import Loads
from include.engine.systems.airflow.workload import PROBE
from include.engine.systems.kafka.client import open_admin
from include.engine.systems.spark.flow_load import PHASES
from tests.e2e.live import RUN_SECONDS, Live
from tests.loading.range import Range

pytestmark = pytest.mark.e2e

SYSTEMS = {"airflow", "cassandra", "kafka", "postgres", "spark"}


def test_airflow_is_asked_and_runs_tasks_and_nothing_of_it_stays(live: Live, tmp_path: Path) -> None:
    airflow = live.demo.airflow
    range_ = Range("airflow", Connection(host=airflow.url, login="admin", password=airflow.password("admin")), tmp_path)
    gates = {"p50": 600_000, "figures": {"tasks_failed": {"most": 0}}}
    search = {"begin": 5, "end": 10, "step": "3s", "limit": "5m"}
    workload = {"tasks": 4, "tasks_timeout_seconds": 120}
    profile = range_.profile(stages=[{"rate": 5, "lasts": "3s"}], gates=gates, search=search, workload=workload)
    result = range_.run(profile, search=True, permission={"guards": {"load.canary": {"above": 50}}})
    step = result.steps[0]
    assert step.errors == {}
    assert step.from_intended.count == 15  # 20 are due, five of them in the warm-up
    assert set(step.kinds) == {"monitor/health", "dags", f"dags/{PROBE}"}
    assert step.figures["tasks_failed"] == 0
    assert step.figures["first_task_seconds"] > 0
    assert step.figures["all_tasks_seconds"] >= step.figures["first_task_seconds"]
    assert step.figures["tasks_per_minute"] > 0
    # Whether the first rate held or not, another one was tried, and its tasks are a run of their own.
    assert result.steps[1].target_rate != step.target_rate
    assert result.steps[1].figures["tasks_failed"] == 0
    assert result.environment["airflow"].startswith("3.")
    assert live.admin.runs(PROBE) == []


def test_a_run_of_a_dead_test_that_still_runs_is_ended_and_removed(live: Live, tmp_path: Path) -> None:
    airflow = live.demo.airflow
    range_ = Range("airflow", Connection(host=airflow.url, login="admin", password=airflow.password("admin")), tmp_path)
    engine = range_.engine(range_.profile())
    live.admin.unpause(PROBE)
    name = "mainstay_load_test_20260101t000000z_1"
    body = {"logical_date": None, "dag_run_id": name, "conf": {"tasks": 500}}
    live.admin.post(f"dags/{PROBE}/dagRuns", body)
    deadline = time.monotonic() + RUN_SECONDS
    while live.admin.run(PROBE, name).state != "running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    engine.remove(engine.leftovers("mainstay_load_test"))
    assert live.admin.runs(PROBE) == []


@pytest.mark.timeout(1200)
def test_the_dag_loads_every_system_and_the_whole_way_and_keeps_each_result_with_its_page(live: Live) -> None:
    run = live.trigger("load_test", {"kind": "brief", "duration": 3, "reason": "a look"})
    # What a busy machine can take is not what is asked here: a FAIL is a result, too, and fails the run's last task only.
    ended = live.admin.wait("load_test", run, timeout=1.5 * RUN_SECONDS)
    loads = Loads(live.pipeline.catalog.bucket)
    found: dict[str, LoadResult] = {}
    for number in range(len(SYSTEMS)):
        assert ended.task("load", number).state == "success", failure_of(live.admin, ended).hint
        told = live.admin.xcom("load_test", run, "load", map_index=number)
        kept = found[told["what"].rpartition(" ")[2].partition("/")[0]] = loads.get(told["id"])
        assert kept.step is not None, kept.stopped
        assert kept.step.from_intended.count > kept.step.error_count
        assert told["verdict"] == str(kept.verdict)
        assert ended.task("judge", number).state == ("success" if kept.verdict is Verdict.PASS else "failed")
    assert set(found) == SYSTEMS
    kafka, stream = found["kafka"], found["spark"]
    assert (kafka.profile, kafka.target, kafka.reason) == ("kafka-brief", "kafka/main", "a look")
    assert kafka.step is not None
    assert kafka.step.from_intended.count == 1500
    assert stream.step is not None
    assert set(stream.step.phases) == set(PHASES)
    begun = datetime.fromisoformat(ended.run_after)
    assert {one.id for one in found.values()} == {
        backup_id(begun + timedelta(seconds=number)) for number in range(len(SYSTEMS))
    }
    page = loads.page(kafka.id)
    assert "kafka-brief on kafka/main" in page
    assert "<svg" in page
    with open_admin(live.demo.connections()["kafka_load"]) as admin:
        assert not [topic for topic in admin.topics() if topic.startswith("mainstay_load")]
    # The demo's node keeps a snapshot of what is dropped, as every Cassandra does that nobody has told otherwise.
    (node,) = live.demo.clusters.cassandra.nodes
    assert list(node.directory.glob("**/mainstay_load*/*/snapshots/*")) == []
