"""Load generators against stock ones, both sides in one run, on the same server and in turn.

    python -m bench.load [--records N] [--rounds N] [kafka] [postgres] [cassandra]

Kafka: records of 1 KiB as fast as each can, acks=all, against kafka-producer-perf-test.  PostgreSQL: select-only at a rate that
neither can keep, against pgbench without a rate.  Cassandra: writes as fast as each can, against the driver's own
execute_concurrent_with_args.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from include.engine.contracts import Connection, Stop
from include.engine.loading import profiles
from include.engine.loading.contracts import LoadEngine, LoadRun
from include.engine.loading.schedule import Schedule
from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.cassandra.load import CassandraLoad
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.cassandra.workload import Workload as CassandraWorkload
from include.engine.systems.kafka.load import KafkaLoad
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.workload import Workload as KafkaWorkload
from include.engine.systems.postgres.load import PostgresLoad
from include.engine.systems.postgres.server import SUPERUSER, PostgresServer
from include.engine.systems.postgres.workload import Workload as PostgresWorkload

PROJECT = Path(__file__).resolve().parent.parent
SIZE = 1024
_HEAD = "description: bench\nstages: [{rate: 1, lasts: 5s}]\nwarm_up: 0s\ngrace: 120s\n"


class Silent:
    def stage(self, name: str, total_bytes: int | None = None) -> None: ...
    def advance(self, bytes_: int) -> None: ...
    def say(self, text: str) -> None: ...


def running(name: str) -> LoadRun:
    return LoadRun(name=name, progress=Silent(), stop=Stop(), clock=lambda: datetime.now(UTC))


def flat_out(engine: LoadEngine, run: LoadRun, count: int) -> float:
    """Operations per second until the last one was answered, when all are due within a second."""
    step = engine.measure(run, Schedule.steady(float(count), 1.0)).step
    assert not step.errors, step.errors
    return count / step.figures["last_answer_seconds"]


def kafka(sandbox: Sandbox, records: int, rounds: int) -> dict[str, list[float]]:
    cluster = KafkaCluster(sandbox, "bench", quick=False).start()
    found: dict[str, list[float]] = {"kafka-producer-perf-test": [], "mainstay": []}
    text = f"{_HEAD}system: kafka\nin_flight: 100000\nworkload: {{payload_bytes: {SIZE}, payload: random, keys: 0}}"
    engine = KafkaLoad(cluster.connection(), profiles.parse(text, {"kafka": KafkaWorkload}, name="bench"))
    run = running("mainstay_load_bench")
    engine.prepare(run)
    for _ in range(rounds):
        said = cluster.run(
            "org.apache.kafka.tools.ProducerPerformance",
            *("--topic", run.name, "--num-records", str(records), "--record-size", str(SIZE), "--throughput", "-1"),
            *("--bootstrap-server", cluster.bootstrap, "--command-property", "acks=all"),
            timeout=600,
        )
        found["kafka-producer-perf-test"].append(float(re.findall(r"([\d.]+) records/sec", said)[-1]))
        found["mainstay"].append(flat_out(engine, run, records))
    cluster.stop()
    return found


def postgres(sandbox: Sandbox, rounds: int) -> dict[str, list[float]]:
    server = PostgresServer(sandbox, "bench").start()
    connection = Connection(host=server.host, port=server.port, login=SUPERUSER, password=server.password)
    text = f"{_HEAD}system: postgres\nworkload: {{script: select-only, clients: 4}}"
    engine = PostgresLoad(connection, profiles.parse(text, {"postgres": PostgresWorkload}, name="bench"))
    run = running("mainstay_load_bench")
    engine.prepare(run)
    found: dict[str, list[float]] = {"pgbench": [], "mainstay": []}
    for _ in range(rounds):
        said = server.run(
            "pgbench",
            *("-n", "-c", "4", "-T", "5", "-b", "select-only", "-M", "prepared"),
            *("-h", server.host, "-p", str(server.port), "-U", SUPERUSER, run.name),
            environment={"PGPASSWORD": server.password},
        )
        native = float(re.findall(r"tps = ([\d.]+)", said)[-1])
        found["pgbench"].append(native)
        found["mainstay"].append(engine.measure(run, Schedule.steady(2 * native, 5.0)).step.achieved_rate)
    server.stop()
    return found


def cassandra(sandbox: Sandbox, rounds: int, count: int = 4000) -> dict[str, list[float]]:
    server = CassandraServer(sandbox, "bench").start()
    text = f"{_HEAD}system: cassandra\nin_flight: 128\nworkload: {{writes: 1, payload: random}}"
    engine = CassandraLoad(server.connection(), profiles.parse(text, {"cassandra": CassandraWorkload}, name="bench"))
    run = running("mainstay_load_bench")
    engine.prepare(run)
    found: dict[str, list[float]] = {"execute_concurrent_with_args": [], "mainstay": []}
    with server.connect() as cql:
        from cassandra.concurrent import execute_concurrent_with_args

        insert = cql.prepared(f"INSERT INTO {run.name}.rows (id, at, value) VALUES (?, ?, ?)")
        for _ in range(rounds):
            rows = [(n, n, b"x" * 200) for n in range(count)]
            began = time.monotonic()
            execute_concurrent_with_args(cql.session, insert, rows, concurrency=128)
            found["execute_concurrent_with_args"].append(count / (time.monotonic() - began))
            found["mainstay"].append(flat_out(engine, run, count))
    server.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("systems", nargs="*", default=["kafka", "postgres", "cassandra"])
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    benches: dict[str, Callable[[Sandbox], dict[str, list[float]]]] = {
        "kafka": lambda sandbox: kafka(sandbox, asked.records, asked.rounds),
        "postgres": lambda sandbox: postgres(sandbox, asked.rounds),
        "cassandra": lambda sandbox: cassandra(sandbox, asked.rounds),
    }
    rows: list[dict[str, Any]] = []
    with Home.of(PROJECT).sandbox("bench-load") as sandbox:
        for name in asked.systems:
            found = benches[name](sandbox)
            ours, (stock, theirs) = median(found["mainstay"]), next(iter(found.items()))
            rows.append({"system": name, "stock": stock, "rounds": found, "ratio": round(ours / median(theirs), 2)})
            print(
                f"| {name} | {stock} | {median(theirs):,.0f} | {ours:,.0f} | {ours / median(theirs):.2f}x |", flush=True
            )
    out = PROJECT / "bench" / "results"
    out.mkdir(exist_ok=True)
    (out / "load.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
