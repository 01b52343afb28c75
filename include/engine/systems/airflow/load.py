"""Load on Airflow: questions to its API server, then a run of many small tasks, and how long each took to get going."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any
from urllib.parse import quote

import msgspec

from include.engine.contracts import Clock, Connection
from include.engine.errors import Interrupted, NotFound, Unreachable
from include.engine.loading.contracts import CutShort, LoadRun, Measured, Worker
from include.engine.loading.permission import CANARY
from include.engine.loading.profiles import Profile
from include.engine.loading.schedule import Schedule
from include.engine.loading.workers import generate, limit_by_cost
from include.engine.model import GeneratorLimit, Reading
from include.engine.systems.airflow.client import AirflowClient
from include.engine.systems.airflow.workload import PROBE, Workload

_POLL = 1.0
_PAGE = 100  # Airflow gives no more task instances at once


class AirflowLoad:
    """Asks one Airflow, and has it run tasks.

    :param connection: host (a URL), login and password of a user who may trigger DAGs
    """

    def __init__(self, connection: Connection, profile: Profile) -> None:
        assert isinstance(profile.workload, Workload)
        url = url_of(connection)
        self._place = {"url": url, "username": connection.login, "password": connection.password}
        self._client = AirflowClient(url, connection.login, connection.password)
        self._asking = AirflowClient(url, connection.login, connection.password)
        self._task_runs = 0
        self._profile = profile
        self._workload = profile.workload

    def environment(self) -> Mapping[str, str]:
        """Say which Airflow it is."""
        return {"airflow": str(self._client.get("version")["version"])}

    def limit(self, run: LoadRun, *, rate: float) -> GeneratorLimit:
        """Ask for a second: only with answers does the HTTP client do its work."""
        return limit_by_cost(self._worker(), rate, run, bound=self._bound(1), client="the HTTP client")

    def prepare(self, run: LoadRun) -> None:
        """Let the DAG of the tasks run."""
        if self._workload.tasks:
            run.progress.say(f"unpausing {PROBE}")
            self._client.wait_for_dag(PROBE)
            self._client.unpause(PROBE)

    def measure(self, run: LoadRun, schedule: Schedule) -> Measured:
        """Ask, and afterwards run the tasks."""
        load = self._workload
        measured = generate(
            self._worker(),
            schedule,
            processes=run.processes,
            bound=self._bound(run.processes),
            grace=self._profile.grace.total_seconds(),
            stop=run.stop,
            progress=run.progress,
            most=run.most,
        )
        if not load.tasks:
            return measured
        try:
            figures = {**measured.step.figures, **self._run_tasks(run)}
        except (Interrupted, Unreachable) as error:
            error.__cause__ = CutShort(measured)  # what was answered until then is not lost to it
            raise
        return msgspec.structs.replace(measured, step=msgspec.structs.replace(measured.step, figures=figures))

    def canary(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Ask for its health."""
        began = time.monotonic()
        self._asking.timeout = timeout
        health = self._asking.health()
        took = time.monotonic() - began
        if health.get("metadatabase") != "healthy":
            raise Unreachable("Airflow is not healthy", hint="see its components; load tests come after that")
        return [Reading(metric=CANARY, value=took, unit="s", at=clock())]

    def leftovers(self, prefix: str) -> Sequence[str]:
        """Name runs of the tasks' DAG."""
        try:
            return sorted(run for run in self._client.runs(PROBE, limit=_PAGE) if run.startswith(prefix))
        except NotFound:
            return ()

    def remove(self, names: Sequence[str]) -> None:
        """Delete runs, with their tasks; what still runs is ended first, else Airflow keeps it."""
        for name in names:
            where = f"dags/{PROBE}/dagRuns/{quote(name)}"
            try:
                if self._client.get(where)["state"] not in ("success", "failed"):
                    self._client.patch(where, {"state": "failed"})
                self._client.delete(where)
            except NotFound:
                continue

    def _worker(self) -> Worker:
        load = self._workload
        parameters = {**self._place, "paths": load.paths, "connections": load.connections}
        return Worker(module="include.engine.systems.airflow.question_load", parameters=parameters)

    def _bound(self, processes: int) -> int:
        # No more than there are threads: what waits for one was not sent yet.
        return min(self._profile.in_flight, self._workload.connections * processes)

    def _run_tasks(self, run: LoadRun) -> dict[str, float]:
        count = self._workload.tasks
        self._task_runs += 1
        name = f"{run.name}_{self._task_runs}"  # a search measures several times
        where = f"dags/{PROBE}/dagRuns/{quote(name)}"
        run.progress.say(f"running {count} tasks of {PROBE}")
        body = {"logical_date": None, "dag_run_id": name, "conf": {"tasks": count}}
        self._client.post(f"dags/{PROBE}/dagRuns", body)
        deadline = time.monotonic() + self._workload.tasks_timeout_seconds
        beats: list[float] = []
        while (found := self._client.get(where))["state"] not in ("success", "failed"):
            run.stop.check()
            if time.monotonic() > deadline:
                raise Unreachable(f"{count} tasks were not done in time", hint="look at the scheduler and the pools")
            beats.append(self._scheduler_beat())
            time.sleep(_POLL)
        beats.append(self._scheduler_beat())
        tasks: list[dict[str, Any]] = []
        for offset in range(0, count + 1, _PAGE):
            tasks += self._client.get(f"{where}/taskInstances", limit=_PAGE, offset=offset)["task_instances"]
        return figures_of(str(found["queued_at"]), tasks) | longest_silence(beats)

    def _scheduler_beat(self) -> float:
        told = self._client.get("monitor/health").get("scheduler") or {}
        return _time(told["latest_scheduler_heartbeat"]) if told.get("latest_scheduler_heartbeat") else 0.0


