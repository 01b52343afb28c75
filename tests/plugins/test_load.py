"""The load test's operators: what they choose, that a FAIL is a result, and that the next task judges it.

The engine is on paper, the generator is not: its processes keep a schedule of operations that do nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.plugins.conftest import RUN_AFTER, context  # isort: skip  # sets Airflow up

from airflow.sdk.exceptions import AirflowSkipException

from include.engine import load_wiring
from include.engine.contracts import Clock
from include.engine.errors import PermanentError, Refused
from include.engine.loading.contracts import LoadRun, Measured, Worker
from include.engine.loading.permission import CANARY, LoadPermission
from include.engine.loading.schedule import Schedule
from include.engine.loading.workers import generate
from include.engine.model import GeneratorLimit, Reading, backup_id
from include.engine.store.loads import Loads
from include.engine.verbs.pipeline import Pipeline
from mainstay.operators.judge import JudgeOperator
from mainstay.operators.load import ChooseLoadsOperator, LoadTestOperator
from tests.cli.paper import Paper

FORM: dict[str, Any] = {
    "profile": None,
    "target": None,
    "kind": "steady",
    "rate": 50,
    "duration": 1,
    "search": False,
    "baseline": None,
    "reason": None,
}
LOAD = {"profile": "kafka-steady", "target": "kafka/main"}


class Nothing:
    """Loads nothing, and remembers what was created and removed."""

    def __init__(self) -> None:
        self.there: list[str] = []

    def environment(self) -> Mapping[str, str]:
        return {"kafka": "on paper"}

    def limit(self, run: LoadRun, *, rate: float) -> GeneratorLimit | None:
        return None

    def prepare(self, run: LoadRun) -> None:
        self.there.append(run.name)

    def measure(self, run: LoadRun, schedule: Schedule) -> Measured:
        worker = Worker(module="include.engine.loading.nothing", parameters={})
        return generate(worker, schedule, processes=1, bound=10, grace=2, stop=run.stop)

    def canary(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        return [Reading(metric=CANARY, value=0.001, unit="s", at=clock())]

    def leftovers(self, prefix: str) -> Sequence[str]:
        return [name for name in self.there if name.startswith(prefix)]

    def remove(self, names: Sequence[str]) -> None:
        self.there = [name for name in self.there if name not in names]


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> dict[str, LoadPermission]:
    targets = {
        "kafka/main": LoadPermission(allowed=True),
        "kafka/other": LoadPermission(),
        "postgres/main": LoadPermission(allowed=True, max_seconds=timedelta(seconds=1)),
    }
    monkeypatch.setattr(load_wiring, "load_targets", lambda inventory: targets)
    monkeypatch.setattr(load_wiring, "load_probes", lambda *_: ())
    return targets


def task(**params: Any) -> Any:
    return context(**FORM | params) | {"ti": SimpleNamespace(map_index=0)}


@pytest.mark.usefixtures("paper", "pipeline")
@pytest.mark.parametrize(
    ("form", "chosen"),
    [
        ({}, [("kafka/main", "kafka-steady"), ("postgres/main", "postgres-steady")]),
        ({"kind": "brief"}, [("kafka/main", "kafka-brief"), ("postgres/main", "postgres-brief")]),
        ({"profile": "kafka-ramp"}, [("kafka/main", "kafka-ramp")]),
        ({"target": "kafka/other"}, [("kafka/other", "kafka-steady")]),
        ({"target": "postgres/main", "profile": "postgres-steady"}, [("postgres/main", "postgres-steady")]),
    ],
    ids=["all that are allowed", "all of them briefly", "a profile", "a target", "both"],
)
def test_what_the_form_leaves_open_is_chosen(
    form: dict[str, Any], chosen: list[tuple[str, str]], allowed: dict[str, LoadPermission]
) -> None:
    found = ChooseLoadsOperator(task_id="choose").execute(task(**form))
    assert [(one["target"], one["profile"]) for one in found] == chosen


@pytest.mark.usefixtures("paper", "pipeline")
def test_nothing_allowed_is_skipped(allowed: dict[str, LoadPermission]) -> None:
    allowed.clear()
    with pytest.raises(AirflowSkipException, match="allowed: true"):
        ChooseLoadsOperator(task_id="choose").execute(task())


def test_a_load_is_named_after_its_run_kept_and_judged_by_the_next_task(
    paper: Paper,
    pipeline: Pipeline,
    allowed: dict[str, LoadPermission],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    engine = Nothing()
    monkeypatch.setattr(load_wiring, "open_load", lambda *_: engine)
    operator = LoadTestOperator(task_id="load", load=LOAD)
    told = json.loads(json.dumps(operator.execute(task(reason="a look"))))
    assert len(json.dumps(told)) < 4096
    kept = Loads(pipeline.catalog.bucket).get(backup_id(RUN_AFTER))
    assert (kept.id, kept.reason, str(kept.verdict)) == (told["id"], "a look", told["verdict"])
    assert kept.step is not None
    assert kept.step.from_intended.count == 50
    assert engine.there == []
    # 50 operations are too few for its p99.9: not proved is not green.
    assert told["verdict"] == "UNVERIFIED"
    with pytest.raises(PermanentError, match="p999"):
        JudgeOperator(task_id="judge", summary=told, runbook="load-failed").execute(task())
    assert operator.execute(task()) == told  # cleared: the result stands
    other = LoadTestOperator(task_id="load", load={"profile": "postgres-steady", "target": "postgres/main"})
    with pytest.raises(Refused, match="is one of kafka-steady on kafka/main"):
        other.execute(task())
    with pytest.raises(Refused, match="max_seconds"):
        other.execute(task(duration=5) | {"ti": SimpleNamespace(map_index=1)})
