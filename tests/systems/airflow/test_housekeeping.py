"""What upkeep deletes of Airflow itself: old logs, and old rows by Airflow's own command."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Interrupted, PermanentError, Unreachable
from include.engine.systems.airflow import metadata, task_logs

NOW = datetime.now(UTC)
BEFORE = NOW - timedelta(days=30)
CONNECTION = Connection(host="db", port=5433, login="airflow", password="s3cr/t", schema="airflow")


def written(path: Path, *, days_ago: int, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ((NOW - timedelta(days=days_ago)).timestamp(),) * 2)
    return path


# logs ----------------------------------------------------------------------------------------------------------------


def test_old_logs_go_with_the_directories_that_they_leave_empty(tmp_path: Path) -> None:
    written(tmp_path / "dag_id=a" / "run_id=1" / "task_id=t" / "attempt=1.log", days_ago=40, text="12345")
    kept = written(tmp_path / "dag_id=a" / "run_id=2" / "attempt=1.log", days_ago=1)
    assert task_logs.remove_old(tmp_path, before=BEFORE, stop=Stop()) == task_logs.Removed(files=1, bytes=5)
    assert not (tmp_path / "dag_id=a" / "run_id=1").exists()
    assert kept.exists()


def test_the_folder_itself_and_what_is_no_log_stay(tmp_path: Path) -> None:
    written(tmp_path / "logs" / "x.log", days_ago=40)
    task_logs.remove_old(tmp_path / "logs", before=BEFORE, stop=Stop())
    assert (tmp_path / "logs").is_dir()
    other = written(tmp_path / "logs" / "passwords.json", days_ago=40)
    task_logs.remove_old(tmp_path / "logs", before=BEFORE, stop=Stop())
    assert other.exists()


def test_a_directory_that_a_task_has_just_made_stays(tmp_path: Path) -> None:
    fresh = tmp_path / "dag_id=a" / "run_id=3"
    fresh.mkdir(parents=True)
    task_logs.remove_old(tmp_path, before=BEFORE, stop=Stop())
    assert fresh.is_dir()


def test_a_link_is_neither_followed_nor_deleted(tmp_path: Path) -> None:
    outside = written(tmp_path / "outside" / "a.log", days_ago=40)
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "directory").symlink_to(outside.parent)
    (folder / "file.log").symlink_to(outside)
    task_logs.remove_old(folder, before=NOW + timedelta(days=1), stop=Stop())
    assert outside.exists()
    assert (folder / "file.log").is_symlink()


def test_a_stop_ends_it(tmp_path: Path) -> None:
    stop = Stop()
    stop.stop("enough")
    with pytest.raises(Interrupted):
        task_logs.remove_old(tmp_path, before=BEFORE, stop=stop)


# rows ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of Python, which is asked to run Airflow's command; the test writes what it does."""
    program = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(program))
    return program


def behaves(program: Path, script: str) -> None:
    program.write_text("#!/bin/sh\n" + textwrap.dedent(script))
    program.chmod(0o755)


def test_the_command_gets_the_way_to_the_database_and_none_of_the_guard(
    airflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "airflow-db-not-allowed:///")
    monkeypatch.setenv("AIRFLOW__CORE__SQL_ALCHEMY_CONN", "airflow-db-not-allowed:///")
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    assert metadata.url(CONNECTION) == "postgresql+psycopg2://airflow:s3cr%2Ft@db:5433/airflow"
    seen = airflow.with_name("seen")
    behaves(airflow, f'echo "$*" > {seen}; env >> {seen}')
    metadata.clean(CONNECTION, before=BEFORE, stop=Stop())
    text = seen.read_text()
    assert f"-m airflow db clean --yes --skip-archive --clean-before-timestamp {BEFORE.isoformat()}" in text
    assert f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN={metadata.url(CONNECTION)}" in text
    assert "not-allowed" not in text
    assert "_AIRFLOW_PROCESS_CONTEXT" not in text


def test_what_the_command_says_holds_no_password(airflow: Path) -> None:
    behaves(airflow, "echo cleaned s3cr/t and s3cr%2Ft")
    assert metadata.clean(CONNECTION, before=BEFORE, stop=Stop()) == "cleaned *** and ***"


@pytest.mark.parametrize(
    ("said", "error"), [("OperationalError: no route", Unreachable), ("KeyError: dag", PermanentError)]
)
def test_a_failure_says_whether_trying_again_helps(airflow: Path, said: str, error: type[Exception]) -> None:
    behaves(airflow, f"echo '{said} s3cr/t'; exit 1")
    with pytest.raises(error) as caught:
        metadata.clean(CONNECTION, before=BEFORE, stop=Stop())
    assert said in str(caught.value)
    assert "s3cr" not in str(caught.value)


def test_a_stop_ends_the_command(airflow: Path) -> None:
    behaves(airflow, "exec sleep 60")
    stop = Stop()
    threading.Timer(0.3, stop.stop, ["enough"]).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        metadata.clean(CONNECTION, before=BEFORE, stop=stop)
    assert time.monotonic() - began < 20
