"""The tour of ``./mainstay demo``: stream, set, mirror, drill, sweep and checklists by Airflow over REST, and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from include.engine.cli import demo_copy, demo_health, figures
from include.engine.cli.demo_inventory import DemoConnections
from include.engine.cli.demo_sandbox import DemoSandbox
from include.engine.cli.drill import objectives_table, stages_table
from include.engine.cli.output import checks_table, coloured, show, table
from include.engine.errors import PermanentError
from include.engine.model import DrillReport, LoadResult, Manifest, Reconciled, SetManifest, Verdict, backup_id

if TYPE_CHECKING:
    from include.engine.cli.steps import Steps
    from include.engine.systems.airflow.client import AirflowClient, Run, Task
    from include.engine.verbs.pipeline import Pipeline

_RUN_TIMEOUT = 900.0
_LOG_LINES, _LOG_WIDTH = 10, 600
_SHOWN = {"success": "done", "running": "runs", "failed": "FAILED", "up_for_retry": "failed, tries again"}


class Tour(Struct, frozen=True, kw_only=True):
    """What the tour has seen."""

    sealed: SetManifest
    backups: tuple[Manifest, ...]
    drill: DrillReport
    loads: Sequence[LoadResult] = ()
    answers: Sequence[demo_health.Answer] = ()

    @property
    def verdict(self) -> Verdict:
        """The drill's."""
        return self.drill.verdict


@dataclass
class Guide:
    """Who leads through the demo, and what was seen so far."""

    demo: DemoSandbox
    steps: Steps
    client: AirflowClient
    pipeline: Pipeline
    sealed: SetManifest | None = None
    drilled: DrillReport | None = None
    loads: Sequence[LoadResult] = ()
    answers: Sequence[demo_health.Answer] = ()

    def run(self, dag: str) -> Run:
        """Trigger *dag* and wait until it has succeeded.

        :raises PermanentError: it has not; the hint shows what the failed task's log says
        """
        ended = run_dag(self.client, dag, self.steps)
        if ended.state != "success":
            raise failure_of(self.client, ended)
        return ended

    @property
    def the_set(self) -> SetManifest:
        """The set that was taken."""
        assert self.sealed is not None
        return self.sealed


def tour(demo: DemoSandbox, steps: Steps) -> Tour:
    """Go through the stations, one after the other.

    A drill that does not pass ends its run as failed; its report says why, so that is no error here.

    :raises PermanentError: a run failed without a result; the hint shows what the failed task's log says
    """
    guide = Guide(demo, steps, demo.airflow.client(), open_demo(demo))
    for title, station in STATIONS:
        steps.title(title)
        station(guide)
    sealed, drilled = guide.the_set, guide.drilled
    assert drilled is not None
    backups = tuple(guide.pipeline.catalog.backup(part.target, part.backup) for part in sealed.parts)
    return Tour(sealed=sealed, backups=backups, drill=drilled, loads=guide.loads, answers=guide.answers)


def keep_the_stream(guide: Guide) -> None:
    """Let the DAG ``stream`` keep the job, and see that it does: its driver is killed, and comes back."""
    client, stream = guide.client, guide.demo.stream
    with guide.steps.step("Waiting for Airflow to read the DAG stream"):
        client.wait_for_dag("stream")
        client.unpause("stream")
    with guide.steps.step("Waiting until it watches the job"):
        if not client.runs("stream"):  # the next minute begins one as well, and only one at a time keeps the job
            client.trigger("stream", note="./mainstay demo")
        _await_watcher(client)
    with guide.steps.step("Killing its driver, and waiting until the DAG has brought it back"):
        stream.kill()
        stream.wait(relaunched=True)


def _await_watcher(client: AirflowClient) -> None:
    deadline = time.monotonic() + _RUN_TIMEOUT
    while True:
        runs = [client.run("stream", name) for name in client.runs("stream", limit=3)]
        if any(task.state == "deferred" for run in runs for task in run.tasks):
            return
        if (runs and runs[0].state == "failed") or time.monotonic() > deadline:
            raise failure_of(client, runs[0])
        time.sleep(1.0)


def take_a_set(guide: Guide) -> None:
    """Take a set under traffic by the DAG ``backup``."""
    ended = guide.run("backup")
    guide.sealed = guide.pipeline.catalog.set(backup_id(datetime.fromisoformat(ended.run_after)))
    with guide.steps.step("Waiting until the log that the backup needs is archived"):
        guide.demo.wait_until_archived()


def mirror(guide: Guide) -> None:
    """Copy Kafka to the other cluster by the DAG ``mirror``."""
    guide.run("mirror")


def lose_a_copy(guide: Guide) -> None:
    """Restore a running copy of log, tables and stream, and destroy it."""
    demo_copy.lose(guide.pipeline, guide.the_set, guide.steps)


def drill(guide: Guide) -> None:
    """Restore everything by the DAG ``drill``, from nothing but the bucket."""
    before = {report.id for report in guide.pipeline.catalog.drills()}
    ended = run_dag(guide.client, "drill", guide.steps)
    new = [report for report in guide.pipeline.catalog.drills() if report.id not in before]
    if not new:
        raise failure_of(guide.client, ended)
    guide.drilled = new[-1]


