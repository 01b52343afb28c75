"""Kafka: backup beside kafka-consumer-perf-test, restore beside kafka-producer-perf-test, on the same records in the same rounds.

Both of Kafka's tools throw the records away or make them up; ours read and store, or fetch and write, every byte.  All are run as
commands of their own, so that each pays for its start, and every round has a bucket's prefix and topics of its own.
``python -m bench.kafka --help`` lists the options.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.measure import Figures, Side, run
from include.engine.contracts import Stop
from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.kafka.client import LATEST, TP, open_admin
from include.engine.systems.kafka.connect import Connect
from include.engine.systems.kafka.connect_server import ConnectWorker
from include.engine.systems.kafka.declared import delete_topics
from include.engine.systems.kafka.distribution import java
from include.engine.systems.kafka.mirror import open_mirror
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.settings import Mirror, Settings
from include.engine.systems.kafka.topology import connector_name, heartbeat_name
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.verbs import mirror as verbs
from tests.systems.kafka.stand import TARGET, Servers, Stand, clock

PROJECT = Path(__file__).resolve().parent.parent
TOPIC, MANY, MIRRORED = "records", "many", "mirrored"
SIZE = 1024  # bytes of a value
MIRROR_RECORDS = 6000


def main() -> None:
    options = _options()
    with Home.of(PROJECT).sandbox(f"bench-kafka-{os.getpid()}") as sandbox:
        bench = Bench(sandbox, options)
        bench.fill()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            bench.round(number)
        if not options.no_mirror:
            bench.mirror()
        report = bench.report()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "kafka.json").write_text(json.dumps(report, indent=2) + "\n")
    (options.out / "kafka.md").write_text(_table(report))
    print(_table(report))


class Bench:
    def __init__(self, sandbox: Sandbox, options: argparse.Namespace) -> None:
        self.options = options
        self.sandbox = sandbox
        self.scratch = sandbox.directory("scratch")
        self.cluster = KafkaCluster(sandbox, "bench", quick=False).start()
        self.store = ObjectStoreServer(sandbox, "bench").start()
        self.store.create_bucket("bench")
        self.stand = Stand(self.cluster)
        self.payload = _payload(self.scratch) if options.payload == "json" else None
        self.backups = [Side("mainstay backup, to S3"), Side("kafka-consumer-perf-test")]
        self.restores = [Side("mainstay restore, from S3"), Side("kafka-producer-perf-test, acks=all")]
        self.again = Side("mainstay backup, nothing new")
        self.many = Side(f"mainstay backup, nothing new in {options.partitions} partitions")
        self.mirrors: list[Figures] = []

    def fill(self) -> None:
        self.cluster.create_topics([TOPIC], partitions=3)
        self._produce(TOPIC)
        topics = [f"{MANY}-{number}" for number in range(-(-self.options.partitions // 10))]
        self.cluster.create_topics(topics, partitions=10)
        for topic in topics:
            self.stand.produce(topic, 100, partitions=10)
        self._backup("s3://bench/many", MANY + ".*")

    def round(self, number: int) -> None:
        url = f"s3://bench/round-{number}"
        taking = [lambda: self._backup(url, TOPIC), self._consume]
        for index in [(number + step) % 2 for step in range(2)]:  # the order turns, so that a warm cache favours nobody
            self.backups[index].rounds.append(taking[index]())
        self.again.rounds.append(self._backup(url, TOPIC, again=True))
        self.many.rounds.append(self._backup("s3://bench/many", MANY + ".*", again=True))
        back, made = f"back-{number}", f"made-{number}"
        self.cluster.create_topics([made], partitions=3)
        giving = [lambda: self._restore(url, back), lambda: self._produce(made)]
        for index in [(number + step) % 2 for step in range(2)]:
            self.restores[index].rounds.append(giving[index]())
        with open_admin(self.cluster.connection()) as admin:
            ends = admin.offsets([TP(back, p) for p in range(3)], LATEST)
            assert sum(ends.values()) == self.options.records, ends
            delete_topics(admin, [back, made])

    def mirror(self) -> None:
        dr = KafkaCluster(self.sandbox, "dr").start()
        worker = ConnectWorker(self.sandbox, dr).start()
        for number in range(self.options.rounds):
            topic = f"{MIRRORED}-{number}"
            self.cluster.create_topics([topic], partitions=3)
            self.stand.produce(topic, MIRROR_RECORDS)
            declared = Mirror(
                connect="connect",
                to="dr",
                topics=(topic,),
                groups=("none",),
                replication_factor=1,
                source_alias=f"bench{number}",
            )
            servers = Servers(main=self.cluster.connection(), dr=dr.connection(), connect=worker.connection())
            mirror = open_mirror(TARGET, Settings(connection="main", mirrors={"b": declared}), "b", servers)
            began = time.monotonic()
            verbs.plan(mirror)
            mirror.apply()
            seen = verbs.wait(mirror, mirror.cut(clock), patience=timedelta(minutes=2), stop=Stop())
            wall = time.monotonic() - began
            assert seen.caught_up
            assert sum(map(len, self.stand.seen(topic, cluster=dr).values())) == MIRROR_RECORDS
            self.mirrors.append(Figures(wall=wall, client_cpu=0, server_cpu=0, rss=0, scratch=0))
            for connector in (connector_name("b"), heartbeat_name("b")):
                Connect(worker.connection()).delete(connector)
        worker.stop()
        dr.stop()

    def _backup(self, url: str, topics: str, *, again: bool = False) -> Figures:
        inventory = self.scratch / "inventory.yaml"
        inventory.write_text(
            f"version: 1\npipeline: bench\nstore: {{url: {url}, connection: bench_store}}\n"
            f"kafka:\n  bench: {{connection: bench_kafka, topics: ['{topics}'], readers: {self.options.readers}}}\n"
        )
        full = [] if again else ["--full"]
        return self._mainstay(["backup", "kafka/bench", "--no-verify", "--inventory", str(inventory), *full])

    def _restore(self, url: str, name: str) -> Figures:
        verb = ["restore", "kafka/bench", "--bucket", url, "--endpoint", self.store.endpoint]
        verb += ["--store-connection", "bench_store", "--to-server", "bench_kafka", "--rename", f"{TOPIC}={name}"]
        return self._mainstay([*verb, "--confirm", "kafka/bench", "--reason", "side by side measurement", "--yes"])

    def _mainstay(self, verb: list[str]) -> Figures:
        store = {
            "login": self.store.access_key,
            "password": self.store.secret_key,
            "extra": {"endpoint_url": self.store.endpoint},
        }
        environment = {
            "PYTHONPATH": str(PROJECT),
            "AIRFLOW_CONN_BENCH_STORE": json.dumps(store),
            "AIRFLOW_CONN_BENCH_KAFKA": json.dumps({"extra": self.cluster.connection().extra}),
        }
        command = [sys.executable, "-m", "include.engine.cli", *verb]
        return run(command, servers=self.servers, env=environment, cwd=PROJECT)

    def _consume(self) -> Figures:
        arguments = ("--topic", TOPIC, "--num-records", str(self.options.records))
        return self._tool("ConsumerPerformance", *arguments, "--bootstrap-server", self.cluster.bootstrap)

    def _produce(self, topic: str) -> Figures:
        value = ("--payload-file", self.payload) if self.payload else ("--record-size", str(SIZE))
        arguments = ("--topic", topic, "--num-records", str(self.options.records), "--throughput", "-1", *value)
        where = ("--bootstrap-server", self.cluster.bootstrap, "--command-property", "acks=all")
        return self._tool("ProducerPerformance", *arguments, *where)

    def _tool(self, name: str, *arguments: str | Path) -> Figures:
        command = java(self.cluster.jars, f"org.apache.kafka.tools.{name}", *arguments, heap="512m", quick=False)
        return run(command, servers=self.servers)

    @property
    def servers(self) -> list[int]:
        names = ("kafka-bench", "object-store-bench")
        return [record.identity.pid for record in self.sandbox.running() if record.name in names]

    def report(self) -> dict[str, Any]:
        count = self.options.records

        def told(side: Side, records: int | None = None) -> dict[str, Any]:
            found: dict[str, Any] = {"name": side.name, "rounds": [{**one.__dict__} for one in side.rounds]}
            found |= {figure: side.median(figure) for figure in ("wall", "client_cpu", "server_cpu", "rss")}
            if records:
                found["records_per_second"] = records / found["wall"]
                found["cpu_us_per_record"] = found["client_cpu"] / records * 1e6
            return found

        mirrors = [Side(f"mainstay mirror of {MIRROR_RECORDS} records, started and caught up", self.mirrors)]
        return {
            "at": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "machine": _machine(),
            "records": count,
            "payload": self.options.payload,
            "backup": [told(side, count) for side in self.backups],
            "restore": [told(side, count) for side in self.restores],
            "alone": [told(side) for side in (self.again, self.many, *(mirrors if self.mirrors else ()))],
        }


def _table(report: dict[str, Any]) -> str:
    payload = "JSON-like values of about 1 KiB" if report["payload"] == "json" else "random letters, 1 KiB"
    rounds = len(report["backup"][0]["rounds"])
    lines = [
        f"{report['records']} records ({payload}); {report['machine']}; {report['at']}. Medians of {rounds} rounds."
    ]
    for verb in ("backup", "restore"):
        ours, theirs = report[verb]
        heads = f"| {verb} | wall s | rounds | records/s | client us/record | server CPU s | rate, theirs = 1 | CPU, theirs = 1 |"
        lines += ["", heads, "|---|---|---|---|---|---|---|---|"]
        for side in (ours, theirs):
            walls = [one["wall"] for one in side["rounds"]]
            cells = [
                side["name"],
                f"{side['wall']:.2f}",
                f"{min(walls):.2f} to {max(walls):.2f}",
                f"{side['records_per_second']:.0f}",
                f"{side['cpu_us_per_record']:.2f}",
                f"{side['server_cpu']:.1f}",
                f"{theirs['wall'] / side['wall']:.2f}",
                f"{side['client_cpu'] / theirs['client_cpu']:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| alone | wall s | rounds |", "|---|---|---|"]
    for side in report["alone"]:
        walls = [one["wall"] for one in side["rounds"]]
        lines.append(f"| {side['name']} | {side['wall']:.2f} | {min(walls):.2f} to {max(walls):.2f} |")
    return "\n".join(lines) + "\n"


def _payload(folder: Path) -> Path:
    """Write values as a pipeline has them: JSON with few keys, some words, numbers and an id.  Kafka's tool picks from them."""
    dice = random.Random(20261123)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(3, 9))) for _ in range(2000)]
    lines = []
    for number in range(20_000):
        found: dict[str, Any] = {"id": dice.randbytes(16).hex(), "number": number, "at": 1_795_000_000_000 + number}
        while len(json.dumps(found)) < SIZE - 60:
            found[f"field_{len(found)}"] = " ".join(dice.choices(words, k=6))
        lines.append(json.dumps(found))
    path = folder / "payload.json"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o644)
    return path


def _machine() -> str:
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    return f"{os.cpu_count()} cores, {memory:.0f} GB, Python {sys.version.split()[0]}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=600_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--payload", choices=("json", "random"), default="json", help="random letters hardly compress")
    parser.add_argument("--partitions", type=int, default=1000, help="of the many topics in which nothing is new")
    parser.add_argument("--readers", type=int, default=2, help="processes of ours that read side by side")
    parser.add_argument("--no-mirror", action="store_true")
    parser.add_argument("--out", type=Path, default=PROJECT / "bench" / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
