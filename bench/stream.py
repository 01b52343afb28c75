"""The streaming job against a hand-written loop that does the same work, on the same records in one run; and its freshness.

    python -m bench.stream [records] [seconds of traffic]

Both validate, send broken records to a topic of dead letters, and write the rest to the same table at LOCAL_QUORUM. What is
compared is records for each second of CPU of the side itself, without Kafka's and Cassandra's: it holds on a busy machine too.
The job is warm: its Java has compiled what it runs.  Freshness is that of 500 records a second.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from include.engine.contracts import Stop
from include.engine.sandbox.home import Home
from include.engine.streaming import Life
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.spark.ingest import Ingest, pour
from include.engine.systems.spark.people import Record, user
from tests.integration.spark.brook import Brook, clock

PROJECT = Path(__file__).resolve().parent.parent
WARM = 30_000
RATE = 500.0
_TICKS = os.sysconf("SC_CLK_TCK")


def people(first: int, count: int) -> Iterator[Record]:
    """Every hundredth is broken."""
    for n in range(first, first + count):
        yield user(1, n) if n % 100 else {"id": f"broken {n}"}


def cpu_of(session: int) -> float:
    """CPU seconds of all processes of a session, with those that they have waited for."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            total += sum(map(int, fields[11:15]))
    return total / _TICKS


def spark(brook: Brook, count: int) -> dict[str, Any]:
    stream = brook.stream(profile={})
    connection = brook.kafka.connection()
    with Ingest(connection, {"users": brook.users}) as to:
        to.send("users", people(0, WARM))
    stream.launch(reason="a bench", clock=clock)
    brook.caught_up(stream, WARM)
    driver = os.getsid(brook.pid(stream))
    before, began = cpu_of(driver), time.monotonic()
    with Ingest(connection, {"users": brook.users}) as to:
        to.send("users", people(WARM, count))
    brook.caught_up(stream, WARM + count)
    return {"records": count, "seconds": time.monotonic() - began, "cpu": cpu_of(driver) - before}


def loop(brook: Brook, count: int) -> dict[str, Any]:
    told = {
        "servers": brook.kafka.bootstrap,
        "topic": brook.users,
        "table": brook.users_table,
        "host": brook.cassandra.connection().host,
        "port": brook.cassandra.native_port,
        "login": brook.cassandra.connection().login,
        "password": brook.cassandra.password,
        "records": count,
    }
    environment = os.environ | {"BENCH_LOOP": json.dumps(told), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-m", "bench.stream_loop"], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def freshness(brook: Brook, seconds: float) -> dict[str, Any]:
    """Sample the age of the oldest record that waits while traffic comes, on the job that runs."""
    stream = brook.streams[-1]
    stop = Stop()
    settings: Any = (brook.kafka.connection(), {"users": brook.users, "events": brook.events})
    thread = threading.Thread(
        target=pour, args=settings, kwargs={"rate": RATE, "seed": 9, "stop": stop, "clock": clock}
    )
    thread.start()
    found: list[float] = []
    batches: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen = stream.look(clock)
        assert seen.life is Life.RUNNING
        found.append(seen.seconds)
        batches += [flow.batch_seconds for flow in seen.flows if flow.batch_seconds is not None]
        time.sleep(0.2)
    stop.stop("enough")
    thread.join()
    cuts = statistics.quantiles(found, n=100)
    return {"samples": len(found), "p50": cuts[49], "p99": cuts[98], "batch_p50": statistics.median(batches)}


def run(count: int, seconds: float) -> dict[str, Any]:
    with Home.of(PROJECT).sandbox("bench-stream") as sandbox:
        kafka = KafkaCluster(sandbox, "bench", quick=False).start()
        cassandra = CassandraServer(sandbox, "bench").start()
        with Brook(kafka, cassandra) as brook:
            job = spark(brook, count)
            fresh = freshness(brook, seconds)
            brook.streams[-1].end()
            by_hand = loop(brook, count)
    return {"spark": job, "loop": by_hand, "freshness": fresh, "load": os.getloadavg()[0]}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    found = run(count, float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
    (PROJECT / "bench" / "results" / "stream.json").write_text(json.dumps(found, indent=2) + "\n")
    print("| who | records | seconds | CPU s | records per CPU s |\n|---|---|---|---|---|")
    for who in ("spark", "loop"):
        row = found[who]
        rate = row["records"] / row["cpu"]
        print(f"| {who} | {row['records']} | {row['seconds']:.1f} | {row['cpu']:.1f} | {rate:.0f} |")
    fresh = found["freshness"]
    print(
        f"freshness at {RATE:.0f} records/s: p50 {fresh['p50']:.2f} s, p99 {fresh['p99']:.2f} s (load {found['load']:.0f})"
    )


if __name__ == "__main__":
    main()
