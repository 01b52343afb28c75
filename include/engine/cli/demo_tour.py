"""The tour of ``./mainstay demo``: a backup and a drill by Airflow's DAGs, watched over its REST API, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from include.engine.cli import figures
from include.engine.cli.demo_sandbox import DemoSandbox
from include.engine.cli.drill import objectives_table
from include.engine.cli.output import checks_table, coloured, show, table
from include.engine.contracts import Connection
from include.engine.errors import PermanentError
from include.engine.model import DrillReport, Manifest, SetManifest, Verdict, backup_id

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

    @property
    def verdict(self) -> Verdict:
        """The drill's."""
        return self.drill.verdict


def tour(demo: DemoSandbox, steps: Steps) -> Tour:
    """Trigger the DAGs ``backup`` and ``drill`` one after the other and wait for them.

    A drill that does not pass ends its run as failed; its report says why, so that is no error here.

    :raises PermanentError: a run failed without a result; the hint shows what the failed task's log says
    """
    client = demo.airflow.client()
    pipeline = open_demo(demo)
    steps.title("Airflow: the backup DAG")
    ended = run_dag(client, "backup", steps)
    if ended.state != "success":
        raise failure_of(client, ended)
    sealed = pipeline.catalog.set(backup_id(datetime.fromisoformat(ended.run_after)))
    with steps.step("Waiting until the log that the backup needs is archived"):
        demo.wait_until_archived()
    steps.title("Airflow: the mirror DAG")
    mirrored = run_dag(client, "mirror", steps)
    if mirrored.state != "success":
        raise failure_of(client, mirrored)
    steps.title("Airflow: the drill DAG")
    before = {report.id for report in pipeline.catalog.drills()}
    ended = run_dag(client, "drill", steps)
    new = [report for report in pipeline.catalog.drills() if report.id not in before]
    if not new:
        raise failure_of(client, ended)
    backups = tuple(pipeline.catalog.backup(part.target, part.backup) for part in sealed.parts)
    return Tour(sealed=sealed, backups=backups, drill=new[-1])


def open_demo(demo: DemoSandbox) -> Pipeline:
    """Open the demo's pipeline with the demo's own connections, whatever the environment says."""
    from include.engine import wiring

    return wiring.open_pipeline(wiring.load_inventory(demo.inventory), _Connections(demo))


class _Connections:
    """The demo's connections by name."""

    def __init__(self, demo: DemoSandbox) -> None:
        self._known, self._inventory = demo.connections(), demo.inventory

    def get(self, name: str) -> Connection:
        try:
            return self._known[name]
        except KeyError:
            raise PermanentError(
                f"the demo has no connection {name}",
                hint=f"use {self._inventory} as it is, or run `./mainstay up` with your own",
            ) from None


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
    drilled = seen.drill
    restored = sum(stage.seconds for stage in drilled.stages if stage.counts)
    show(f"Restored {figures.size(drilled.bytes)} into a sandbox in {figures.duration(restored)}, and checked:", "")
    show(checks_table(drilled.checks), objectives_table(drilled))
    show(table(("verdict", "all in"), [(coloured(drilled.verdict), figures.duration(seconds))]))


_BACKUP_COLUMNS = ("backed up", "kind", ">original", ">stored", ">ratio", ">took", "recoverable")


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
