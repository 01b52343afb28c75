"""Load on the live Airflow: its API server, and tasks that do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine.contracts import Connection
from include.engine.systems.airflow.workload import PROBE
from tests.e2e.live import Live
from tests.loading.range import Range

pytestmark = pytest.mark.e2e


def test_airflow_is_asked_and_runs_tasks_and_nothing_of_it_stays(live: Live, tmp_path: Path) -> None:
    airflow = live.demo.airflow
    range_ = Range("airflow", Connection(host=airflow.url, login="admin", password=airflow.password("admin")), tmp_path)
    gates = {"p50": 600_000, "figures": {"tasks_failed": {"most": 0}}}
    profile = range_.profile(stages=[{"rate": 5, "lasts": "3s"}], gates=gates, workload={"tasks": 4})
    result = range_.run(profile, permission={"guards": {"load.canary": {"above": 50}}})
    step = result.step
    assert step is not None
    assert step.errors == {}
    assert step.from_intended.count == 14  # 17 are due, three of them in the warm-up
    assert set(step.kinds) == {"monitor/health", "dags", f"dags/{PROBE}"}
    assert step.figures["tasks_failed"] == 0
    assert step.figures["first_task_seconds"] > 0
    assert step.figures["all_tasks_seconds"] >= step.figures["first_task_seconds"]
    assert step.figures["tasks_per_minute"] > 0
    assert result.environment["airflow"].startswith("3.")
    assert live.admin.runs(PROBE) == []
