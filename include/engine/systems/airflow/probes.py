"""Reads an Airflow over its REST API: components, queues and pools, DAG files, paused DAGs, runs that failed or are late.

It needs a user who may read jobs, pools, DAGs and import errors: an operator, not an administrator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from include.engine.contracts import Clock, Connections
from include.engine.errors import MainstayError, Unreachable
from include.engine.model import Reading
from include.engine.probing import Probe
from include.engine.systems.airflow.client import AirflowClient
from include.engine.watching import AirflowWatch

_KINDS = {
    "scheduler": ("SchedulerJob", "latest_scheduler_heartbeat"),
    "triggerer": ("TriggererJob", "latest_triggerer_heartbeat"),
    "dag_processor": ("DagProcessorJob", "latest_dag_processor_heartbeat"),
}
_RUNS = 10  # newest runs of a DAG that are looked at
_ACTIVE_RUNS = 16  # of a DAG at once, when it does not say: Airflow's own default
_PAGE = 100  # api.maximum_page_limit as it ships
_AT_ONCE = 8  # requests
_MOST_JOBS = 100
# A run of theirs is red because of what it found: to find that in turn would never end.
_JUDGES = {"sweep", "checklist"}

Write = Callable[..., None]
Take = Callable[[AirflowClient, AirflowWatch, Write, datetime], None]


class AirflowProbe:
    """One of the probes (see ``probing.Probe``)."""

    def __init__(
        self, asked: tuple[str, str, Sequence[str], Take], watch: AirflowWatch, connections: Connections
    ) -> None:
        self.name, self.source, metrics, take = asked
        self.metrics: Sequence[str] = tuple(f"airflow.{metric}" for metric in metrics)
        self.sometimes: Sequence[str] = tuple(f"airflow.{metric}" for metric in _SOMETIMES.get(self.name, ()))
        self._take, self._watch, self._connections = take, watch, connections

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``)."""
        found = self._connections.get(self._watch.connection)
        host = found.host if "://" in found.host else f"http://{found.host}"
        url = f"{host}:{found.port}" if found.port and host.count(":") < 2 else host
        client = AirflowClient(url, found.login, found.password, timeout=timeout)
        now = clock()
        readings: list[Reading] = []

        def write(metric: str, value: float, unit: str, **labels: str) -> None:
            readings.append(Reading(metric=f"airflow.{metric}", value=float(value), unit=unit, at=now, labels=labels))

        self._take(client, self._watch, write, now)
        return readings


def open_probes(watch: AirflowWatch, connections: Connections) -> Sequence[Probe]:
    """Give all probes of one Airflow (see ``probing.Probe``)."""
    return [AirflowProbe(asked, watch, connections) for asked in _PROBES]


def _components(client: AirflowClient, _watch: AirflowWatch, write: Write, now: datetime) -> None:
    told: Mapping[str, Any] = client.get("monitor/health")
    write("component.up", told["metadatabase"]["status"] == "healthy", "1", component="metadatabase")
    for name, (kind, heartbeat) in _KINDS.items():
        status = told.get(name) or {}
        write("component.up", status.get("status") == "healthy", "1", component=name)
        if status.get(heartbeat):
            age = max(0.0, (now - _moment(status[heartbeat])).total_seconds())
            write("component.heartbeat_age", age, "s", component=name)
        # Airflow sorts out the dead after it has counted and cut: its own total is that of all that ever ran.
        asked = {"job_type": kind, "job_state": "running", "order_by": "-latest_heartbeat", "limit": _MOST_JOBS}
        write(f"{name}s", len(client.get("jobs", is_alive="true", **asked)["jobs"]), "processes")


def _api_servers(client: AirflowClient, watch: AirflowWatch, write: Write, _now: datetime) -> None:
    """Ask each API server itself: they have no heartbeat that the others know, and a load balancer hides who is gone."""
    urls = watch.api_servers or (client.url,)
    with ThreadPoolExecutor(max_workers=len(urls)) as pool:
        answer = list(pool.map(lambda url: _answers(AirflowClient(url, "", "", timeout=client.timeout)), urls))
    if not any(answer):
        raise Unreachable("no API server of Airflow answers", hint="start one; see sweep.airflow in the inventory")
    write("api_servers", sum(answer), "processes")


def _answers(client: AirflowClient) -> bool:
    try:
        client.health()  # for which nobody must log in
    except MainstayError:
        return False
    return True


def _queue(client: AirflowClient, _watch: AirflowWatch, write: Write, _now: datetime) -> None:
    pools = _all(client, "pools")
    for state in ("queued", "scheduled", "running", "deferred"):
        write(f"tasks.{state}", sum(pool[f"{state}_slots"] for pool in pools), "tasks")
    waiting = sum(pool["queued_slots"] + pool["scheduled_slots"] for pool in pools)
    write("tasks.waiting", waiting, "tasks")
    for pool in pools:
        slots = pool["slots"]
        used = 100.0 if slots == 0 else 0.0 if slots < 0 else 100 * pool["occupied_slots"] / slots
        write("pool.used", used, "%", pool=pool["name"])
        write("pool.waiting", pool["queued_slots"] + pool["scheduled_slots"], "tasks", pool=pool["name"])
    try:
        found = client.get("config/section/core/option/parallelism")
        write("parallelism", float(found["sections"][0]["options"][0]["value"]), "tasks")
    except (MainstayError, KeyError, IndexError, ValueError):
        pass  # most installations show their configuration to nobody: the scaling table then says what it does not know


