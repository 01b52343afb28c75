"""The demo's look at itself: the DAGs ``sweep`` and ``checklist_…`` by REST, and their verdicts in a line each.

::

    looked = look_around(demo.airflow.client(), steps)
    show(verdicts(looked))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from include.engine.cli.output import coloured, table
from include.engine.errors import PermanentError
from include.engine.model import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from include.engine.cli.steps import Steps
    from include.engine.systems.airflow.client import AirflowClient, Run

SWEEP = "sweep"
CHECKLISTS = ("checklist_morning", "checklist_evening", "checklist_predeployment")
_ANSWERS = {SWEEP: "judge"} | dict.fromkeys(CHECKLISTS, "inspect")  # the task whose result is the answer
_RUN_TIMEOUT = 900.0  # seconds


class Answer(Struct, frozen=True, kw_only=True):
    """What one of these DAGs has found.

    :param problems: what was not proved, failures first
    :param page: with all of it, in Airflow
    """

    dag: str
    run: str
    what: str
    verdict: Verdict
    problems: tuple[str, ...]
    page: str

    @property
    def said(self) -> str:
        """The verdict's reason, in a line."""
        if not self.problems:
            return "all of it was proved"
        more = f", and {len(self.problems) - 1} more" if len(self.problems) > 1 else ""
        return f"{self.problems[0]}{more}"


def look_around(client: AirflowClient, steps: Steps) -> Sequence[Answer]:
    """Trigger the sweep, then all checklists at once, and give what they found.

    A red run is an answer: the last task of each fails when something is wrong or could not be proved.  The one before a
    deployment goes on to wait for a person's signature, and is left to wait.

    :raises PermanentError: one ended without an answer
    :raises Unreachable: one gave none in time
    """
    return [*_asked(client, (SWEEP,), steps), *_asked(client, CHECKLISTS, steps)]


def verdicts(answers: Sequence[Answer]) -> RenderableType:
    """Show a line for each."""
    return table(
        ("looked at by Airflow", "verdict", "because"), [(one.what, coloured(one.verdict), one.said) for one in answers]
    )


def _asked(client: AirflowClient, dags: Sequence[str], steps: Steps) -> list[Answer]:
    runs = []
    with steps.step(f"Waiting for Airflow to read {', '.join(dags)}"):
        for dag in dags:
            client.wait_for_dag(dag)
            client.unpause(dag)
            runs.append(client.trigger(dag, note="./mainstay demo"))
    found = []
    for dag, run in zip(dags, runs, strict=True):
        with steps.step(f"Running {dag}"):
            found.append(answer(client, dag, run))
    return found


def answer(client: AirflowClient, dag: str, run: str) -> Answer:
    """Wait until the run has its answer, which is before its end, and give it.

    :raises PermanentError: it ended without one
    :raises Unreachable: there was none in time
    """
    seen: Run | None = None
    for seen in client.follow(dag, run, timeout=_RUN_TIMEOUT):
        if any(task.name == _ANSWERS[dag] and task.state == "success" for task in seen.tasks):
            return _read(client, dag, run)
    state = seen.state if seen else "gone"
    raise PermanentError(
        f"{dag} {run} is {state} and has found nothing", hint=f"Read the log of its task {_ANSWERS[dag]}: {client.url}"
    )


def _read(client: AirflowClient, dag: str, run: str) -> Answer:
    told = client.xcom(dag, run, _ANSWERS[dag])
    return Answer(
        dag=dag,
        run=run,
        what=str(told["what"]),
        verdict=Verdict(told["verdict"]),
        problems=tuple(str(problem) for problem in told["problems"]),
        page=f"{client.url}/mainstay/{told['report']}",
    )
