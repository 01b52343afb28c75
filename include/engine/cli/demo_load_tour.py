"""The tour's load tests: every system that the demo's inventory allows, for seconds, by the DAG ``load_test``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from include.engine.cli.demo_tour import failure_of, open_demo, run_dag
from include.engine.cli.output import coloured, show, table

if TYPE_CHECKING:
    from include.engine.cli.demo_sandbox import DemoSandbox
    from include.engine.cli.steps import Steps
    from include.engine.model import LoadResult


def load_all(demo: DemoSandbox, steps: Steps) -> Sequence[LoadResult]:
    """Run the brief profile of every system, one after the other, and give the results.

    A test that does not pass ends its run as failed; its result says why, so that is no error here.

    :raises PermanentError: the run left no result; the hint shows what the failed task's log says
    """
    from include.engine.store.loads import Loads

    client, loads = demo.airflow.client(), Loads(open_demo(demo).catalog.bucket)
    before = set(loads.ids())
    ended = run_dag(client, "load_test", steps, {"kind": "brief", "reason": "./mainstay demo"})
    new = [loads.get(id_) for id_ in loads.ids() if id_ not in before]
    if not new:
        raise failure_of(client, ended)
    return new


def report_loads(results: Sequence[LoadResult]) -> None:
    """Print one line for each."""
    rows = [
        (
            result.target,
            f"{step.achieved_rate:,.0f} of {step.target_rate:,.0f}" if step else "",
            f"{step.from_intended.p50:,.1f}" if step else "",
            f"{step.from_intended.p99:,.1f}" if step else "",
            coloured(result.verdict),
        )
        for result in results
        for step in [result.step]
    ]
    show("", table(("loaded briefly", ">operations/s", ">p50, ms", ">p99, ms", "verdict"), rows))