def _files(client: AirflowClient, _watch: AirflowWatch, write: Write, _now: datetime) -> None:
    write("import_errors", client.get("importErrors", limit=1)["total_entries"], "files")


def _dags(client: AirflowClient, watch: AirflowWatch, write: Write, now: datetime) -> None:
    dags = {dag["dag_id"]: dag for dag in _all(client, "dags")}
    write("dags", len(dags), "dags")
    for name in watch.must_run:
        write("dag.paused", name not in dags or dags[name]["is_paused"], "1", dag=name)
    capped = 0
    client.bearer()  # one login for all that ask side by side
    awake = [(name, dag) for name, dag in sorted(dags.items()) if not dag["is_paused"]]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        asked = list(pool.map(lambda one: _newest_runs(client, one[0]), awake))
    for (name, dag), runs in zip(awake, asked, strict=True):
        late_after = watch.late_after.get(name)
        if not _JUDGES & {tag["name"] for tag in dag.get("tags") or ()}:
            _runs(name, runs, late_after, write, now)
            if late_after is not None and not _good(runs):
                _late_for_long(client, name, late_after, write, now)
        elif late_after is not None and (done := _ended(runs)):  # red or green, it has judged
            write("dag.late", _age(done[0], now) - late_after.total_seconds(), "s", dag=name)
        states = [run["state"] for run in runs]
        capped += "queued" in states and _running(client, name) >= (dag.get("max_active_runs") or _ACTIVE_RUNS)
        due = dag.get("next_dagrun_run_after")
        if due:
            write("dag.overdue", max(0.0, (now - _moment(due)).total_seconds()), "s", dag=name)
    write("runs.capped", capped, "dags")


def _newest_runs(client: AirflowClient, name: str) -> Sequence[Mapping[str, Any]]:
    where = f"dags/{quote(name)}/dagRuns"
    found: Sequence[Mapping[str, Any]] = client.get(where, limit=_RUNS, order_by="-run_after")["dag_runs"]
    return found


def _running(client: AirflowClient, name: str) -> int:
    """Count the runs of a DAG that run now: its newest may all be waiting."""
    return int(client.get(f"dags/{quote(name)}/dagRuns", state="running", limit=1)["total_entries"])


def _all(client: AirflowClient, what: str) -> list[Mapping[str, Any]]:
    """Page through everything of a kind: Airflow gives a hundred at once, however many are asked for."""
    found: list[Mapping[str, Any]] = []
    while True:
        page = client.get(what, limit=_PAGE, offset=len(found))
        found += page[what]
        if not page[what] or len(found) >= page["total_entries"]:
            return found


def _runs(
    name: str, runs: Sequence[Mapping[str, Any]], late_after: timedelta | None, write: Write, now: datetime
) -> None:
    ended = _ended(runs)
    good = next((index for index, run in enumerate(ended) if run["state"] == "success"), len(ended))
    write("dag.failed_in_a_row", good, "runs", dag=name)
    if good < len(ended):
        age = _age(ended[good], now)
        write("dag.success_age", max(0.0, age), "s", dag=name)
        if late_after is not None:
            write("dag.late", age - late_after.total_seconds(), "s", dag=name)


def _late_for_long(client: AirflowClient, name: str, late_after: timedelta, write: Write, now: datetime) -> None:
    """Say how late a DAG is of whose newest runs none has succeeded: for that, it is not fine."""
    where = f"dags/{quote(name)}/dagRuns"
    succeeded = client.get(where, state="success", limit=1, order_by="-run_after")["dag_runs"]
    # One that never has is late since its first run has failed.
    last = succeeded or client.get(where, state="failed", limit=1, order_by="run_after")["dag_runs"]
    if last:
        write("dag.late", _age(last[0], now) - late_after.total_seconds(), "s", dag=name)


def _good(runs: Sequence[Mapping[str, Any]]) -> bool:
    return any(run["state"] == "success" for run in runs)


def _ended(runs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [run for run in runs if run["state"] in ("success", "failed")]


def _age(run: Mapping[str, Any], now: datetime) -> float:
    return (now - _moment(run["end_date"])).total_seconds()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


# What there is no DAG for: none must run, or none is unpaused.
_SOMETIMES = {
    "components": ("component.heartbeat_age",),
    "queue": ("pool.used", "pool.waiting", "parallelism"),
    "dags": ("dag.paused", "dag.failed_in_a_row", "dag.success_age", "dag.overdue", "dag.late"),
}
_PROBES: tuple[tuple[str, str, Sequence[str], Take], ...] = (
    (
        "components",
        "Airflow's components, from its health and its jobs",
        ("component.up", "schedulers", "triggerers", "dag_processors"),
        _components,
    ),
    (
        "queue",
        "Airflow's pools and queues",
        ("tasks.queued", "tasks.scheduled", "tasks.running", "tasks.deferred", "tasks.waiting"),
        _queue,
    ),
    ("api servers", "the version, from each API server", ("api_servers",), _api_servers),
    ("files", "Airflow's import errors", ("import_errors",), _files),
    ("dags", "Airflow's DAGs and their runs", ("dags", "runs.capped"), _dags),
)
