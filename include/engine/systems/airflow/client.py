"""Talks to an Airflow 3 over its REST API, with the standard library only.

::

    airflow = AirflowClient("http://127.0.0.1:8080", "admin", "admin")
    airflow.unpause("backup")
    run = airflow.trigger("backup", {"targets": ["postgres/main"]})
    for seen in airflow.follow("backup", run, timeout=300):        # a value at every change, the last one is final
        print(seen.state, [f"{t.name}: {t.state}" for t in seen.tasks])
    summary = airflow.xcom("backup", run, "seal")

    for approval in airflow.approvals("restore", run):             # what waits for a person, with its Markdown body
        airflow.answer(approval, "Approve")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from include.engine.errors import Contended, NotFound, PermanentError, TransientError, Unreachable
from include.engine.systems.airflow.rest import RestClient
from include.engine.systems.airflow.runs import FINAL, Approval, Run, Task

__all__ = ["AirflowClient", "Approval", "Run", "Task"]

_POLL = 0.5  # seconds between two looks at a run
_SETTLE = 5.0  # seconds that an approval must have waited before it is answered: see AirflowClient.answer
_ASKED_AGAIN = 3  # times that the same question is answered
_PATIENCE = 300.0  # seconds for which one look after the other may fail
_LOOKS = 120  # seconds in which a task that was answered must go on, retry delays included
Seen = TypeVar("Seen")


class AirflowClient(RestClient):
    """One user's view of one Airflow: its health, its DAGs and their runs, and what waits for a person.

    :param url: where its API server is, without a path
    """

    # the server --------------------------------------------------------------------------------------------------

    def health(self) -> dict[str, str]:
        """Give the status of each component, ``healthy`` or not; needs no login.

        :raises Unreachable: the API server did not answer
        """
        found = self._send("GET", "/api/v2/monitor/health", None, {})
        return {name: str((told or {}).get("status")) for name, told in found.items()}

    def import_errors(self) -> dict[str, str]:
        """Give the DAG files that cannot be read, each with its traceback."""
        found = self.get("importErrors")["import_errors"]
        return {str(error["filename"]): str(error["stack_trace"]) for error in found}

    def put_pool(self, name: str, slots: int, description: str = "", *, include_deferred: bool = True) -> None:
        """Create a pool, or set it right when it is there."""
        pool = {"name": name, "slots": slots, "description": description, "include_deferred": include_deferred}
        try:
            self.post("pools", pool)
        except Contended:
            self.patch(f"pools/{quote(name)}", {"pool": name, **{k: v for k, v in pool.items() if k != "name"}})

    # DAGs and runs -----------------------------------------------------------------------------------------------

    def wait_for_dag(self, dag: str, *, timeout: float = 120.0) -> None:
        """Wait until the DAG processor has read *dag*.

        :raises PermanentError: a DAG file cannot be read; the hint shows why
        :raises Unreachable: it was not there in time
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.get(f"dags/{quote(dag)}")
                return
            except NotFound:
                for file, trace in self.import_errors().items():
                    raise PermanentError(f"Airflow cannot read {file}", hint=trace.strip().splitlines()[-1]) from None
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f"Airflow has not found the DAG {dag} within {timeout:g} s", hint="Read the dag-processor's log"
                )
            time.sleep(_POLL)

    def unpause(self, dag: str) -> None:
        """Let the scheduler run *dag*.  The DAGs of this project do not catch up, so nothing starts by itself."""
        self.patch(f"dags/{quote(dag)}", {"is_paused": False})

    def pause(self, dag: str) -> None:
        """Keep the scheduler from starting runs of *dag*."""
        self.patch(f"dags/{quote(dag)}", {"is_paused": True})

    def trigger(self, dag: str, conf: Mapping[str, Any] | None = None, *, note: str | None = None) -> str:
        """Ask for a run of *dag* with *conf* for its params, and give the run's id.

        :raises PermanentError: the params are not what the DAG's form allows
        """
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if note:
            body["note"] = note
        return str(self.post(f"dags/{quote(dag)}/dagRuns", body)["dag_run_id"])

    def runs(self, dag: str, *, limit: int = 20) -> list[str]:
        """Give the ids of the newest runs of *dag*, newest first."""
        found = self.get(f"dags/{quote(dag)}/dagRuns", limit=limit, order_by="-run_after")
        return [str(run["dag_run_id"]) for run in found["dag_runs"]]

    def run(self, dag: str, run: str) -> Run:
        """Give a run and its tasks as they are now."""
        where = f"dags/{quote(dag)}/dagRuns/{quote(run)}"
        found = self.get(where)
        tasks = self.get(f"{where}/taskInstances", limit=100)["task_instances"]
        return Run(
            dag=dag,
            id=run,
            state=str(found["state"]),
            run_after=str(found["run_after"]),
            tasks=tuple(
                Task(
                    name=str(task["task_id"]),
                    state=str(task["state"] or "none"),
                    map_index=int(task["map_index"]),
                    tries=int(task["try_number"]),
                    seconds=task["duration"],
                )
                for task in tasks
            ),
        )

    def follow(self, dag: str, run: str, *, timeout: float) -> Iterator[Run]:
        """Yield the run at every change of it or of its tasks, until it is over.

        :raises Unreachable: it was not over in time; the message says which tasks were not
        """
        deadline = time.monotonic() + timeout
        last = None
        while True:
            seen = _answered(lambda: self.run(dag, run), deadline)
            shape = (seen.state, tuple((task.name, task.map_index, task.state, task.tries) for task in seen.tasks))
            if shape != last:
                last = shape
                yield seen
            if seen.ended:
                return
            if time.monotonic() >= deadline:
                open_ = ", ".join(f"{t.name} is {t.state}" for t in seen.tasks if t.state not in (*FINAL, "skipped"))
                raise Unreachable(
                    f"{dag} {run} was not over within {timeout:g} s: {open_}",
                    hint=f"Look at it: {self.url}/dags/{quote(dag)}/runs/{quote(run)}",
                )
            time.sleep(_POLL)

    def wait(self, dag: str, run: str, *, timeout: float) -> Run:
        """Wait until a run is over, and give it."""
        *_, last = self.follow(dag, run, timeout=timeout)
        return last

    def xcom(self, dag: str, run: str, task: str, *, map_index: int = -1, key: str = "return_value") -> Any:
        """Give what a task has returned.

        :raises NotFound: it returned nothing
        """
        where = f"dags/{quote(dag)}/dagRuns/{quote(run)}/taskInstances/{quote(task)}/xcomEntries/{quote(key)}"
        return self.get(where, map_index=map_index, deserialize="false")["value"]

    def log(self, dag: str, run: str, task: str, *, map_index: int = -1, attempt: int = 1) -> str:
        """Give the log of one try of a task, one event a line."""
        where = f"dags/{quote(dag)}/dagRuns/{quote(run)}/taskInstances/{quote(task)}/logs/{attempt}"
        found = self.get(where, map_index=map_index, full_content="true")["content"]
        return "\n".join(_line(event) for event in found) if isinstance(found, list) else str(found)

    def asset_events(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Give the asset events that a run has caused, each with ``uri`` and ``extra``."""
        found = self.get("assets/events", source_dag_id=dag, source_run_id=run, limit=100)["asset_events"]
        return [dict(event) for event in found]

    # people ------------------------------------------------------------------------------------------------------

    def approvals(self, dag: str, run: str) -> list[Approval]:
        """Give what waits for a person in a run."""
        found = self.get(f"dags/{quote(dag)}/dagRuns/{quote(run)}/hitlDetails")["hitl_details"]
        return [
            Approval(
                dag=dag,
                run=run,
                task=str(detail["task_instance"]["task_id"]),
                subject=str(detail["subject"]),
                body=str(detail["body"] or ""),
                options=tuple(detail["options"]),
                asked=_epoch(str(detail["created_at"])),
            )
            for detail in found
            if not detail["response_received"] and detail["task_instance"]["state"] == "awaiting_input"
        ]

    def wait_for_approval(self, dag: str, run: str, *, timeout: float) -> Approval:
        """Wait until a run asks a person, and give what it asks.

        :raises PermanentError: it ended without asking
        """
        deadline = time.monotonic() + timeout
        for seen in self.follow(dag, run, timeout=timeout):
            if seen.waits_for_a_person and (waiting := _answered(lambda: self.approvals(dag, run), deadline)):
                return waiting[0]
        raise PermanentError(f"{dag} {run} ended without asking anybody", hint="Read its tasks' logs")

    def answer(self, approval: Approval, option: str, params: Mapping[str, Any] | None = None) -> None:
        """Answer for a person, and see that the task goes on; when the same question is asked again, answer it again.

        Waits until the question is five seconds old: an answer that meets the scheduler before it has noticed that the
        task was parked makes Airflow 3.3 ask again, after the task's retry delay.  On a busy machine it notices later, so
        each further answer waits twice as long.

        :raises Unauthorized: this user may not
        :raises Unreachable: the task did not take the answer
        """
        path = f"dags/{quote(approval.dag)}/dagRuns/{quote(approval.run)}/taskInstances/{quote(approval.task)}"
        asked = approval.asked
        for attempt in range(_ASKED_AGAIN):
            time.sleep(max(0.0, asked + _SETTLE * 2**attempt - time.time()))
            self.patch(f"{path}/-1/hitlDetails", {"chosen_options": [option], "params_input": dict(params or {})})
            again = self._asked_again(approval, path)
            if again is None:
                return
            asked = time.time()  # the question itself keeps the time of the first
        raise Unreachable(
            f"{approval.dag} {approval.run} asked {_ASKED_AGAIN} times and did not go on",
            hint=f"Look at it: {self.url}/dags/{quote(approval.dag)}/runs/{quote(approval.run)}",
        )

    def _asked_again(self, approval: Approval, path: str) -> Approval | None:
        """Wait until the task has gone on for good, or is back with the question."""
        deadline = time.monotonic() + _LOOKS
        for _ in range(_LOOKS):
            time.sleep(1.0)
            state = _answered(lambda: self.get(path), deadline)["state"]
            asked = _answered(lambda: self.approvals(approval.dag, approval.run), deadline)
            waiting = [one for one in asked if one.task == approval.task]
            if waiting:
                return waiting[0]
            if state in FINAL or state == "skipped":
                return None
        return None


def _answered(look: Callable[[], Seen], deadline: float) -> Seen:
    """Look until there is an answer: that one look fails, as when a busy database refuses it, does not end what is waited for.

    :param deadline: on the monotonic clock
    :raises TransientError: there was none by then, or for five minutes
    """
    patient = min(deadline, time.monotonic() + _PATIENCE)
    while True:
        try:
            return look()
        except TransientError:
            if time.monotonic() >= patient:
                raise
        time.sleep(_POLL)


def _line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    rest = {key: value for key, value in event.items() if key not in ("event", "timestamp", "level", "logger")}
    return f"{event.get('timestamp') or ''} {event.get('level') or ''} {event.get('event') or ''} {rest or ''}".strip()


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
