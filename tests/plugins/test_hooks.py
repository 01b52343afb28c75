"""The hooks: from Airflow's connections to the engine's, and progress as lines in a task's log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import airflow_env  # isort: skip  # before the first import of Airflow

from include.engine import wiring
from include.engine.errors import Misconfigured
from mainstay.hooks.mainstay import AirflowConnections, MainstayHook
from mainstay.hooks.progress import LogProgress

assert airflow_env.HOME.is_dir()
SECRET = "p@ss/w:rd%"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: Any, /, *args: Any) -> None:
        self.lines.append(event % args)


# connections ---------------------------------------------------------------------------------------------------------


def test_a_connection_comes_whole_and_its_extras_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"conn_type": "aws", "login": "key", "password": SECRET, "port": 9000, "host": "h", "extra": {"retries": 3}}
    monkeypatch.setenv("AIRFLOW_CONN_A_STORE", json.dumps(value))
    found = AirflowConnections().get("a_store")
    assert (found.host, found.port, found.login, found.password) == ("h", 9000, "key", SECRET)
    assert found.extra == {"retries": "3"}
    assert SECRET not in repr(found)


def test_the_shell_reads_the_same_connection_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "postgres://mainstay:p%40ss%2Fw%3Ard%25@db:5433/orders?sslmode=require"
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_ORDERS", uri)
    seen = AirflowConnections().get("postgres_orders")
    assert seen == wiring.EnvironmentConnections().get("postgres_orders")
    assert seen.password == SECRET


def test_a_connection_that_airflow_lacks_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_MAINSTAY_STORE", raising=False)
    with pytest.raises(Misconfigured, match="mainstay_store") as caught:
        MainstayHook().pipeline()
    assert "AIRFLOW_CONN_MAINSTAY_STORE" in caught.value.hint


# progress ------------------------------------------------------------------------------------------------------------


def test_a_long_stage_is_told_every_ten_seconds_with_what_is_left() -> None:
    clock, log = Clock(), Lines()
    progress = LogProgress(log, now=clock)
    progress.stage("copy", 80 << 20)
    for _ in range(80):
        clock.seconds += 0.5
        progress.advance(1 << 20)
    progress.close()
    assert log.lines == [
        "copy (80.0 MiB)",
        "copy: 20.0 MiB of 80.0 MiB (25 %), 2.00 MiB/s, 30 s left",
        "copy: 40.0 MiB of 80.0 MiB (50 %), 2.00 MiB/s, 20 s left",
        "copy: 60.0 MiB of 80.0 MiB (75 %), 2.00 MiB/s, 10 s left",
        "copy: 80.0 MiB of 80.0 MiB (100 %), 2.00 MiB/s, 0.0 s left",
        "copy: 80.0 MiB, 2.00 MiB/s, in 40 s",
    ]


def test_more_than_was_estimated_promises_no_time_left() -> None:
    clock, log = Clock(), Lines()
    progress = LogProgress(log, now=clock)
    progress.stage("copy", 1 << 20)
    clock.seconds = 10
    progress.advance(2 << 20)
    assert "left" not in log.lines[-1]


def test_a_stage_ends_the_one_before_it_and_events_come_at_once() -> None:
    clock, log = Clock(), Lines()
    progress = LogProgress(log, now=clock)
    progress.stage("first")
    clock.seconds = 1
    progress.say("100 % of it")
    progress.stage("second")
    progress.close()
    progress.close()
    assert log.lines == ["first", "100 % of it", "first: in 1.0 s", "second", "second: in 0.0 s"]
