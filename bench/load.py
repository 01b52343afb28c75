"""Load generators against stock ones, both sides in one run, on the same server and in turn.

    python -m bench.load [--records N ...] [--rounds N] [kafka] [postgres] [cassandra] [airflow]

Kafka: records of 1 KiB as fast as each can, acks=all, against kafka-producer-perf-test, in short runs: its JVM is cold then,
and a person waits for it.  Both rates are told: by each tool's own count, and with the start of its process.  PostgreSQL:
select-only at a rate that neither can keep, against pgbench without a rate.  Cassandra: writes as fast as each can, against the
driver's own execute_concurrent_with_args.  Airflow: questions to its API server as fast as 8 connections can, against ab of
apache2-utils, which must be installed.  Every server is warmed up by both sides before the first round counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from include.engine.contracts import Connection, Stop
from include.engine.loading import profiles
from include.engine.loading.contracts import LoadEngine, LoadRun
from include.engine.loading.schedule import Schedule
from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.airflow.load import AirflowLoad
from include.engine.systems.airflow.server import AirflowServer
from include.engine.systems.airflow.workload import Workload as AirflowWorkload
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
RESULTS = PROJECT / "bench" / "results"
SIZE = 1024
AT_ONCE = 0.05  # seconds in which all operations are due: no rate bounds the result
CONNECTIONS = 8
_HEAD = "description: bench\nstages: [{rate: 1, lasts: 5s}]\nwarm_up: 0s\ngrace: 120s\n"

Row = dict[str, Any]


class Silent:
    def stage(self, name: str, total_bytes: int | None = None) -> None: ...
    def advance(self, bytes_: int) -> None: ...
    def say(self, text: str) -> None: ...


def running(name: str) -> LoadRun:
    return LoadRun(name=name, progress=Silent(), stop=Stop(), clock=lambda: datetime.now(UTC))


def flat_out(engine: LoadEngine, run: LoadRun, count: int) -> tuple[float, float]:
    """Operations per second until the last one was answered, when all are due at once; and with the generator's start."""
    began = time.monotonic()
    step = engine.measure(run, Schedule.steady(count / AT_ONCE, AT_ONCE)).step
    took = time.monotonic() - began
    assert not step.errors, step.errors
    return count / step.figures["last_answer_seconds"], count / took


def in_turn(what: str, stock: str, rounds: int, theirs: Callable[[], float], ours: Callable[[], float]) -> Row:
    """Warm both up, then measure them in turn."""
    theirs(), ours()
    found: dict[str, list[float]] = {stock: [], "mainstay": []}
    for _ in range(rounds):
        found[stock].append(round(theirs(), 1))
        found["mainstay"].append(round(ours(), 1))
    return row(what, stock, found)


def row(what: str, stock: str, found: dict[str, list[float]]) -> Row:
    ratio = round(median(found["mainstay"]) / median(found[stock]), 2)
    return {"what": what, "stock": stock, "rounds": found, "ratio": ratio}


def kafka(sandbox: Sandbox, sizes: Sequence[int], rounds: int) -> list[Row]:
    cluster = KafkaCluster(sandbox, "bench", quick=False).start()
    text = f"{_HEAD}system: kafka\nin_flight: 100000\nworkload: {{payload_bytes: {SIZE}, payload: random, keys: 0}}"
    engine = KafkaLoad(cluster.connection(), profiles.parse(text, {"kafka": KafkaWorkload}, name="bench"))
    run = running("mainstay_load_bench")
    engine.prepare(run)
    stock = "kafka-producer-perf-test"

    def theirs(records: int) -> tuple[float, float]:
        began = time.monotonic()
        said = cluster.run(
            "org.apache.kafka.tools.ProducerPerformance",
            *("--topic", run.name, "--num-records", str(records), "--record-size", str(SIZE), "--throughput", "-1"),
            *("--bootstrap-server", cluster.bootstrap, "--command-property", "acks=all"),
            timeout=600,
        )
        return float(re.findall(r"([\d.]+) records/sec", said)[-1]), records / (time.monotonic() - began)

    rows = []
    for _ in range(2):
        theirs(max(sizes)), flat_out(engine, run, max(sizes))
    for records in sizes:
        pairs = [(theirs(records), flat_out(engine, run, records)) for _ in range(rounds)]
        for which, how in enumerate(("", ", with the start of its process")):
            found = {stock: [round(one[which], 1) for one, _ in pairs]}
            found["mainstay"] = [round(one[which], 1) for _, one in pairs]
            rows.append(row(f"kafka, {records:,} records{how}", stock, found))
    cluster.stop()
    return rows