def put_load_on(guide: Guide) -> None:
    """Put load on every system by the DAG ``load_test``: the checklist before a deployment asks for one that passed."""
    from include.engine.cli.demo_load_tour import load_all

    guide.loads = load_all(guide.demo, guide.steps)


def look_around(guide: Guide) -> None:
    """Look at everything by the DAG ``sweep``, and go through the checklists."""
    guide.answers = demo_health.look_around(guide.client, guide.steps)


STATIONS: tuple[tuple[str, Callable[[Guide], None]], ...] = (
    ("Airflow: the stream DAG", keep_the_stream),
    ("Airflow: the backup DAG", take_a_set),
    ("Airflow: the mirror DAG", mirror),
    ("A copy of log, tables and stream, and its end", lose_a_copy),
    ("Airflow: the drill DAG", drill),
    ("Airflow: the load test DAG", put_load_on),
    ("Airflow: the sweep DAG and the checklists", look_around),
)


def open_demo(demo: DemoSandbox) -> Pipeline:
    """Open the demo's pipeline with the demo's own connections, whatever the environment says."""
    from include.engine import wiring

    return wiring.open_pipeline(
        wiring.load_inventory(demo.inventory), DemoConnections(demo.connections(), demo.inventory)
    )


def run_dag(client: AirflowClient, dag: str, steps: Steps, conf: Mapping[str, Any] | None = None) -> Run:
    """Trigger *dag*, tell every change of its tasks, and give the run when it is over, well or not.

    :raises Unreachable: it was not over in time
    """
    with steps.step(f"Waiting for Airflow to read the DAG {dag}"):
        client.wait_for_dag(dag)
        client.unpause(dag)
    told: dict[tuple[str, int], str] = {}
    with steps.step(f"Running {dag}"):
        run = client.trigger(dag, conf, note="./mainstay demo")
        for seen in client.follow(dag, run, timeout=_RUN_TIMEOUT):
            for task in seen.tasks:
                key = (task.name, task.map_index)
                if told.get(key) != task.state and task.state in _SHOWN:
                    steps.say(_event(task))
                told[key] = task.state
    return seen


def _event(task: Task) -> str:
    index = f"[{task.map_index}]" if task.map_index >= 0 else ""
    took = f", {figures.duration(task.seconds)}" if task.state == "success" and task.seconds else ""
    return f"{task.name}{index} {_SHOWN[task.state]}{took}"


def failure_of(client: AirflowClient, run: Run) -> PermanentError:
    """Make an error of a run that did not give what it should."""
    failed = next((task for task in run.tasks if task.state == "failed"), None)
    if failed is None:
        return PermanentError(f"{run.dag} {run.id} is {run.state} and left no result", hint=f"Look at it: {client.url}")
    lines = client.log(run.dag, run.id, failed.name, map_index=failed.map_index, attempt=failed.tries).splitlines()
    wrong = [line for line in lines if " error " in line] or lines[-_LOG_LINES:]
    said = "\n".join(line[:_LOG_WIDTH] for line in wrong[:_LOG_LINES])
    return PermanentError(f"task {failed.name} of the DAG {run.dag} failed", hint=f"Its log says:\n{said}")


def report(seen: Tour, *, seconds: float) -> None:
    """Print what was backed up, what came back, what was checked, and how that compares with the objectives."""
    show(
        "", table(_BACKUP_COLUMNS, [_backup_row(manifest) for manifest in seen.backups], title=f"Set {seen.sealed.id}")
    )
    if told := figures.frozen(seen.sealed.consistency):
        show(f"Set {seen.sealed.id} was {told}, while records came.")
    show(
        table(_RECONCILED_COLUMNS, [_reconciled_row(one) for one in seen.sealed.reconciled], title="Its newest records")
    )
    drilled = seen.drill
    took = figures.duration(drilled.rto_seconds)
    show(f"Restored {figures.size(drilled.bytes)} into a sandbox in {took}, and checked:", "")
    show(checks_table(drilled.checks), stages_table(drilled), objectives_table(drilled))
    if seen.answers:
        show(demo_health.verdicts(seen.answers))
    show(table(("verdict", "all in"), [(coloured(drilled.verdict), figures.duration(seconds))]))


_BACKUP_COLUMNS = ("backed up", "kind", ">original", ">stored", ">ratio", ">took", "recoverable")


_RECONCILED_COLUMNS = ("flow", ">records", ">rows", ">dead letters", ">lost")


def _reconciled_row(found: Reconciled) -> tuple[object, ...]:
    return found.flow, found.records, found.rows, found.dead_letters, found.lost


def _backup_row(manifest: Manifest) -> tuple[object, ...]:
    took = (manifest.finished - manifest.started).total_seconds()
    return (
        manifest.target,
        manifest.kind,
        figures.size(manifest.original_bytes),
        figures.size(manifest.bytes),
        figures.ratio(manifest.original_bytes, manifest.bytes),
        figures.duration(took),
        figures.window(manifest.recoverable_from, manifest.recoverable_to),
    )
