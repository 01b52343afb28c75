"""What a drill costs beside the restores that it makes: the demo's set is drilled, and its parts are restored bare, in turn.

    python -m bench.drill [--rounds N] [--users N] [--orders N]

The demo's servers run without Airflow; users and events go through the stream, a set is taken under traffic, and then everything
that would compete with the measurement ends.  A round is one drill of the set, as the DAG makes it, and the bare restores of the
same parts: each by the verb ``restore`` into a sandbox with servers of its own, the checkpoint into a directory.  Bare restores
do not run the stream again, so the drill's stage *resume and replay* is left out of the ratio, and told beside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

from bench.quiet import Quiet
from bench.recorded import keep, table
from bench.take import now
from include.engine.cli.demo_sandbox import DemoSandbox
from include.engine.cli.demo_tour import open_demo
from include.engine.cli.steps import Steps
from include.engine.contracts import Stop
from include.engine.model import (
    DestinationKind,
    DrillReport,
    Moved,
    RestorePlan,
    SetManifest,
    System,
    Target,
    Verdict,
    backup_id,
    waves,
)
from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.spark.ingest import ingest
from include.engine.verbs import backup, drill, restore
from include.engine.verbs.pipeline import Pipeline
from include.engine.verbs.restore_set import positions_of
from include.engine.wiring import PROJECT
from tests.e2e.live import free_ports

_REPLAY = "resume and replay"
_WHY = "the bare side of a bench"


class Bench:
    """The demo, filled, with a set of it; nothing works any more but its servers."""

    def __init__(self, sandbox: Sandbox, users: int, orders: int) -> None:
        self.demo = DemoSandbox(sandbox)
        self.demo.up(Steps(), with_airflow=False)
        self._fill(users, orders)
        self.pipeline = open_demo(self.demo)
        self.sealed = _take(self.pipeline)
        self.demo.wait_until_archived()
        self.demo.stream.stop()
        for companion in (self.demo.stream.pour, self.demo.traffic):
            companion.server.stop()

    def drill(self) -> dict[str, Any]:
        """Drill the set; give its seconds, and those of its stages."""
        began = time.monotonic()
        report = drill.drill(
            self.pipeline,
            drill.choose(self.pipeline, set_id=self.sealed.id),
            drill_id=backup_id(now()),
            progress=Quiet(),
            stop=Stop(),
            clock=now,
        )
        seconds = time.monotonic() - began
        _require(report)
        stages = [(stage.name, stage.seconds, stage.counts) for stage in report.stages]
        replay = sum(took for name, took, _ in stages if name.endswith(_REPLAY))
        return {"seconds": seconds, "replay": replay, "without_replay": seconds - replay, "stages": stages}

    def bare(self, number: int) -> dict[str, Any]:
        """Restore each part by itself; give the seconds, and those of each part.  What it has started goes afterwards."""
        home, parts = self.demo.sandbox.home, {part.target: part.backup for part in self.sealed.parts}
        before = {one.name for one in home.sandboxes()}
        took: dict[str, float] = {}
        moved: Sequence[Moved] = ()
        try:
            for target in (target for wave in waves(parts) for target in wave):
                began = time.monotonic()
                done = restore.restore(
                    self.pipeline,
                    self._plan(target, parts[target], number),
                    reason=_WHY,
                    by="bench",
                    progress=Quiet(),
                    stop=Stop(),
                    clock=now,
                    positions=positions_of(self.sealed) if target.system is System.KAFKA else (),
                    moved=moved if target.system is System.SPARK else (),
                )
                took[str(target)] = time.monotonic() - began
                moved = moved or done.moved
        finally:
            for one in home.sandboxes():
                if one.name not in before:
                    one.destroy()
        return {"seconds": sum(took.values()), "parts": took}

    def _plan(self, target: Target, name: str, number: int) -> RestorePlan:
        into = target.system is System.SPARK  # a checkpoint has no sandbox of its own
        return restore.plan(
            self.pipeline,
            target,
            backup=name,
            destination=DestinationKind.DIRECTORY if into else DestinationKind.SANDBOX,
            path=str(self.demo.sandbox.root / f"bare-{number}") if into else "",
        )

    def _fill(self, users: int, orders: int) -> None:
        """Send so many users and events through the stream, and put so many rows beside it."""
        topics = {"users": "users_created", "events": "events_topic"}
        kafka = self.demo.clusters.kafka.connection()
        ingest(kafka, topics, users=users, events=users, seed=1, api="", clock=now)
        with self.demo.primary.connect() as sql:
            sql.execute(f"create table bench as select n, md5(n::text) as text from generate_series(1, {orders}) as n")
        deadline = time.monotonic() + 300 + users / 100
        while self.demo.stream.job.look(now).behind > 1000:
            if time.monotonic() > deadline:
                raise SystemExit(f"the stream did not get through {users} users:\n{self.demo.stream.job.logs()}")
            time.sleep(0.5)


def _take(pipeline: Pipeline) -> SetManifest:
    set_id = backup_id(now())
    backup.freeze(pipeline, set_id, pipeline.targets, clock=now)
    try:
        for target in pipeline.targets:
            backup.copy(pipeline, set_id, target, progress=Quiet(), stop=Stop(), clock=now)
        return backup.seal(pipeline, set_id, clock=now)
    finally:
        backup.release(pipeline, set_id, pipeline.targets)


def _require(report: DrillReport) -> None:
    # Whether it was within its objectives is no question here, nor what else is on this machine.
    wrong = [f"{one.name}: {one.detail}" for one in report.checks if one.verdict is Verdict.FAIL]
    if wrong:
        raise SystemExit(f"the drill failed, so its time says nothing: {'; '.join(wrong[:5])}")


def run(rounds: int, users: int, orders: int) -> dict[str, Any]:
    """Measure both sides in turn."""
    found: dict[str, list[dict[str, Any]]] = {"drill": [], "bare": []}
    with Home.of(PROJECT).sandbox(f"bench-drill-{os.getpid()}") as sandbox:
        with free_ports():  # the demo's alone: what is restored from it has servers of the same names
            bench = Bench(sandbox, users, orders)
        sides = {"drill": lambda _: bench.drill(), "bare": bench.bare}
        for number in range(rounds):
            for name in list(sides)[:: 1 if number % 2 else -1]:
                found[name].append(sides[name](number))
        consistency = bench.sealed.consistency
        size = bench.sealed.bytes
    median = {
        "drill": statistics.median(one["seconds"] for one in found["drill"]),
        "drill without the replay": statistics.median(one["without_replay"] for one in found["drill"]),
        "bare restores": statistics.median(one["seconds"] for one in found["bare"]),
    }
    return {
        "users": users,
        "orders": orders,
        "bytes": size,
        "freeze_seconds": consistency.freeze_seconds if consistency else None,
        "rounds": found,
        "medians": median,
        "ratio": median["drill without the replay"] / median["bare restores"],
    }


def told(found: dict[str, Any]) -> list[str]:
    """Give the report in Markdown."""
    bare = found["medians"]["bare restores"]
    rows = [(name, f"{took:.1f}", f"{took / bare:.2f}x") for name, took in found["medians"].items()]
    parts = list(found["rounds"]["bare"][0]["parts"])
    each = ", ".join(
        f"{part} {statistics.median(one['parts'][part] for one in found['rounds']['bare']):.1f} s" for part in parts
    )
    what = f"{found['users']:,} users, as many events and {found['orders']:,} rows beside them"
    frozen = f"{found['bytes'] / 1e6:.1f} MB stored, frozen in {found['freeze_seconds']:.1f} s"
    return [
        f"The demo with {what}: {frozen}; {len(found['rounds']['bare'])} rounds in turn, medians.",
        "",
        *table(("what", "wall s", "vs bare"), rows),
        "",
        f"Bare: {each}.",
    ]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=50_000, help="users, and as many events, in the set")
    parser.add_argument("--orders", type=int, default=2_000_000, help="rows in PostgreSQL")
    asked = parser.parse_args()
    found = run(asked.rounds, asked.users, asked.orders)
    keep("drill", found, told(found))


if __name__ == "__main__":
    main()
