"""Restore the newest backup of one target into a directory from the bucket alone: ``python -m bench.give_back TARGET URL DIR``."""

from __future__ import annotations

import sys

from bench.quiet import Quiet
from bench.take import now
from include.engine import wiring
from include.engine.contracts import Stop
from include.engine.model import Target
from include.engine.verbs import restore


def main() -> None:
    target, url, path = Target.parse(sys.argv[1]), sys.argv[2], sys.argv[3]
    pipeline = wiring.open_bucket(url, wiring.EnvironmentConnections().get("bench_store"))
    plan = restore.plan(pipeline, target, point="backup", path=path)
    done = restore.restore(
        pipeline,
        plan,
        reason="side by side measurement",
        by="bench",
        progress=Quiet(),
        stop=Stop(),
        clock=now,
        checks=False,  # the other side does not read back what it restored
    )
    for stage in done.stages:
        print(f"{stage.name}: {stage.seconds:.2f} s")


if __name__ == "__main__":
    main()