def figures_of(queued_at: str, tasks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sum up when the tasks of a run began and ended, all by Airflow's own clock.

    The first task is the one that counts the others up; only those count for the rate, which is what many at once take.
    """
    mapped = [task for task in tasks if task["map_index"] >= 0]
    begun = [_time(task["start_date"]) for task in mapped if task["start_date"]]
    ended = [_time(task["end_date"]) for task in mapped if task["end_date"]]
    figures = {"tasks_failed": float(sum(task["state"] != "success" for task in tasks))}
    first = [_time(task["start_date"]) for task in tasks if task["start_date"]]
    if first:
        figures["first_task_seconds"] = min(first) - _time(queued_at)
    if begun and ended:
        took = max(ended) - min(begun)
        figures |= {
            "tasks_per_minute": 60 * len(ended) / max(took, 1e-3),
            "all_tasks_seconds": max(ended) - _time(queued_at),
        }
    waits = [
        _time(t["start_date"]) - _time(t["queued_when"]) for t in mapped if t["start_date"] and t.get("queued_when")
    ]
    if waits:
        figures["queued_to_started_seconds"] = median(waits)
    return {name: round(value, 3) for name, value in figures.items()}


def longest_silence(beats: Sequence[float]) -> dict[str, float]:
    """Say how long the scheduler's loop took at most while the tasks ran: the longest time between two of its heartbeats.

    A scheduler that is not busy beats every ``[scheduler] scheduler_heartbeat_sec``, 5 s by default.  With several
    schedulers, it is the time in which none of them did.

    :param beats: the last one at each look, seconds
    """
    seen = sorted({beat for beat in beats if beat})
    gaps = [after - before for before, after in pairwise(seen)]
    return {"scheduler_longest_silence_seconds": round(max(gaps), 3)} if gaps else {}


def url_of(connection: Connection) -> str:
    """Give the URL of the API server: the port may be in the host already."""
    host = connection.host if "://" in connection.host else f"http://{connection.host}"
    if host.count(":") > 1:
        return host
    if connection.port:
        return f"{host}:{connection.port}"
    return host if "://" in connection.host else f"{host}:8080"


def open_load(connection: Connection, profile: Profile) -> AirflowLoad:
    """Give the engine for one Airflow.  Asks nothing of it yet."""
    return AirflowLoad(connection, profile)


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
