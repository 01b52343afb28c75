"""One sweep of the demo, beside stock command-line tools that are asked for the same numbers one by one.

    python -m bench.sweep [--rounds N] [--without-airflow]

The demo's servers run with their traffic.  A round is one sweep of PostgreSQL, Kafka, Cassandra, Airflow and this machine, and the
tools that a person would ask: psql, Kafka's own (their JVM started directly, without the script around it), nodetool, curl, df
and free.  Two figures of the tools are told: each *command* once, one after the other, for whoever takes all its numbers out of
its output; and each *number* by its command, as checklists of shell lines ask: that is reckoned from the commands' times in the
same round, not run.  What no stock tool tells (backups, the stream) is left out of the comparison.

Last comes the sweep of everything that the inventory has, alone and while three checklists are being written.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.recorded import keep, table
from include.engine import lookout
from include.engine.cli.clock import now
from include.engine.cli.demo_sandbox import DemoSandbox
from include.engine.cli.steps import Steps
from include.engine.contracts import Connection
from include.engine.errors import Misconfigured
from include.engine.health.looks import Look
from include.engine.sandbox.home import Home
from include.engine.systems.postgres import questions
from include.engine.verbs import sweep
from include.engine.verbs.sweep import Watch
from include.engine.wiring import PROJECT, load_inventory
from tests.e2e.live import free_ports

KINDS = ("morning", "evening", "predeployment")
_AHEAD = 2.0  # seconds until a checklist's process looks at something
_TOOLS = "org.apache.kafka.tools"
_PSQL = {
    "server": questions.SERVER,
    "sessions": questions.CONNECTIONS,
    "replication": questions.STANDBYS,
    "slots": questions.SLOTS,
    "archiver": questions.ARCHIVER,
    "databases": questions.DATABASES,
    "bloat": questions.DEAD_ROWS,
    "checkpoints": questions.CHECKPOINTS,
}
_KAFKA = {
    "cluster": (f"{_TOOLS}.MetadataQuorumCommand", "--bootstrap-server {at} describe --replication"),
    "replicas": (f"{_TOOLS}.TopicCommand", "--bootstrap-server {at} --describe"),
    "disks": (f"{_TOOLS}.LogDirsCommand", "--bootstrap-server {at} --describe"),
    "groups": (f"{_TOOLS}.consumer.group.ConsumerGroupCommand", "--bootstrap-server {at} --describe --all-groups"),
}
_NODETOOL = {
    "nodes": ("status",),
    "pools": ("tpstats",),
    "jolokia": ("compactionstats",),
    "disks": ("info",),
    "hints": ("listpendinghints",),
    "snapshots": ("listsnapshots",),
    "repairs": ("repair_admin", "list"),
    "replication": ("describecluster",),
}
_CURL = {
    "components": "monitor/health",
    "queue": "pools",
    "api servers": "version",
    "files": "importErrors?limit=1",
    "dags": "dags?limit=100",
}
_HOST = {"disk": ("df", "-k", "/"), "memory": ("free", "-b")}
Ask = Callable[[], object]


class _Known:
    def __init__(self, known: Mapping[str, Connection]) -> None:
        self._known = known

    def get(self, name: str) -> Connection:
        if name not in self._known:
            raise Misconfigured(f"the demo has no connection {name}", hint="the bench knows the demo's alone")
        return self._known[name]


class Bench:
    """The running demo, and both ways to look at it."""

    def __init__(self, demo: DemoSandbox, *, airflow: bool) -> None:
        self.demo, self.airflow = demo, airflow
        demo.up(Steps(), with_airflow=airflow)
        os.environ.update(demo.settings())
        self.watch: Watch = lookout.open_watch(
            load_inventory(demo.inventory), _Known(demo.connections()), beside=demo.inventory
        )
        self.token = demo.airflow.client("viewer").bearer() if airflow else ""
        compared = ["postgres", "kafka", "cassandra", "host", *(["airflow"] if airflow else [])]
        self.compared = [system for system in compared if system in self.watch.systems]

    def sweep(self, systems: Sequence[str]) -> tuple[float, list[Look]]:
        """Look once; give the seconds, and what was seen."""
        began = time.perf_counter()
        looks = sweep.look(self.watch, systems, clock=now)
        return time.perf_counter() - began, looks

    def tools(self, looks: Sequence[Look]) -> dict[str, dict[str, Any]]:
        """Ask for what *looks* have read by stock tools, each command once; by system, what it took."""
        found: dict[str, dict[str, Any]] = {}
        for look in looks:
            ask = self._command(look)
            if ask is None or not look.readings:
                continue
            began = time.perf_counter()
            ask()
            took = time.perf_counter() - began
            of = found.setdefault(look.system, {"readings": 0, "commands": 0, "seconds": 0.0, "by_number": 0.0})
            of["readings"] += len(look.readings)
            of["commands"] += 1
            of["seconds"] += took
            of["by_number"] += took * len(look.readings)
        return found

    def beside_checklists(self) -> tuple[float, int]:
        """Sweep everything while three checklists are written; give the seconds, and the numbers that were read."""
        command = [sys.executable, "-m", "include.engine.cli", "checklist"]
        environment = {**os.environ, **self.demo.environment()}
        with_whom = [
            subprocess.Popen(
                [*command, kind], cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for kind in KINDS
        ]
        time.sleep(_AHEAD)
        took, looks = self.sweep(self.watch.systems)
        for one in with_whom:
            one.wait(timeout=300)
        return took, sum(len(look.readings) for look in looks)

    def _command(self, look: Look) -> Ask | None:
        """Give what a person would ask instead of a probe; nothing where no stock tool tells it."""
        if look.system == "postgres" and look.probe in _PSQL:
            return lambda: self._psql(_PSQL[look.probe])
        if look.system == "kafka" and look.probe in _KAFKA:
            name, arguments = _KAFKA[look.probe]
            kafka = self.demo.clusters.kafka
            return lambda: kafka.run(name, *arguments.format(at=kafka.bootstrap).split())
        if look.system == "cassandra" and look.probe in _NODETOOL:
            return lambda: self.demo.clusters.cassandra.nodes[0].nodetool(*_NODETOOL[look.probe])
        if look.system == "airflow" and look.probe in _CURL:
            url = f"{self.demo.airflow.url}/api/v2/{_CURL[look.probe]}"
            return lambda: _run("curl", "-sf", "-H", f"Authorization: Bearer {self.token}", url)
        if look.system == "host" and (kind := look.probe.partition(" ")[0]) in _HOST:
            return lambda: _run(*_HOST[kind])
        return None

    def _psql(self, question: str) -> None:
        known, binaries = self.demo.connections()["postgres_main"], self.demo.primary.binaries
        at = ("-h", known.host, "-p", str(known.port), "-U", known.login, "-d", "postgres")
        _run(str(binaries.tool("psql")), *at, "-XAtc", question, **binaries.environment, PGPASSWORD=known.password)


def _run(*command: str, **environment: str) -> None:
    subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True, timeout=120)


def run(rounds: int, *, airflow: bool) -> dict[str, Any]:
    """Measure both sides in turn."""
    with Home.of(PROJECT).sandbox(f"bench-sweep-{os.getpid()}") as sandbox, free_ports():
        bench = Bench(DemoSandbox(sandbox), airflow=airflow)
        bench.sweep(bench.watch.systems)  # loads the clients, as a worker has them loaded
        found: list[dict[str, Any]] = []
        for number in range(rounds):
            took, looks = bench.sweep(bench.compared)
            tools = bench.tools(looks)
            whole, seen = bench.sweep(bench.watch.systems)
            beside, read = bench.beside_checklists()
            slowest = max(seen, key=lambda look: look.seconds)
            found.append(
                {
                    "sweep": took,
                    "readings": dict(_counted(looks)),
                    "tools": tools,
                    "everything": whole,
                    "everything_readings": sum(len(look.readings) for look in seen),
                    "everything_unread": [f"{one.subject} {one.probe}" for one in seen if one.trouble is not None],
                    "slowest": f"{slowest.subject} {slowest.probe} {slowest.seconds:.2f} s",
                    "beside_checklists": beside,
                    "beside_readings": read,
                    "round": number,
                }
            )
    return {"rounds": found, "airflow": airflow}


def _counted(looks: Sequence[Look]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for look in looks:
        counted[look.system] += len(look.readings)
    return counted


def told(found: Mapping[str, Any]) -> list[str]:
    """Give the report in Markdown."""
    rounds = found["rounds"]

    def median(take: Callable[[Mapping[str, Any]], float]) -> float:
        return statistics.median(take(one) for one in rounds)

    ours = median(lambda one: one["sweep"])
    systems = list(rounds[0]["tools"])
    rows: list[tuple[object, ...]] = []
    for system in systems:
        of = rounds[0]["tools"][system]
        commands = median(lambda one, system=system: one["tools"][system]["seconds"])  # type: ignore[misc]
        numbers = median(lambda one, system=system: one["tools"][system]["by_number"])  # type: ignore[misc]
        rows.append((system, of["readings"], of["commands"], f"{commands:.2f}", f"{numbers:.1f}"))
    commands = median(lambda one: sum(of["seconds"] for of in one["tools"].values()))
    numbers = median(lambda one: sum(of["by_number"] for of in one["tools"].values()))
    rows.append(("all of these", "", "", f"**{commands:.2f}**", f"**{numbers:.1f}**"))
    rows.append(
        ("one sweep of the same", sum(rounds[0]["readings"].values()), "", f"**{ours:.2f}**", f"**{ours:.2f}**")
    )
    rows.append(("times as fast", "", "", f"{commands / ours:.1f}x", f"{numbers / ours:.0f}x"))
    alone, beside = median(lambda one: one["everything"]), median(lambda one: one["beside_checklists"])
    return [
        f"{len(rounds)} rounds in turn, medians.",
        "",
        *table(("asked", "numbers", "commands", "each command once, s", "each number by its command, s"), rows),
        "",
        (
            f"Everything that the demo's inventory has, {rounds[0]['everything_readings']} numbers: {alone:.2f} s alone, "
            f"{beside:.2f} s beside three checklists (slowest probe of the last round: {rounds[-1]['slowest']})."
        ),
    ]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-airflow", action="store_true", help="half a minute less to start, and no curl")
    asked = parser.parse_args()
    found = run(asked.rounds, airflow=not asked.without_airflow)
    keep("sweep", found, told(found))


if __name__ == "__main__":
    main()
