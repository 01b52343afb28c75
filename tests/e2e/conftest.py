"""One live pipeline with one Airflow for all tests here: to start it takes longer than any of them.

It ends with the last of them: the tests that follow need its processors, and must not see its ports.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page

from include.engine import lookout
from include.engine.cli.demo_health import SWEEP, Answer, look_around
from include.engine.cli.steps import Steps
from include.engine.sandbox.home import Home
from include.engine.systems.airflow.client import Approval, Run
from tests.e2e.browsing import browser
from tests.e2e.live import RUN_SECONDS, Live, airflow_sweeps, free_ports, started
from tests.integration.sweeping import Sweeping


@dataclass(frozen=True)
class BackedUp:
    """The run of the DAG ``backup`` that the other tests build on."""

    run: Run
    seconds: float


@dataclass(frozen=True)
class UnderWay:
    """Runs that go on while other tests look at something else."""

    drill: str
    upkeep: str


@pytest.fixture(scope="package")
def live(home: Home) -> Iterator[Live]:
    """The running pipeline."""
    with free_ports(), home.sandbox(f"e2e-{os.getpid()}") as sandbox:
        yield started(sandbox)


@pytest.fixture(scope="package")
def backed_up(live: Live) -> BackedUp:
    """The first backup, taken by Airflow."""
    began = time.monotonic()
    run = live.trigger("backup")
    ended = live.succeeded("backup", run)
    seconds = time.monotonic() - began
    live.demo.wait_until_archived()
    return BackedUp(ended, seconds)


@pytest.fixture(scope="package")
def under_way(live: Live, backed_up: BackedUp) -> UnderWay:
    """A drill and an upkeep, just triggered."""
    return UnderWay(drill=live.trigger("drill"), upkeep=live.trigger("upkeep"))


@pytest.fixture(scope="package")
def asked(live: Live, under_way: UnderWay) -> Approval:
    """The question of a restore that waits for a person."""
    run = live.restore(live.directory("approved"), dry_run=False)
    return live.admin.wait_for_approval("restore", run, timeout=RUN_SECONDS)


@pytest.fixture(scope="package")
def looked(live: Live, under_way: UnderWay) -> Mapping[str, Answer]:
    """What the sweep and each checklist found once there were a backup and a drill."""
    live.succeeded("drill", under_way.drill)
    found = {one.dag: one for one in look_around(live.admin, Steps())}
    live.runs += [(one.dag, one.run) for one in found.values()]
    live.admin.wait(SWEEP, found[SWEEP].run, timeout=RUN_SECONDS)
    live.admin.pause(SWEEP)  # every five minutes is too often for who measures something else
    return found


@pytest.fixture
def sweeping(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeping:
    """Sweeps of the live Airflow."""
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    return airflow_sweeps(live, tmp_path)


@pytest.fixture(scope="module")
def page(live: Live) -> Iterator[Page]:
    """A browser in which the admin has logged in."""
    with browser(live) as page:
        yield page
