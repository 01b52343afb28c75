"""Restore the newest backup into the ring that it came from: ``python -m bench.cassandra_restore``."""

from __future__ import annotations

from bench.quiet import Quiet
from bench.take import now
from include.engine import wiring
from include.engine.contracts import Stop
from include.engine.model import DestinationKind, Target
from include.engine.verbs import restore

if __name__ == "__main__":
    name = "bench_cassandra"
    pipeline = wiring.open_pipeline(wiring.load_inventory(), wiring.EnvironmentConnections())
    plan = restore.plan(
        pipeline, Target.parse("cassandra/bench"), destination=DestinationKind.SERVER, server=name, confirm=name
    )
    done = restore.restore(
        pipeline, plan, reason="side by side measurement", by="bench", progress=Quiet(), stop=Stop(), clock=now
    )
    for stage in done.stages:
        print(f"{stage.name}: {stage.seconds:.2f} s")
