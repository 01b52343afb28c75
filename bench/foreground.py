"""What readers of Cassandra feel while a set is copied: p99 of reads at a fixed rate, with and without, in turn in one run.

    python -m bench.foreground [--rows N] [--rate N] [--seconds N] [--rounds N] [--bandwidth 20MiB]

Reads are sent when a schedule says, however slow the answers are, and latency counts from then.  While a side with copying is
measured, sets are taken one after the other until the reads are over, each into an empty prefix: nothing of an earlier one is
there to be left out.  Node, object store, generator and copying share one machine; in production only the node's own part of
the copying is beside its readers.  The store therefore gets the idle class of the scheduler here; what it and the copying's
own process still take makes the ratio an upper bound.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.quiet import Quiet
from bench.recorded import keep, table
from bench.take import now
from include.engine import wiring
from include.engine.contracts import Connection, Stop
from include.engine.loading import profiles
from include.engine.loading.contracts import LoadRun
from include.engine.loading.schedule import Schedule
from include.engine.model import LoadStep
from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.cassandra.load import CassandraLoad
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.cassandra.workload import Workload
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.verbs import backup

PROJECT = Path(__file__).resolve().parent.parent
ROW = 1024  # bytes of each row that do not compress
SIDES = ("alone", "while sets are copied")
_READ_ROWS = 10_000
_FILLED_AT_ONCE = 5_000


class Bench:
    """A node with rows, an object store, and a generator of reads.

    :param bandwidth: limit of the copying, as the inventory says it; empty for none
    """

    def __init__(self, sandbox: Sandbox, rows: int, rate: float, bandwidth: str) -> None:
        self.rate, self.bandwidth = rate, bandwidth
        self.folder = sandbox.root
        self.server = CassandraServer(sandbox, "bench").start()
        self.store = ObjectStoreServer(sandbox, "bench").start()
        self.store.create_bucket("bench-foreground")
        for record in sandbox.running():
            if record.name.startswith("object-store-"):
                subprocess.run(["chrt", "-a", "-i", "-p", "0", str(record.identity.pid)], check=True)
        self._fill(rows)
        # One generator and one schedule for both sides; replicas: one node has them all.
        text = (
            f"description: bench\nsystem: cassandra\nstages: [{{rate: {rate}, lasts: 1s}}]\nwarm_up: 0s\ngrace: 60s\n"
            f"in_flight: 512\nworkload: {{writes: 0, reads: 1, rows: {_READ_ROWS}, payload_bytes: {ROW}, payload: random}}"
        )
        profile = profiles.parse(text, {"cassandra": Workload}, name="bench")
        self.reads = CassandraLoad(self.server.connection(), profile)
        self.run = LoadRun(name="mainstay_load_bench", progress=Quiet(), stop=Stop(), clock=now)
        self.reads.prepare(self.run)
        self.server.nodes[0].nodetool("flush")

    def measure(self, side: str, seconds: float) -> dict[str, Any]:
        """Read for *seconds*, with sets copied meanwhile or without."""
        schedule = Schedule.steady(self.rate, seconds, warm_up=min(5.0, seconds / 4))
        if side == SIDES[0]:
            return _figures(self.reads.measure(self.run, schedule).step)
        with self._copying() as copied:
            time.sleep(1.0)  # it has begun
            began = time.monotonic()
            step = self.reads.measure(self.run, schedule).step
            ended = time.monotonic()
        if copied.failed:
            raise SystemExit(f"a set could not be copied: {copied.failed}")
        share = sum(max(0.0, min(end, ended) - max(begin, began)) for begin, end, _ in copied.spans) / (ended - began)
        mb = sum(size for _, _, size in copied.spans) / 1e6
        spent = sum(end - begin for begin, end, _ in copied.spans)
        return _figures(step) | {"sets": len(copied.spans), "share": share, "megabytes_per_second": mb / spent}

    @contextmanager
    def _copying(self) -> Iterator[Copied]:
        copied, over = Copied(), threading.Event()

        def work() -> None:
            while not over.is_set():
                try:
                    copied.spans.append(self._take())
                except Exception as error:  # noqa: BLE001 - told where the figures would be
                    copied.failed = f"{type(error).__name__}: {error}"
                    return

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield copied
        finally:
            over.set()
            thread.join()

    def _take(self) -> tuple[float, float, int]:
        """Take a set into an empty prefix; give when its copying began and ended, and its bytes."""
        pipeline = wiring.open_pipeline(
            wiring.load_inventory(self._inventory(uuid.uuid4().hex[:12])), _Known(self.server, self.store)
        )
        (target,), set_id = pipeline.targets, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        backup.freeze(pipeline, set_id, [target], clock=now)
        try:
            began = time.monotonic()
            manifest = backup.copy(pipeline, set_id, target, progress=Quiet(), stop=Stop(), clock=now)
            ended = time.monotonic()
            backup.seal(pipeline, set_id, clock=now)
        finally:
            backup.release(pipeline, set_id, [target])
        return began, ended, manifest.bytes

    def _inventory(self, prefix: str) -> Path:
        limit = {"bandwidth": self.bandwidth} if self.bandwidth else {}
        document = {
            "pipeline": "bench",
            "store": {"url": f"s3://bench-foreground/{prefix}", "connection": "store"},
            "cassandra": {"bench": {"connection": "cassandra", **self.server.target_settings(), **limit}},
        }
        path = self.folder / "inventory.yaml"
        path.write_text(json.dumps(document))
        return path

    def _fill(self, count: int) -> None:
        dice = random.Random(1)
        with self.server.connect(timeout=120) as cql:
            cql.rows("CREATE KEYSPACE bench WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}")
            cql.rows("CREATE TABLE bench.rows (id uuid PRIMARY KEY, v blob)")
            for first in range(0, count, _FILLED_AT_ONCE):
                some = range(first, min(count, first + _FILLED_AT_ONCE))
                rows = [(uuid.UUID(int=dice.getrandbits(128), version=4), dice.randbytes(ROW)) for _ in some]
                cql.many("INSERT INTO bench.rows (id, v) VALUES (?, ?)", rows)


class Copied:
    """Sets that were copied: when each began and ended, and its bytes; and why there are no more."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float, int]] = []
        self.failed = ""


