"""What the probes of an Airflow make of its answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from include.engine.systems.airflow import probes
from include.engine.systems.airflow.client import AirflowClient
from include.engine.watching import AirflowWatch

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
Runs = list[dict[str, Any]]


def runs(*states: str, every: timedelta = timedelta(hours=1)) -> Runs:
    """Runs of a DAG, newest first."""
    return [
        {
            "state": state,
            "end_date": (NOW - every * number).isoformat(),
            "run_after": (NOW - every * number).isoformat(),
        }
        for number, state in enumerate(states, start=1)
    ]


class OneDag(AirflowClient):
    """An Airflow with one DAG."""

    def __init__(self, found: Runs) -> None:
        super().__init__("http://127.0.0.1:1", "viewer", "x")
        self.found = found

    def bearer(self) -> str:
        return ""

    def get(self, path: str, **asked: Any) -> Any:
        if path == "dags":
            return {"dags": [{"dag_id": "backup", "is_paused": False, "tags": []}], "total_entries": 1}
        assert path == "dags/backup/dagRuns"
        chosen = [run for run in self.found if asked.get("state") in (None, run["state"])]
        chosen.sort(key=lambda run: str(run["run_after"]), reverse=asked.get("order_by") == "-run_after")
        return {"dag_runs": chosen[: asked["limit"]], "total_entries": len(chosen)}


def late(found: Runs) -> list[float]:
    """Hours by which the DAG is late, which may be four hours old."""
    seen: list[tuple[str, float]] = []
    watch = AirflowWatch(connection="x", late_after={"backup": timedelta(hours=4)})
    probes._dags(OneDag(found), watch, lambda metric, value, *_, **__: seen.append((metric, value)), NOW)
    return [value / 3600 for metric, value in seen if metric == "dag.late"]


def test_a_dag_is_late_by_its_last_success_however_many_runs_have_failed_since() -> None:
    assert late(runs("success")) == [-3.0]
    assert late(runs(*["failed"] * 5, "success")) == [2.0]
    assert late(runs(*["failed"] * 30, "success")) == [27.0]
    assert late(runs(*["queued"] * 30, "success")) == [27.0]  # a backlog hides it as well


def test_a_dag_that_has_never_succeeded_is_late_since_its_first_failure() -> None:
    assert late(runs(*["failed"] * 30)) == [26.0]
    assert late(runs("running")) == []
    assert late([]) == []
