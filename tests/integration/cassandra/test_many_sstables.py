"""A table of thousands of small SSTables, as one that nobody compacts, is backed up and comes back."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from include.engine.contracts import Stop
from include.engine.model import DestinationKind, Verdict
from include.engine.sandbox.home import Home
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.verbs import backup
from tests.integration.cassandra.estate import TARGET, Estate, Told, now, rows
from tests.integration.cassandra.test_bad_days import data_files

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "wanted", [2000, pytest.param(9000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)  # fmt: skip
def test_thousands_of_small_sstables_are_backed_up_and_come_back_in_a_sandbox(
    estate: Estate, keyspace: str, cql: Cql, home: Home, wanted: int
) -> None:
    table = f"{keyspace}.t"
    flush_often(estate, table, cql, 100)
    then = rows(cql, table)
    written = len(data_files(estate, table))
    names = wanted // 100
    pipeline, name = estate.pipeline(keyspaces=[keyspace]), estate.name()
    cut = backup.freeze(pipeline, name, [TARGET], clock=now).cuts[str(TARGET)]
    multiply(data_files(estate, table)[0].parent / "snapshots" / str(cut.position), names - 1)
    manifest = backup.copy(pipeline, name, TARGET, progress=Told(), stop=Stop(), clock=now)
    backup.seal(pipeline, name, clock=now)
    backup.release(pipeline, name, [TARGET])
    assert sum(entry.name.endswith("-Data.db") for entry in manifest.entries) == written * names >= wanted
    cql.rows(f"DROP TABLE {table}", timeout=120)  # the node is everybody's
    restored = estate.restore(destination=DestinationKind.SANDBOX)
    sandbox = home.sandbox(str(restored.detail["sandbox"]))
    try:
        assert restored.verdict is Verdict.PASS, restored.checks
        server = CassandraServer(sandbox, "restored", jolokia=False)
        taken = list(server.nodes[0].data_directory.glob(f"{keyspace}/t-*/*-Data.db"))
        assert len(taken) == written * names
        with server.connect(timeout=60) as there:
            assert rows(there, table) == then
    finally:
        sandbox.destroy()


def flush_often(estate: Estate, table: str, cql: Cql, flushes: int) -> None:
    """Write a row, have it flushed, and so on, as often as *flushes* says at least; nothing is compacted."""
    cql.rows(
        f"CREATE TABLE {table} (k int PRIMARY KEY, v text) WITH memtable_flush_period_in_ms = 20"
        " AND compaction = {'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}"
    )
    for number in itertools.count():
        cql.rows(f"INSERT INTO {table} (k, v) VALUES ({number}, 'value {number}')")
        if number % 50 == 49 and len(data_files(estate, table)) >= flushes:
            break
        time.sleep(0.005)
    cql.rows(f"ALTER TABLE {table} WITH memtable_flush_period_in_ms = 0", timeout=60)
    estate.server.nodes[0].nodetool("flush", table.partition(".")[0])


def multiply(snapshot: Path, copies: int) -> None:
    """Give each SSTable of a snapshot further names: an SSTable does not know its own."""
    numbers = itertools.count(1)
    for data in sorted(snapshot.glob("*-Data.db")):
        version, _, format_, _ = data.name.split("-")
        components = list(snapshot.glob(f"{data.name.removesuffix('Data.db')}*"))
        for number in itertools.islice(numbers, copies):
            for path in components:
                os.link(path, snapshot / f"{version}-{number}-{format_}-{path.name.rpartition('-')[2]}")
