"""The demo with ports and a sandbox of its own, and what the tests ask its Airflow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from include.engine.cli.demo_sandbox import PORTS, DemoSandbox
from include.engine.cli.demo_tour import failure_of, open_demo
from include.engine.cli.steps import Steps
from include.engine.errors import TransientError
from include.engine.sandbox import ports
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import variable_of
from include.engine.systems.airflow.client import AirflowClient, Run
from include.engine.verbs.pipeline import Pipeline
from tests.integration.sweeping import Sweeping

RUN_SECONDS = 600.0  # a restore waits for the drill before it, which has the pool to itself
REASON = "checking what came before the incident"
DAGS = ("backup", "restore", "drill", "upkeep", "mirror", "failover", "load_test", "ingest", "stream_control")


@dataclass
class Live:
    """The running demo."""

    demo: DemoSandbox
    runs: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def admin(self) -> AirflowClient:
        """Airflow as the user who may do everything."""
        return self.demo.airflow.client("admin")

    @cached_property
    def viewer(self) -> AirflowClient:
        """Airflow as the user who may only look."""
        return self.demo.airflow.client("viewer")

    @cached_property
    def pipeline(self) -> Pipeline:
        """The same pipeline without Airflow."""
        return open_demo(self.demo)

    def trigger(self, dag: str, conf: Mapping[str, Any] | None = None) -> str:
        """Ask for a run, and remember it for those who look at all runs."""
        run = self.admin.trigger(dag, conf)
        self.runs.append((dag, run))
        return run

    def succeeded(self, dag: str, run: str) -> Run:
        """Wait until a run is over, and show the failed task's log unless it went well."""
        ended = self.admin.wait(dag, run, timeout=RUN_SECONDS)
        if ended.state != "success":
            raise AssertionError(failure_of(self.admin, ended).hint)
        return ended

    def restore(self, directory: Path, *, dry_run: bool) -> str:
        """Ask for a restore of the PostgreSQL target into a directory."""
        conf = {"target": "postgres/main", "path": str(directory), "reason": REASON, "dry_run": dry_run}
        return self.trigger("restore", conf)

    def directory(self, name: str) -> Path:
        """A directory for a restore that is not there yet."""
        return self.demo.sandbox.root / f"restored-{name}"


def airflow_sweeps(live: Live, folder: Path, *, late_after: str = "30d", late: str = "backup") -> Sweeping:
    """Sweeps of the live Airflow alone, remembered apart from those of the demo."""
    watch = {"connection": "airflow_api", "must_run": ["drill"], "late_after": {late: late_after}}
    settings: dict[str, object] = {
        "postgres": {"main": {"connection": "postgres_main"}},
        "sweep": {"airflow": {"main": watch}, "timeout": "60s"},
        "expect": {"airflow": dict.fromkeys(("schedulers", "triggerers", "dag_processors"), 1)},
    }
    return Sweeping(folder, live.demo.connections(), settings)


@contextmanager
def free_ports() -> Iterator[None]:
    """Let the demo listen where nobody does: a demo of a person may run on this machine."""
    chosen = {variable_of(name): str(port) for name, port in zip(PORTS, ports.free_ports(len(PORTS)), strict=True)}
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def started(sandbox: Sandbox) -> Live:
    """Start the demo in *sandbox*, with its streaming job, and with the DAGs unpaused that do nothing by themselves."""
    live = Live(DemoSandbox(sandbox))
    live.demo.up(Steps())
    for dag in DAGS:
        live.admin.wait_for_dag(dag)
        live.admin.unpause(dag)
    return live


def eventually(what: str, holds: Callable[[], bool], *, seconds: float = 300.0) -> None:
    """Wait until *holds* does.  That one look fails says nothing about what is looked at."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(TransientError):
            if holds():
                return
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.3)
