"""The demo's look at itself: an answer is taken as soon as it is there, a red run is one, and none is an error."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from include.engine.cli.demo_health import look_around, verdicts
from include.engine.cli.steps import Steps
from include.engine.errors import PermanentError
from include.engine.model import Verdict
from include.engine.systems.airflow.client import AirflowClient, Run, Task
from tests.test_model import AT


class ScriptedAirflow(AirflowClient):
    """An Airflow whose runs end as they are told to."""

    def __init__(self, verdicts: dict[str, str]) -> None:
        super().__init__("http://127.0.0.1:1", "admin", "x")
        self.verdicts = verdicts
        self.asked: list[str] = []

    def wait_for_dag(self, dag: str, *, timeout: float = 120.0) -> None: ...

    def unpause(self, dag: str) -> None: ...

    def trigger(self, dag: str, conf: object = None, *, note: str | None = None) -> str:
        self.asked.append(dag)
        return f"run of {dag}"

    def follow(self, dag: str, run: str, *, timeout: float) -> Iterator[Run]:
        task = "judge" if dag == "sweep" else "inspect"
        yield Run(dag=dag, id=run, state="running", run_after=AT.isoformat(), tasks=(Task(task, "running"),))
        ended = "success" if dag in self.verdicts else "failed"
        tasks = (Task(task, ended), Task("ask", "awaiting_input"))
        yield Run(dag=dag, id=run, state="running", run_after=AT.isoformat(), tasks=tasks)
        if dag in self.verdicts:
            raise AssertionError("nobody waits for what comes after the answer")
        yield Run(dag=dag, id=run, state="failed", run_after=AT.isoformat(), tasks=tasks)

    def xcom(self, dag: str, run: str, task: str, *, map_index: int = -1, key: str = "return_value") -> Any:
        problems = {"PASS": [], "FAIL": ["FAIL disks: they fill", "UNVERIFIED stream: not read"]}
        verdict = self.verdicts[dag]
        return {"what": f"the {dag}", "verdict": verdict, "problems": problems[verdict], "report": f"reports/{dag}"}


ALL = ["sweep", "checklist_morning", "checklist_evening", "checklist_predeployment"]


def test_every_answer_is_a_line_with_its_verdict_and_why() -> None:
    client = ScriptedAirflow(dict.fromkeys(ALL, "PASS") | {"checklist_morning": "FAIL"})
    answers = look_around(client, Steps(io.StringIO()))
    assert client.asked == ALL
    assert [one.verdict for one in answers] == [Verdict.PASS, Verdict.FAIL, Verdict.PASS, Verdict.PASS]
    assert answers[1].page == "http://127.0.0.1:1/mainstay/reports/checklist_morning"
    told = Console(file=io.StringIO(), width=160)
    told.print(verdicts(answers))
    lines = told.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (morning,) = [line for line in lines if "checklist_morning" in line]
    assert "FAIL disks: they fill, and 1 more" in morning
    assert sum("all of it was proved" in line for line in lines) == 3


def test_a_run_that_ends_without_an_answer_is_an_error_that_names_it() -> None:
    with pytest.raises(PermanentError, match=r"sweep .* is failed and has found nothing"):
        look_around(ScriptedAirflow({}), Steps(io.StringIO()))