class _Known:
    def __init__(self, server: CassandraServer, store: ObjectStoreServer) -> None:
        self._known = {
            "cassandra": server.connection(),
            "store": Connection(
                login=store.access_key, password=store.secret_key, extra={"endpoint_url": store.endpoint}
            ),
        }

    def get(self, name: str) -> Connection:
        return self._known[name]


def _figures(step: LoadStep) -> dict[str, Any]:
    if step.errors:
        raise SystemExit(f"reads failed: {step.errors}")
    spread = step.from_intended
    return {"p50": spread.p50, "p99": spread.p99, "max": spread.max, "rate": step.achieved_rate, "behind": step.behind}


def run(rows: int, rate: float, seconds: float, rounds: int, bandwidth: str) -> dict[str, Any]:
    """Measure both sides in turn."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with Home.of(PROJECT).sandbox(f"bench-foreground-{os.getpid()}") as sandbox:
        bench = Bench(sandbox, rows, rate, bandwidth)
        bench.measure(SIDES[1], min(10.0, seconds))  # both the node and the copying have been warm before
        for number in range(rounds):
            for side in SIDES[:: 1 if number % 2 else -1]:
                found[side].append(bench.measure(side, seconds))
    medians = {
        side: {figure: statistics.median(one[figure] for one in some) for figure in ("p50", "p99", "rate", "behind")}
        for side, some in found.items()
    }
    return {
        "rows": rows,
        "asked_rate": rate,
        "seconds": seconds,
        "bandwidth": bandwidth or "no limit",
        "sides": found,
        "medians": medians,
        "ratio": medians[SIDES[1]]["p99"] / medians[SIDES[0]]["p99"],
    }


def told(found: dict[str, Any]) -> list[str]:
    """Give the report in Markdown."""
    rows = [
        (side, f"{one['rate']:,.0f}", f"{one['p50']:.1f}", f"{one['p99']:.1f}", f"{one['behind']:.1%}")
        for side, one in found["medians"].items()
    ]
    copied = found["sides"][SIDES[1]]
    share = statistics.median(one["share"] for one in copied)
    speed = statistics.median(one["megabytes_per_second"] for one in copied)
    asked = f"{found['asked_rate']:.0f} reads/s for {found['seconds']:.0f} s, {len(copied)} rounds in turn, medians"
    beside = (
        f"{found['rows']:,} rows of 1 KiB are copied, {speed:.0f} MB/s ({found['bandwidth']}), {share:.0%} of the time"
    )
    return [
        f"{asked}; {beside}.",
        "",
        *table(("reads", "answered/s", "p50 ms", "p99 ms", "sent late"), rows),
        "",
        f"p99 while sets are copied: {found['ratio']:.2f}x.",
    ]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=300_000, help="rows of 1 KiB that are copied")
    parser.add_argument("--rate", type=float, default=300.0, help="reads a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each side in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bandwidth", default="", help="limit of the copying a second, such as 20MiB; none when empty")
    asked = parser.parse_args()
    found = run(asked.rows, asked.rate, asked.seconds, asked.rounds, asked.bandwidth)
    keep("foreground", found, told(found))


if __name__ == "__main__":
    main()
