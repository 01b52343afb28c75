"""Upkeep: what is found is told, what was not permitted is skipped, and a dry run changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.conftest import context  # isort: skip  # sets Airflow up

from airflow.sdk.exceptions import AirflowSkipException

from include.engine.contracts import Connection, Stop
from include.engine.errors import MainstayError
from include.engine.model import Check, Verdict
from include.engine.systems.airflow import metadata
from include.engine.verbs import upkeep
from include.engine.verbs.pipeline import Pipeline
from mainstay.operators.upkeep import (
    AuditOperator,
    CheckCatalogOperator,
    CleanLogsOperator,
    CleanMetadataOperator,
    SweepOperator,
)

PARAMS: dict[str, Any] = {"dry_run": False, "metadata_days": 90, "log_days": 30}


def run(operator: Any, **params: Any) -> Any:
    return operator.execute(context(**PARAMS | params))


def audit_says(monkeypatch: pytest.MonkeyPatch, checks: Sequence[Check]) -> None:
    monkeypatch.setattr(upkeep, "audit_archives", lambda pipeline, clock: list(checks))


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNVERIFIED])
def test_an_archive_that_is_not_proved_whole_fails(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    audit_says(monkeypatch, [Check(name="postgres/main: log", verdict=verdict, detail="segment 7 is missing")])
    with pytest.raises(MainstayError, match=r"segment 7 is missing[\s\S]*wal-gap"):
        run(AuditOperator(task_id="audit"))


def test_a_pipeline_without_archives_is_skipped_not_green(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    audit_says(monkeypatch, [])
    with pytest.raises(AirflowSkipException, match="no target has a log archive"):
        run(AuditOperator(task_id="audit"))


def test_a_target_without_a_backup_fails_the_catalog(pipeline: Pipeline) -> None:
    with pytest.raises(MainstayError, match="no backup at all"):
        run(CheckCatalogOperator(task_id="check_catalog"))


def test_a_sweep_of_an_empty_bucket_finds_nothing(pipeline: Pipeline) -> None:
    assert run(SweepOperator(task_id="sweep"), dry_run=True) == {
        "dry_run": True,
        "orphans": 0,
        "refused": 0,
        "bytes": 0,
    }


# Airflow's own rows and logs -----------------------------------------------------------------------------------------


def test_nobody_has_permitted_to_clean_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AIRFLOW_METADATA", raising=False)
    with pytest.raises(AirflowSkipException, match="airflow_metadata"):
        run(CleanMetadataOperator(task_id="clean_metadata"))


@pytest.mark.parametrize(("dry_run", "times"), [(True, 0), (False, 1)])
def test_the_database_is_cleaned_of_what_is_older_than_was_asked(
    monkeypatch: pytest.MonkeyPatch, dry_run: bool, times: int
) -> None:
    asked: list[tuple[Connection, float]] = []

    def clean(connection: Connection, *, before: datetime, stop: Stop) -> str:
        asked.append((connection, time.time() - before.timestamp()))
        return "done"

    monkeypatch.setattr(metadata, "clean", clean)
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_METADATA", "postgres://airflow:secret@db/airflow")
    told = run(CleanMetadataOperator(task_id="clean_metadata"), dry_run=dry_run, metadata_days=7)
    assert len(asked) == times
    assert "secret" not in str(told)
    for connection, age in asked:
        assert connection.host == "db"
        assert age == pytest.approx(7 * 86_400, abs=60)


@pytest.mark.parametrize(("dry_run", "left"), [(True, {"old.log", "new.log"}), (False, {"new.log"})])
def test_old_logs_go_unless_it_is_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool, left: set[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    for name, days in (("old.log", 40), ("new.log", 20)):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (time.time() - days * 86_400,) * 2)
    run(CleanLogsOperator(task_id="clean_logs"), dry_run=dry_run)
    assert {file.name for file in tmp_path.iterdir()} == left