def postgres(sandbox: Sandbox, rounds: int) -> list[Row]:
    server = PostgresServer(sandbox, "bench").start()
    connection = Connection(host=server.host, port=server.port, login=SUPERUSER, password=server.password)
    text = f"{_HEAD}system: postgres\nworkload: {{script: select-only, clients: 4}}"
    engine = PostgresLoad(connection, profiles.parse(text, {"postgres": PostgresWorkload}, name="bench"))
    run = running("mainstay_load_bench")
    engine.prepare(run)
    natively: list[float] = []

    def theirs() -> float:
        said = server.run(
            "pgbench",
            *("-n", "-c", "4", "-T", "5", "-b", "select-only", "-M", "prepared"),
            *("-h", server.host, "-p", str(server.port), "-U", SUPERUSER, run.name),
            environment={"PGPASSWORD": server.password},
        )
        natively.append(float(re.findall(r"tps = ([\d.]+)", said)[-1]))
        return natively[-1]

    def ours() -> float:
        return engine.measure(run, Schedule.steady(2 * natively[-1], 5.0)).step.achieved_rate

    found = in_turn("postgres, select-only", "pgbench", rounds, theirs, ours)
    server.stop()
    return [found]


def cassandra(sandbox: Sandbox, rounds: int, count: int = 40_000) -> list[Row]:
    server = CassandraServer(sandbox, "bench").start()
    text = f"{_HEAD}system: cassandra\nin_flight: 128\nworkload: {{writes: 1, payload: random}}"
    engine = CassandraLoad(server.connection(), profiles.parse(text, {"cassandra": CassandraWorkload}, name="bench"))
    run = running("mainstay_load_bench")
    engine.prepare(run)
    with server.connect() as cql:
        from cassandra.concurrent import execute_concurrent_with_args

        insert = cql.prepared(f"INSERT INTO {run.name}.rows (id, at, value) VALUES (?, ?, ?)")
        rows = [(n, n, b"x" * 200) for n in range(count)]

        def theirs() -> float:
            began = time.monotonic()
            execute_concurrent_with_args(cql.session, insert, rows, concurrency=128)
            return count / (time.monotonic() - began)

        what, stock = f"cassandra, {count:,} writes", "execute_concurrent_with_args"
        found = in_turn(what, stock, rounds, theirs, lambda: flat_out(engine, run, count)[0])
    server.stop()
    return [found]


def airflow(sandbox: Sandbox, rounds: int, count: int = 400) -> list[Row]:
    primary = PostgresServer(sandbox, "bench").start()
    server = AirflowServer(sandbox, primary, project=PROJECT, connections={}).start()
    connection = Connection(host=server.url, login="admin", password=server.password("admin"))
    path = "dags?limit=5"
    workload = f"workload: {{connections: {CONNECTIONS}, paths: {{{path!r}: 1}}}}"
    profile = profiles.parse(f"{_HEAD}system: airflow\n{workload}", {"airflow": AirflowWorkload}, name="bench")
    engine, run = AirflowLoad(connection, profile), running("mainstay_load_bench")
    bearer = server.client("admin").bearer()

    def theirs() -> float:
        said = subprocess.run(
            [
                *("ab", "-q", "-l", "-n", str(count), "-c", str(CONNECTIONS)),
                *("-H", f"Authorization: Bearer {bearer}", f"{server.url}/api/v2/{path}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert re.search(r"Failed requests: +0\b", said), said
        assert "Non-2xx" not in said, said
        return float(re.findall(r"Requests per second: +([\d.]+)", said)[0])

    found = in_turn(f"airflow, {count} questions", "ab", rounds, theirs, lambda: flat_out(engine, run, count)[0])
    server.stop()
    primary.stop()
    return [found]


def table(report: dict[str, Any]) -> str:
    """The Markdown of what is known of all systems."""
    lines = [
        f"| operations a second ({report['machine']}) | stock | its median | Mainstay's | ratio | rounds, load before |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for system in report["systems"].values():
        for one in system["rows"]:
            theirs, ours = (median(one["rounds"][side]) for side in (one["stock"], "mainstay"))
            when = f"{len(one['rounds']['mainstay'])}, {system['load']}"
            lines.append(
                f"| {one['what']} | {one['stock']} | {theirs:,.0f} | {ours:,.0f} | {one['ratio']:.2f}x | {when} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("systems", nargs="*", default=["kafka", "postgres", "cassandra"])
    parser.add_argument("--records", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    benches: dict[str, Callable[[Sandbox], list[Row]]] = {
        "kafka": lambda sandbox: kafka(sandbox, asked.records, asked.rounds),
        "postgres": lambda sandbox: postgres(sandbox, asked.rounds),
        "cassandra": lambda sandbox: cassandra(sandbox, asked.rounds),
        "airflow": lambda sandbox: airflow(sandbox, asked.rounds),
    }
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / "load.json"
    before: Any = json.loads(kept.read_text()) if kept.exists() else {}
    systems = before.get("systems", {}) if isinstance(before, dict) else {}
    report = {"machine": f"{os.cpu_count()} CPUs, {platform.platform()}", "systems": systems}
    with Home.of(PROJECT).sandbox("bench-load") as sandbox:
        for name in asked.systems:
            load = f"{os.getloadavg()[0]:.1f}"
            rows = benches[name](sandbox)
            systems[name] = {"at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "load": load, "rows": rows}
            kept.write_text(json.dumps(report, indent=2) + "\n")  # what others have given stays
    (RESULTS / "load.md").write_text(table(report))
    print(table(report), end="")


if __name__ == "__main__":
    main()
