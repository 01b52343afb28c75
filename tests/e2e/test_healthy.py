"""A pipeline that has a set, a drill and a mirror, and of which nobody has broken anything yet: a quiet sweep finds nothing."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from include.engine import lookout
from include.engine.health.built_in import BUILT_IN
from include.engine.health.findings import Finding
from include.engine.health.history import History
from include.engine.model import Verdict
from include.engine.verbs import sweep
from include.engine.verbs.sweep import SweepReport
from include.engine.wiring import load_inventory
from tests.e2e.conftest import UnderWay
from tests.e2e.live import Live
from tests.integration.sweeping import Known, clock

pytestmark = pytest.mark.e2e

MACHINE = "host/worker"
DISKS = ("kafka-disk", "cassandra-disk")  # which the servers share with everything else on this machine
PATIENCE = 240.0  # seconds: probes may be late while the machine does something else


def looked_at(live: Live) -> SweepReport:
    """Sweep everything by the demo's own inventory, as if nobody had ever swept before."""
    inventory = load_inventory(live.demo.inventory)
    watch = lookout.open_watch(inventory, Known(live.demo.connections()), beside=live.demo.inventory)
    watch = replace(watch, histories=[lambda: History.in_file(None)])
    began = time.monotonic()
    looks = sweep.look(watch, watch.systems, clock=clock)
    seconds = time.monotonic() - began
    return sweep.conclude(watch, looks, watch.systems, clock=clock, seconds=seconds)[0]


def of_the_machine(finding: Finding) -> bool:
    """Whether it is about the machine that the tests run on: how full its disk is, is its owner's business."""
    if finding.rule in DISKS:
        disk = shutil.disk_usage(Path(__file__))
        return disk.free < disk.total / 5  # the rules are right about it, and a pipeline on another machine is healthy
    return finding.subject == MACHINE and finding.rule not in BUILT_IN


def found(seen: SweepReport) -> list[str]:
    """Say what is wrong with the pipeline."""
    return [
        f"{one.subject} {one.rule} {one.labels} {one.value}: {one.detail}"
        for one in seen.findings
        if not of_the_machine(one)
    ]


def test_a_quiet_sweep_of_a_healthy_pipeline_finds_nothing(
    live: Live, under_way: UnderWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.succeeded("drill", under_way.drill)
    live.succeeded("upkeep", under_way.upkeep)
    live.succeeded("mirror", live.trigger("mirror"))
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    deadline = time.monotonic() + PATIENCE
    while found(seen := looked_at(live)) and time.monotonic() < deadline:
        time.sleep(1.0)
    slowest = sorted(seen.looks, key=lambda look: -look.seconds)[:5]
    told = ", ".join(f"{look.subject} {look.probe} {look.seconds:.1f} s" for look in slowest)
    logging.getLogger(__name__).info("%s readings in %.1f s; the slowest: %s", seen.readings, seen.seconds, told)
    assert found(seen) == []
    assert seen.verdict is Verdict.PASS or any(of_the_machine(one) for one in seen.findings)
    assert seen.readings >= 60
    assert {look.system for look in seen.looks} >= {"airflow", "backups", "cassandra", "host", "kafka", "postgres"}
