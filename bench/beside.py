"""What benches share that hold Mainstay beside other tools: a store, what a command of ours needs, the rounds, the report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.object_store.server import ObjectStoreServer

PROJECT = Path(__file__).resolve().parent.parent


class Bench(Protocol):
    """One bench, with its servers running."""

    def fill(self) -> None: ...
    def round(self, number: int) -> None: ...
    def report(self) -> dict[str, Any]: ...


class Place:
    """A scratch directory and an object store with a bucket ``bench``."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.scratch = sandbox.directory("scratch")
        self.store = ObjectStoreServer(sandbox, "bench").start()
        self.store.create_bucket("bench")

    def pids(self, *labels: str) -> list[int]:
        """Give the processes of these servers."""
        return [record.identity.pid for record in self.sandbox.running() if record.name in labels]

    def inventory(self, url: str, system: str, settings: str) -> Path:
        """Write an inventory of one target, ``<system>/bench``, whose backups go to *url*."""
        path = self.scratch / "inventory.yaml"
        path.write_text(
            f"version: 1\npipeline: bench\nstore: {{url: {url}, connection: bench_store}}\n"
            f"{system}:\n  bench: {{{settings}}}\n"
        )
        return path

    def environment(self, **connections: Mapping[str, Any]) -> dict[str, str]:
        """Give what a command of ours needs to find the store and *connections*, by their names."""
        store = {
            "login": self.store.access_key,
            "password": self.store.secret_key,
            "extra": {"endpoint_url": self.store.endpoint},
        }
        known = {"bench_store": store, **connections}
        return {"PYTHONPATH": str(PROJECT)} | {
            f"AIRFLOW_CONN_{name.upper()}": json.dumps(one) for name, one in known.items()
        }


def run_rounds(
    name: str, options: argparse.Namespace, begin: Callable[[Sandbox], Bench], table: Callable[[dict[str, Any]], str]
) -> None:
    """Run a bench in a sandbox of its own, and leave its report as JSON and as a table in ``options.out``."""
    with Home.of(PROJECT).sandbox(f"bench-{name}-{os.getpid()}") as sandbox:
        bench = begin(sandbox)
        bench.fill()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            bench.round(number)
        report = {"at": datetime.now(UTC).replace(microsecond=0).isoformat(), "machine": _machine(), **bench.report()}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    (options.out / f"{name}.md").write_text(table(report))
    print(table(report))


def _machine() -> str:
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {system}, Python {platform.python_version()}"
