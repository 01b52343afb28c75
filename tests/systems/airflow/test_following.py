"""Who waits for a run bears that a look at it fails, and not that nobody ever answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from include.engine.errors import Unauthorized, Unreachable
from include.engine.systems.airflow import client
from include.engine.systems.airflow.client import AirflowClient, Approval, Run, Task

BUSY = Unreachable("GET dagRuns was answered 500: Database error", hint="Read the API server's log")
QUESTION = Approval(dag="d", run="r", task="approve", subject="s", body="b", options=("Approve",), asked=0.0)


def run(state: str, *tasks: Task) -> Run:
    return Run(dag="d", id="r", state=state, run_after="2026-11-23T02:00:00Z", tasks=tasks)


class Scripted(AirflowClient):
    """An Airflow that gives one answer after the other, and the last one again and again."""

    def __init__(self, *looks: Run | Exception, asks: Sequence[Approval | Exception] = ()) -> None:
        super().__init__("http://127.0.0.1:1", "admin", "x")
        self.looks, self.asks = list(looks), list(asks)

    def run(self, dag: str, run: str) -> Run:
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(found, Exception):
            raise found
        return found

    def approvals(self, dag: str, run: str) -> list[Approval]:
        found = self.asks.pop(0)
        if isinstance(found, Exception):
            raise found
        return [found]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_POLL", 0.0)


def test_a_look_that_fails_does_not_end_the_waiting() -> None:
    airflow = Scripted(run("queued"), BUSY, BUSY, run("running"), BUSY, run("success"))
    assert [seen.state for seen in airflow.follow("d", "r", timeout=60)] == ["queued", "running", "success"]


def test_a_question_that_could_not_be_read_is_read_again() -> None:
    waits = run("running", Task("approve", "awaiting_input"))
    assert Scripted(waits, asks=[BUSY, QUESTION]).wait_for_approval("d", "r", timeout=60) == QUESTION


def test_an_airflow_that_never_answers_is_told_when_the_time_is_over() -> None:
    with pytest.raises(Unreachable, match="Database error"):
        Scripted(BUSY).wait("d", "r", timeout=0.2)


def test_what_waiting_does_not_mend_is_told_at_once() -> None:
    with pytest.raises(Unauthorized):
        Scripted(Unauthorized("403", hint="log in"), run("success")).wait("d", "r", timeout=60)
