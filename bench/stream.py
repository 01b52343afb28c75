"""The streaming job against a hand-written loop that does the same work, several rounds in turn in one run; and its freshness.

    python -m bench.stream [--records N] [--rounds N] [--seconds N] [--warm N]

Both validate, send broken records to a topic of dead letters with the same headers, write the rest at LOCAL_QUORUM with the
record's own time, and commit to a group after each batch.  Both live through all rounds and are warm: each has done the same
number of records before the first one counts.  In a round a side gets so many records into its own topic as fast as Kafka
takes them, while the other one waits; what counts is from the first record sent to the last one committed.

What is compared is records for each second of CPU of the side itself, without Kafka's and Cassandra's: it holds on a busy machine
too.  Freshness is sampled at 500 records a second, in the job's two flows together.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.recorded import keep, table
from bench.stream_loop import COLUMNS
from include.engine.contracts import Stop
from include.engine.sandbox.home import Home
from include.engine.streaming import Life
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.spark import positions
from include.engine.systems.spark.ingest import Ingest, pour
from include.engine.systems.spark.people import Record, user
from tests.estate import clock
from tests.integration.spark.brook import Brook

PROJECT = Path(__file__).resolve().parent.parent
RATE = 500.0
_BEGINS_WITHIN = 240.0  # seconds; a driver alone takes a minute on a busy machine
_SLOWEST = 200.0  # records a second below which a side is given up
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


@dataclass
class Side:
    """One that reads a topic and commits to a group, and its rounds.

    :param session: whose processes' CPU is its own
    :param words: what it said, for when it does not get there
    """

    brook: Brook
    topic: str
    group: str
    session: int
    words: Callable[[], str]
    sent: int = 0
    rounds: list[dict[str, float]] = field(default_factory=list)

    def take(self, count: int) -> dict[str, float]:
        """Send it *count* records, and wait until it has done them."""
        records = list(people(self.sent, count))  # to make them costs more than to send them
        before, began = cpu_of(self.session), time.monotonic()
        with Ingest(self.brook.kafka.connection(), {"users": self.topic}) as to:
            to.send("users", records)
        self.sent += count
        self._wait(began + _BEGINS_WITHIN + count / _SLOWEST)
        seconds, cpu = time.monotonic() - began, cpu_of(self.session) - before
        return {"records": count, "seconds": seconds, "cpu": cpu, "rate": count / seconds, "per_cpu": count / cpu}

    def measure(self, count: int) -> None:
        self.rounds.append(self.take(count))

    def median(self, figure: str) -> float:
        return statistics.median(one[figure] for one in self.rounds)

    def _wait(self, deadline: float) -> None:
        connection = self.brook.kafka.connection()
        while True:
            places = positions.read(connection, self.group, [self.topic])[self.topic]
            if sum(place.committed or 0 for place in places) >= self.sent:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.group} did not do {self.sent} records in time: {places}\n{self.words()}")
            time.sleep(0.1)


def job(brook: Brook) -> Side:
    """Launch the job."""
    stream = brook.stream(profile={})
    stream.launch(reason="a bench", clock=clock)
    brook.until(stream, lambda seen: seen.begun, "the job begins")
    return Side(brook, brook.users, stream.settings.group, os.getsid(brook.pid(stream)), stream.logs)


@contextmanager
def loop(brook: Brook, log: Path) -> Iterator[Side]:
    """Start the loop, with a topic, a table and a group of its own."""
    topic, made = f"{brook.prefix}_loop", f"{brook.prefix}.loop"
    brook.make(topic, f"{topic}.dead")
    with brook.cassandra.connect() as cql:
        others = ", ".join(f"{column} text" for column in COLUMNS[1:])
        cql.rows(f"CREATE TABLE {made} (id uuid PRIMARY KEY, {others})")
    connection = brook.cassandra.connection()
    told = {
        "servers": brook.kafka.bootstrap,
        "topic": topic,
        "group": topic,
        "table": made,
        "host": connection.host,
        "port": brook.cassandra.native_port,
        "login": connection.login,
        "password": brook.cassandra.password,
    }
    environment = os.environ | {"BENCH_LOOP": json.dumps(told), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "bench.stream_loop"]
    with log.open("wb") as said:
        child = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
    try:
        yield Side(brook, topic, topic, child.pid, lambda: log.read_text()[-2000:])
    finally:
        child.kill()
        child.wait()


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
    batch = statistics.median(batches) if batches else None
    return {"rate": RATE, "samples": len(found), "p50": cuts[49], "p99": cuts[98], "batch_p50": batch}


def run(count: int, rounds: int, warm: int, seconds: float) -> dict[str, Any]:
    """Measure both sides in turn, then the job's freshness."""
    with Home.of(PROJECT).sandbox(f"bench-stream-{os.getpid()}") as sandbox:
        kafka = KafkaCluster(sandbox, "bench", quick=False).start()
        cassandra = CassandraServer(sandbox, "bench").start()
        with Brook(kafka, cassandra) as brook:
            with loop(brook, sandbox.root / "log" / "loop.log") as by_hand:
                sides = {"spark": job(brook), "loop": by_hand}
                for side in sides.values():
                    side.take(warm)
                for number in range(rounds):
                    for side in list(sides.values())[:: 1 if number % 2 else -1]:
                        side.measure(count)
            fresh = freshness(brook, seconds)
    per_cpu = {name: side.median("per_cpu") for name, side in sides.items()}
    return {
        "records": count,
        "warm": warm,
        "sides": {name: side.rounds for name, side in sides.items()},
        "medians": {name: {"rate": side.median("rate"), "per_cpu": per_cpu[name]} for name, side in sides.items()},
        "spark_to_loop": per_cpu["spark"] / per_cpu["loop"],
        "freshness": fresh,
    }


def told(found: dict[str, Any]) -> list[str]:
    """Give the report in Markdown."""
    rows = [
        (
            name,
            f"{one['rate']:,.0f}",
            f"{one['per_cpu']:,.0f}",
            f"{one['per_cpu'] / found['medians']['loop']['per_cpu']:.2f}x",
        )
        for name, one in found["medians"].items()
    ]
    fresh, rounds = found["freshness"], len(found["sides"]["spark"])
    age = f"p50 {fresh['p50']:.2f} s, p99 {fresh['p99']:.2f} s of {fresh['samples']} samples"
    return [
        f"{found['records']:,} records a round, {rounds} rounds in turn after {found['warm']:,} records; medians.",
        "",
        *table(("who", "records/s", "records per CPU second", "vs the loop"), rows),
        "",
        f"Freshness at {fresh['rate']:.0f} records/s: {age}.",
    ]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000, help="of each round and side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=int, default=50_000, help="records of each side before the first round")
    parser.add_argument("--seconds", type=float, default=60.0, help="of traffic for the freshness")
    asked = parser.parse_args()
    found = run(asked.records, asked.rounds, asked.warm, asked.seconds)
    keep("stream", found, told(found))


if __name__ == "__main__":
    main()
