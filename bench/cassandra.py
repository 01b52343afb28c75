"""Cassandra: Mainstay beside cassandra-medusa 0.31.0, on the same node and the same store, in turn.

First backup, a second of unchanged data, a third after a tenth of new rows, and a restore of the third; with few large SSTables
and with many small ones. Either side is the command that a person types, from its start to its end; neither backup reads back
what it stored. Requests are counted in a round of their own, which is not timed, by a proxy before the store. Medusa runs in an
environment of its own (it cannot share one with Airflow). ``python -m bench.cassandra --help`` lists the options.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import Figures, run
from include.engine.model import Verdict
from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.faults import Wire

PROJECT = Path(__file__).resolve().parent.parent
MEDUSA = "cassandra-medusa==0.31.0"
ROW = 1024  # bytes of each row that do not compress
SHAPES = (("few large", 1, 1), ("many small", 20, 10))  # tables, flushes
LOADED = """
import include.engine.cli.app, include.engine.cli.backup, include.engine.cli.restore
import include.engine.inventory, include.engine.verbs.backup, include.engine.verbs.restore, rich.table, boto3
from include.engine.systems.cassandra import ahead, backup, client, landing, restore
client.load_driver()
"""
STEPS = ("first", "unchanged", "a tenth more", "restore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000, help="rows of 1 KiB")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of the backup of unchanged data, in turn; the median counts"
    )
    parser.add_argument("--out", type=Path, default=PROJECT / "bench" / "results")
    options = parser.parse_args()
    shapes = []
    for name, tables, flushes in SHAPES:
        with Home.of(PROJECT).sandbox(f"bench-{os.getpid()}-{tables}") as sandbox:
            shapes.append({"shape": name, **Bench(sandbox, options, tables, flushes).measure()})
    report = {
        "at": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "cassandra": "5.0.9",
        "medusa": MEDUSA,
        "rows": options.rows,
        "shapes": shapes,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cassandra.json").write_text(json.dumps(report, indent=2) + "\n")
    (options.out / "cassandra.md").write_text(_table(report))
    print(_table(report))


class Bench:
    """One node, one store, and both sides.

    :param tables: over which the rows are spread
    :param flushes: in so many steps they are written; each makes an SSTable of each table
    """

    def __init__(self, sandbox: Sandbox, options: argparse.Namespace, tables: int, flushes: int) -> None:
        self.rows = options.rows
        self.rounds = options.rounds
        self.tables = [f"bench.rows_{n}" for n in range(tables)]
        self.flushes = flushes
        self.scratch = sandbox.directory("scratch")
        self.sandbox = sandbox
        self.server = CassandraServer(sandbox, "bench").start()
        self.store = ObjectStoreServer(sandbox, "bench").start()
        for name in ("mainstay", "medusa"):
            self.store.create_bucket(f"bench-{name}")
        self.medusa = _medusa(Path.home() / ".cache" / "mainstay" / "bench")
        self.endpoint = self.store.host, self.store.port
        self.settings = self._write_settings()
        self.found: dict[str, dict[str, Any]] = {"mainstay": {}, "medusa": {}}
        # pip has written Medusa's byte code; this has ours written, which nobody's first command of the day has to do.
        run([sys.executable, "-P", "-c", LOADED], servers=[], env=self._environment(), cwd=PROJECT)

    def measure(self) -> dict[str, Any]:
        self._fill(self.rows, 0)
        self._backups("first")
        sstables = len(list(self.server.nodes[0].data_directory.glob("bench/*/*-Data.db")))
        for number in range(self.rounds):
            self._backups("unchanged", number)
        self._count_requests()
        self._fill(self.rows // 10, 1)
        self._backups("a tenth more")
        self._restores()
        return {"object_store": self.store.implementation, "sstables": sstables, "sides": self.found}

    def _backups(self, step: str, number: int = 0) -> None:
        sides: list[tuple[str, Callable[[], Figures]]] = [
            ("mainstay", self._take),
            ("medusa", lambda: self._medusa_take(f"{step} {number}" if step == "unchanged" else step)),
        ]
        for name, work in sides if step != "unchanged" or number % 2 else reversed(sides):
            before = self._objects(name)
            figures = work()
            after = self._objects(name)
            new = {key: size for key, size in after.items() if key not in before}
            rounds = [*self.found[name].get(step, {}).get("rounds", []), [figures.wall, figures.client_cpu]]
            self.found[name][step] = {
                "wall": round(statistics.median(wall for wall, _ in rounds), 2),
                "cpu": round(statistics.median(cpu for _, cpu in rounds), 2),
                "rounds": [[round(value, 2) for value in one] for one in rounds],
                "new_objects": len(new),
                "new_bytes": sum(new.values()),
            }
            print(f"{step}: {name}: {self.found[name][step]}", file=sys.stderr)

    def _count_requests(self) -> None:
        """Back up what is unchanged once more, through a proxy that counts what is asked of the store."""
        for name, work in (("mainstay", self._take), ("medusa", lambda: self._medusa_take("unchanged counted"))):
            with Wire(self.store.host, self.store.port) as wire:
                self.endpoint = self.store.host, wire.port
                self.settings = self._write_settings()
                work()
                self.found[name]["unchanged"]["requests"] = len(wire.requests)
        self.endpoint = self.store.host, self.store.port
        self.settings = self._write_settings()

    def _take(self) -> Figures:
        time.sleep(1)  # backups are named after seconds
        # A set that was not read back is unverified, and the command says so; the other side reads nothing back either.
        return self._mainstay("backup", "cassandra/bench", "--no-verify", good=Verdict.UNVERIFIED.exit_code)

    def _mainstay(self, *arguments: str, good: int = 0) -> Figures:
        command = [sys.executable, "-P", "-m", "include.engine.cli", *arguments]
        return run(command, servers=[], env=self._environment(), cwd=PROJECT, good=good)

    def _medusa_take(self, step: str) -> Figures:
        name = step.replace(" ", "-")
        return self._run_medusa("backup-node", "--backup-name", name, "--mode", "differential")

    def _restores(self) -> None:
        wanted = self._count()
        self._empty()
        figures = self._mainstay(
            *("restore", "cassandra/bench", "--server", "bench_cassandra", "--confirm", "bench_cassandra"),
            *("--reason", "measured side by side", "--yes"),
        )
        self._note("mainstay", figures, wanted)
        self._empty()
        try:
            figures = self._run_medusa("restore-node", "--in-place", "--backup-name", "a-tenth-more")
            self.server.start()
            self._note("medusa", figures, wanted)
        except subprocess.CalledProcessError as error:
            self.server.start()
            self.found["medusa"]["restore"] = {"failed": str(error.output).strip()}

    def _empty(self) -> None:
        with self.server.connect(timeout=120) as cql:
            for table in self.tables:
                cql.rows(f"TRUNCATE {table}", timeout=120)

    def _note(self, name: str, figures: Figures, wanted: int) -> None:
        rows = self._count()
        if rows != wanted:
            raise SystemExit(f"{name} restored {rows} rows of {wanted}")
        self.found[name]["restore"] = {
            "wall": round(figures.wall, 2),
            "cpu": round(figures.client_cpu, 2),
            "rows": rows,
        }
        print(f"restore: {name}: {self.found[name]['restore']}", file=sys.stderr)

    def _count(self) -> int:
        with self.server.connect(timeout=120) as cql:
            counts = [cql.rows(f"SELECT count(*) AS n FROM {table}", timeout=120)[0]["n"] for table in self.tables]
        return sum(map(int, counts))

    def _run_medusa(self, *arguments: str) -> Figures:
        try:
            return run([self.medusa, "--config-file", self.settings, *arguments], servers=[], env={"LC_ALL": "C.UTF-8"})
        except subprocess.CalledProcessError as error:
            print(error.output, file=sys.stderr)
            raise

    def _objects(self, name: str) -> dict[str, int]:
        pages = self.store.client().get_paginator("list_objects_v2").paginate(Bucket=f"bench-{name}")
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def _fill(self, count: int, seed: int) -> None:
        dice = random.Random(seed)
        with self.server.connect(timeout=120) as cql:
            copies = "{'class': 'NetworkTopologyStrategy', 'dc1': 1}"
            cql.rows(f"CREATE KEYSPACE IF NOT EXISTS bench WITH replication = {copies}")
            for table in self.tables:  # without compaction: as many SSTables as were flushed
                compaction = "{'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}"
                cql.rows(
                    f"CREATE TABLE IF NOT EXISTS {table} (id uuid PRIMARY KEY, v blob) WITH compaction = {compaction}"
                )
            steps = self.flushes if seed == 0 else 1
            for _ in range(steps):
                for table in self.tables:
                    for start in range(0, count // len(self.tables) // steps, 5000):
                        left = min(5000, count // len(self.tables) // steps - start)
                        rows = [
                            (uuid.UUID(int=dice.getrandbits(128), version=4), dice.randbytes(ROW)) for _ in range(left)
                        ]
                        cql.many(f"INSERT INTO {table} (id, v) VALUES (?, ?)", rows)
                self.server.nodes[0].nodetool("flush", "bench")

    def _environment(self) -> dict[str, str]:
        inventory = self.scratch / "inventory.yaml"
        inventory.write_text(
            json.dumps(
                {
                    "pipeline": "bench",
                    "store": {"url": "s3://bench-mainstay/p", "connection": "bench_store"},
                    "cassandra": {"bench": {"connection": "bench_cassandra", **self.server.target_settings()}},
                }
            )
        )
        store = {
            "login": self.store.access_key,
            "password": self.store.secret_key,
            "extra": {"endpoint_url": "http://{}:{}".format(*self.endpoint)},
        }
        connection = self.server.connection()
        cassandra = {name: getattr(connection, name) for name in ("host", "port", "login", "password", "extra")}
        return {
            "PYTHONPATH": str(PROJECT),
            "MAINSTAY_INVENTORY": str(inventory),
            "AIRFLOW_CONN_BENCH_STORE": json.dumps(store),
            "AIRFLOW_CONN_BENCH_CASSANDRA": json.dumps(cassandra),
        }

    def _write_settings(self) -> Path:
        node, connection = self.server.nodes[0], self.server.connection()
        keys = self.scratch / "keys"
        keys.write_text(
            f"[default]\naws_access_key_id = {self.store.access_key}\naws_secret_access_key = {self.store.secret_key}\n"
        )
        nodetool = self.scratch / "nodetool"
        # Medusa puts a Java option before the command, which Cassandra's own script takes and its class does not.
        nodetool.write_text(f'#!/bin/sh\ncase "$1" in -D*) shift ;; esac\nexec {node.nodetool_path} "$@"\n')
        control = f"{sys.executable} -m bench.cassandra_node {self.sandbox.name}"
        for verb in ("start", "stop"):
            script = self.scratch / verb
            script.write_text(f"#!/bin/sh\ncd {PROJECT} && PYTHONPATH={PROJECT} exec {control} {verb}\n")
            script.chmod(0o755)
        nodetool.chmod(0o755)
        settings = self.scratch / "medusa.ini"
        settings.write_text(
            f"[cassandra]\nstop_cmd = {self.scratch}/stop\nstart_cmd = {self.scratch}/start\n"
            f"config_file = {node.directory}/conf/cassandra.yaml\ncql_username = {connection.login}\n"
            f"cql_password = {connection.password}\nnodetool_executable = {nodetool}\nresolve_ip_addresses = False\n"
            "use_sudo = False\ncheck_running = nodetool version\n"
            f"[storage]\nstorage_provider = s3_compatible\nbucket_name = bench-medusa\nkey_file = {keys}\n"
            f"host = {self.endpoint[0]}\nport = {self.endpoint[1]}\nsecure = False\ns3_addressing_style = path\n"
            f"region = us-east-1\nfqdn = {node.address}\nprefix = bench\nconcurrent_transfers = 4\nuse_sudo_for_restore = False\n"
            "[monitoring]\nmonitoring_provider = None\n[ssh]\n[checks]\n[logging]\nenabled = 0\n[grpc]\nenabled = 0\n"
            "[kubernetes]\nenabled = 0\n"
        )
        return settings


def _medusa(top: Path) -> Path:
    program = top / "medusa-0.31.0" / "bin" / "medusa"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(program.parents[1])], check=True)
        subprocess.run([str(program.parent / "pip"), "install", "-q", MEDUSA], check=True)
    return program


def _table(report: dict[str, Any]) -> str:
    what = f"{report['rows']} rows of 1 KiB that do not compress, one node of Cassandra {report['cassandra']}"
    lines = [f"{what}, {report['machine']}, {report['at']}."]
    for shape in report["shapes"]:
        lines += [
            "",
            f"{shape['shape'].capitalize()}: {shape['sstables']} SSTables, {shape['object_store']}.",
            "",
            "| step | Mainstay | Medusa | wall ratio |",
            "| --- | --- | --- | --- |",
        ]
        for step in STEPS:
            ours, theirs = shape["sides"]["mainstay"][step], shape["sides"]["medusa"][step]
            ratio = f"{ours['wall'] / theirs['wall']:.2f}" if "wall" in theirs else "-"
            lines.append(f"| {step} | {_told(ours)} | {_told(theirs)} | {ratio} |")
    return "\n".join(
        [*lines, "", "CPU is of the client and its children; what nodes' own processes spend is not in it.", ""]
    )


def _told(figures: dict[str, Any]) -> str:
    if "failed" in figures:
        return f"failed: {figures['failed'].splitlines()[-1]}"
    objects = (
        f", {figures['new_objects']} new objects, {figures['new_bytes'] / 1e6:.1f} MB"
        if "new_objects" in figures
        else ""
    )
    requests = f", {figures['requests']} requests" if "requests" in figures else ""
    return f"{figures['wall']:.2f} s, {figures['cpu']:.2f} CPU s{objects}{requests}"


if __name__ == "__main__":
    main()
