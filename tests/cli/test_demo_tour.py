"""The tour tells every task as it goes on, and what a failed one said; its report says what was proved."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from include.engine.cli.demo_tour import Tour, failure_of, report, run_dag
from include.engine.cli.steps import Steps
from include.engine.cli.traffic import DEFAULT_SECONDS, pause
from include.engine.errors import Misconfigured
from include.engine.model import Check, Consistency, DrillReport, SetManifest, Stage, Verdict
from include.engine.systems.airflow.client import AirflowClient, Run, Task
from tests.test_model import AT, a_manifest


class ScriptedAirflow(AirflowClient):
    """An Airflow whose one run goes through *states*."""

    def __init__(self, *seen: Run, log: str = "") -> None:
        super().__init__("http://127.0.0.1:1", "admin", "x")
        self._seen, self._log = seen, log
        self.asked: list[str] = []

    def wait_for_dag(self, dag: str, *, timeout: float = 120.0) -> None:
        self.asked.append(f"wait {dag}")

    def unpause(self, dag: str) -> None:
        self.asked.append(f"unpause {dag}")

    def trigger(self, dag: str, conf: object = None, *, note: str | None = None) -> str:
        self.asked.append(f"trigger {dag}")
        return "run-1"

    def follow(self, dag: str, run: str, *, timeout: float) -> Iterator[Run]:
        yield from self._seen

    def log(self, dag: str, run: str, task: str, *, map_index: int = -1, attempt: int = 1) -> str:
        return self._log


def a_run(state: str, *tasks: Task) -> Run:
    return Run(dag="backup", id="run-1", state=state, run_after=AT.isoformat(), tasks=tasks)


def test_every_change_of_a_task_is_told_once() -> None:
    client = ScriptedAirflow(
        a_run("running", Task("freeze", "none"), Task("copy", "none", 0)),
        a_run("running", Task("freeze", "running"), Task("copy", "none", 0)),
        a_run("running", Task("freeze", "success", seconds=1.25), Task("copy", "running", 0)),
        a_run("success", Task("freeze", "success", seconds=1.25), Task("copy", "success", 0, seconds=3.0)),
    )
    told = io.StringIO()

    ended = run_dag(client, "backup", Steps(told))

    assert ended.state == "success"
    assert client.asked == ["wait backup", "unpause backup", "trigger backup"]
    lines = [line.strip() for line in told.getvalue().splitlines()]
    assert lines[2:6] == ["freeze runs", "freeze done, 1.2 s", "copy[0] runs", "copy[0] done, 3.0 s"]


def test_a_failed_task_is_named_with_what_its_log_says() -> None:
    log = "1 info it begins\n2 error the bucket is gone\n3 info it ends"
    run = a_run("failed", Task("seal", "upstream_failed"), Task("copy", "failed", 0))
    error = failure_of(ScriptedAirflow(log=log), run)
    assert "copy" in error.message
    assert "the bucket is gone" in error.hint
    assert "it begins" not in error.hint


def test_the_report_says_what_was_proved(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = a_manifest()
    fits = Consistency(checks=(), freeze_seconds=2.25, skew_seconds=1.5, replay_records=312)
    sealed = SetManifest(
        id=manifest.id, pipeline="demo", started=AT, frozen=AT, finished=AT, parts=(), consistency=fits
    )
    drill = DrillReport(
        id="20261123T030000Z",
        started=AT,
        finished=datetime(2026, 11, 23, 3, tzinfo=UTC),
        set_id=manifest.id,
        target=manifest.target,
        backup=manifest.id,
        stages=(Stage(name="fetch", seconds=4.0), Stage(name="checks", seconds=9.0, counts=False)),
        checks=(Check(name="rows", verdict=Verdict.UNVERIFIED, detail="nobody looked"),),
        verdict=Verdict.UNVERIFIED,
        rto_seconds=4.0,
        rpo_seconds=None,
        rto_objective=600.0,
        rpo_objective=120.0,
    )
    seen = Tour(sealed=sealed, backups=(manifest,), drill=drill)

    report(seen, seconds=75)

    said = capsys.readouterr().out
    assert seen.verdict is Verdict.UNVERIFIED
    for expected in (
        "7.0x",
        "in 4.0 s",
        "nobody looked",
        "UNVERIFIED",
        "10 m",
        "1 m 15 s",
        "frozen in 2.2 s",
        "312 records",
    ):
        assert expected in said


@pytest.mark.parametrize(("text", "seconds"), [("", DEFAULT_SECONDS), ("0.2", 0.2), ("60", 60.0)])
def test_the_pause_of_the_traffic_can_be_set(text: str, seconds: float) -> None:
    assert pause({"MAINSTAY_TRAFFIC_SECONDS": text}) == seconds


@pytest.mark.parametrize("text", ["often", "0", "-1", "nan", "inf"])
def test_a_pause_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="MAINSTAY_TRAFFIC_SECONDS"):
        pause({"MAINSTAY_TRAFFIC_SECONDS": text})
