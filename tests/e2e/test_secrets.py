"""After everything else has run: no secret has come to rest where people look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from include.engine.cli.demo_health import Answer
from include.engine.systems.airflow.database import DATABASE
from tests.e2e.conftest import BackedUp
from tests.e2e.live import Live

pytestmark = pytest.mark.e2e

# What Airflow shows of a run: what tasks returned, their rendered fields, the questions, the forms, the audit log.
TABLES = ("xcom", "rendered_task_instance_fields", "hitl_detail", "dag_run", "serialized_dag", "log", "asset_event")

PUBLIC = {".pem"}  # certificates


@pytest.fixture
def secrets(live: Live, backed_up: BackedUp, looked: Mapping[str, Answer]) -> dict[str, bytes]:
    """Every secret of the pipeline, by name."""
    files = [file for file in (live.demo.sandbox.root / "secrets").rglob("*") if file.is_file()]
    known = {file.name: file.read_bytes() for file in files if file.suffix not in PUBLIC}
    connections = live.demo.connections().items()
    known |= {f"connection {name}": one.password.encode() for name, one in connections if one.password}
    assert len(known) > 5
    assert all(len(secret) >= 16 for secret in known.values())
    return known


def found(secrets: dict[str, bytes], text: bytes) -> list[str]:
    """Names, so that a failure does not print what it is about."""
    return [name for name, secret in secrets.items() if secret in text]


def test_they_are_in_nothing_that_airflow_keeps_of_a_run(live: Live, secrets: dict[str, bytes]) -> None:
    with live.demo.primary.connect(DATABASE) as connection:
        for table in TABLES:
            rows = connection.execute(f"select row_to_json(t)::text from {table} t").fetchall()
            assert rows, table
            assert not found(secrets, "\n".join(row[0] for row in rows).encode()), table


def test_they_are_in_no_value_that_the_api_gives(live: Live, secrets: dict[str, bytes]) -> None:
    values = 0
    for dag, run in live.runs:
        for entry in live.admin.get(f"dags/{dag}/dagRuns/{run}/taskInstances/~/xcomEntries")["xcom_entries"]:
            where = (dag, run, entry["task_id"])
            value = live.admin.xcom(*where, map_index=entry["map_index"], key=entry["key"])
            assert not found(secrets, str(value).encode()), where
            values += 1
    assert values


def test_they_are_in_no_log(live: Live, secrets: dict[str, bytes]) -> None:
    logs = [file for file in live.demo.airflow.task_logs.rglob("*") if file.is_file()]
    assert any("dag_id=backup" in str(file) for file in logs)
    logs += live.demo.airflow.logs.values()
    assert not [file for file in logs if found(secrets, file.read_bytes())]


def test_they_are_on_no_command_line(secrets: dict[str, bytes]) -> None:
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            assert not found(secrets, line), process
