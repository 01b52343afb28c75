"""The demo's readings by one sweep, against stock command-line tools that are asked one by one.  ``python -m bench.sweep``

Both sides ask the same live PostgreSQL pair on this machine in one run: the sweep once for all, and ``psql`` once for each number
(a shell script asks so).  The tools need no installation besides PostgreSQL's own client; Airflow's and Kafka's command-line tools
start an interpreter or a JVM per question, and would make the difference larger.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from include.engine import lookout, wiring
from include.engine.cli.clock import now
from include.engine.contracts import Connection
from include.engine.health.looks import Look
from include.engine.sandbox.home import Home
from include.engine.systems.postgres import questions
from include.engine.systems.postgres.roles import BACKUP_ROLE
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.standby import StandbyServer
from include.engine.verbs import sweep

ROUNDS = 5
_INVENTORY = """
pipeline: bench
store: {{url: "file://{folder}/bucket"}}
sweep: {{hosts: {{here: {{disks: [/]}}}}}}
postgres: {{main: {{connection: pg}}}}
"""


class _Known:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> Connection:
        assert name == "pg"
        return self._connection


def main() -> None:
    with tempfile.TemporaryDirectory() as name, Home.of(wiring.PROJECT).sandbox("bench-sweep") as sandbox:
        folder = Path(name)
        os.environ[lookout.HISTORY_VARIABLE] = str(folder / "history.sqlite")
        primary = PostgresServer(sandbox, "bench").start()
        standby = StandbyServer(primary, "bench-standby").start()
        standby.wait_until_streaming()
        password = primary.create_backup_role()
        known = Connection(
            host=primary.host, port=primary.port, login=BACKUP_ROLE, password=password, schema="postgres"
        )
        path = folder / "inventory.yaml"
        path.write_text(_INVENTORY.format(folder=folder))
        watch = lookout.open_watch(wiring.load_inventory(path), _Known(known), beside=path)
        sweep.look(watch, watch.systems, clock=now)  # loads the clients, as a worker has them loaded

        ours, theirs, count = [], [], 0
        for _ in range(ROUNDS):
            began = time.perf_counter()
            looks = sweep.look(watch, ["postgres", "host"], clock=now)
            ours.append(time.perf_counter() - began)
            count = sum(len(look.readings) for look in looks)
            theirs.append(_one_by_one(primary, known, looks))
        _tell(count, statistics.median(ours), statistics.median(theirs))
        standby.stop()
        primary.stop()


def _one_by_one(primary: PostgresServer, known: Connection, looks: list[Look]) -> float:
    """Ask for each reading by a tool of its own, as a shell script does; give the seconds."""
    asked = {
        "server": questions.SERVER,
        "sessions": questions.CONNECTIONS,
        "replication": questions.STANDBYS,
        "slots": questions.SLOTS,
        "archiver": questions.ARCHIVER,
        "databases": questions.DATABASES,
        "bloat": questions.DEAD_ROWS,
        "checkpoints": questions.CHECKPOINTS,
    }
    environment = {**os.environ, **primary.binaries.environment, "PGPASSWORD": known.password}
    psql = [
        str(primary.binaries.tool("psql")),
        "-h",
        known.host,
        "-p",
        str(known.port),
        "-U",
        known.login,
        "-d",
        "postgres",
    ]
    tools = {"disks": ["df", "-k", "/"], "memory": ["free", "-b"]}
    began = time.perf_counter()
    for look in looks:
        for _ in look.readings:
            command = tools.get(look.probe) or [*psql, "-XAtc", asked[look.probe]]
            subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.perf_counter() - began


def _tell(count: int, ours: float, theirs: float) -> None:
    print(f"{count} readings, median of {ROUNDS} rounds")
    print(f"  one sweep                 {ours:8.3f} s")
    print(f"  stock tools, one by one   {theirs:8.3f} s   {theirs / ours:.1f}x")


if __name__ == "__main__":
    main()
