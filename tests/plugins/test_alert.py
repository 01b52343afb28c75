"""One line for everything that goes wrong, with what a person at three in the morning needs."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.plugins.conftest import RUN_AFTER  # isort: skip  # sets Airflow up

from include.engine.errors import Refused
from mainstay.notifiers.alert import AlertNotifier, line
from tests.airflow_env import PROJECT


def failed(tags: tuple[str, ...] = ("tier:1",)) -> dict[str, Any]:
    """The context of a task that failed."""
    return {
        "ti": SimpleNamespace(dag_id="backup", task_id="copy", log_url="http://airflow/dags/backup/log"),
        "dag_run": SimpleNamespace(dag_id="backup", run_id="manual__1", run_after=RUN_AFTER),
        "dag": SimpleNamespace(tags=set(tags)),
        "exception": Refused('the directory "a"\nis not empty', hint="choose another"),
    }


def fields(text: str) -> dict[str, str]:
    """Read a line back the way a log pipeline does."""
    kind, *pairs = shlex.split(text)
    assert kind == "ALERT"
    return dict(pair.split("=", 1) for pair in pairs)


def test_a_failed_task_is_told_with_its_reason_its_runbook_and_where_to_look() -> None:
    told = line(failed(), what="", slug="backup-failed")
    assert "\n" not in told
    assert fields(told) == {
        "severity": "page",
        "what": "backup.copy failed",
        "since": "2026-11-23 02:00:00Z",
        "run": "manual__1",
        "why": 'the directory "a" is not empty. choose another',
        "runbook": "backup-failed",
        "link": "http://airflow/dags/backup/log",
    }


@pytest.mark.parametrize(
    ("tags", "severity"),
    [(("tier:1",), "page"), (("tier:2",), "today"), (("tier:3",), "this-week"), ((), "page")],
)
def test_how_bad_it_is_follows_the_tier_and_is_worst_when_nobody_said(tags: tuple[str, ...], severity: str) -> None:
    assert fields(line(failed(tags), what="", slug="x"))["severity"] == severity


def test_a_missed_deadline_has_no_task_and_its_run_comes_as_plain_values() -> None:
    context = {"dag_run": {"dag_id": "backup", "dag_run_id": "scheduled__1", "run_after": "2026-11-23T03:00:00+01:00"}}
    told = fields(line(context, what="a backup is late", slug="backup-late"))
    assert told["what"] == "a backup is late"
    assert told["since"] == "2026-11-23 02:00:00Z"
    assert told["run"] == "scheduled__1"
    assert told["link"].endswith("/mainstay/runbooks/backup-late")


def test_a_context_without_anything_still_makes_a_line() -> None:
    assert fields(line({}, what="something", slug="backup-failed"))["what"] == "something"


async def test_the_triggerer_and_the_worker_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(AlertNotifier, "log", SimpleNamespace(error=lambda form, text: said.append(form % text)))
    context = {"dag_run": SimpleNamespace(dag_id="backup", run_id="1", run_after=datetime(2026, 1, 1, tzinfo=UTC))}
    AlertNotifier(runbook="backup-late", what="late").notify(context)  # type: ignore[arg-type]
    await AlertNotifier(runbook="backup-late", what="late").async_notify(context)  # type: ignore[arg-type]
    assert len(said) == 2
    assert said[0] == said[1]


async def test_a_deadline_that_is_missed_reaches_the_log_the_way_airflow_calls_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The triggerer has nothing but the path and the arguments that the DAG was serialized with, and a plain context."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.triggers.callback import CallbackTrigger

    said: list[str] = []
    monkeypatch.setattr(AlertNotifier, "log", SimpleNamespace(error=lambda form, text: said.append(form % text)))
    dag: Any = DagBag(dag_folder=str(PROJECT / "dags" / "backup.py")).dags["backup"]
    (alert,) = dag.deadline  # one, named "late"
    callback = json.loads(json.dumps(alert.callback.serialize()))
    context = {"dag_run": {"dag_id": "backup", "dag_run_id": "scheduled__1", "run_after": "2026-11-23T02:00:00Z"}}
    trigger = CallbackTrigger(callback["path"], {**callback["kwargs"], "context": context})

    states = [event.payload["state"] async for event in trigger.run()]

    assert states == ["running", "success"]
    (told,) = map(fields, said)
    assert (told["what"], told["run"], told["severity"]) == ("a backup is late", "scheduled__1", "page")
