"""Three nodes archive their commit logs, and one node of ours replays all of them to a point in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from include.engine.errors import Incomplete
from include.engine.model import DestinationKind, Verdict
from include.engine.sandbox.accounts import own, private_directory
from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.cassandra.archive import CommitLogArchive
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.commit_logs import by_node
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.verbs import upkeep
from tests.estate import eventually
from tests.integration.cassandra.estate import TARGET, now, rows
from tests.integration.cassandra.test_point_in_time import Logging, archive_of, archives, fill_a_segment, restored_node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def ring(sandbox: Sandbox) -> Iterator[CassandraServer]:
    """A ring whose nodes number their segments alike, as nodes may that were started at the same moment."""
    ring = CassandraServer(sandbox, "logging-ring", size=3, settings={"commitlog_segment_size": "1MiB"})
    archives(ring)
    # A server begins to count at the time of its start, or behind the last segment that is there, if that is later.
    last = f"CommitLog-7-{int((time.time() + 60) * 1000)}.log"
    for node in ring.nodes:
        logs = private_directory(node.directory / "commitlog", owner=sandbox.account, mode=0o700)
        (logs / last).touch()
        own(logs / last, sandbox.account, mode=0o600)
    with ring.start(timeout=300).connect(timeout=60) as cql:
        cql.rows("CREATE KEYSPACE shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}")
        cql.rows("CREATE TABLE shop.orders (k int PRIMARY KEY, v text)")
        cql.rows("CREATE TABLE shop.sold (k int PRIMARY KEY, n counter)")
        cql.rows("CREATE TABLE shop.filler (k int PRIMARY KEY, v blob)")
    for node in ring.nodes:
        (archive_of(node) / last).unlink(missing_ok=True)  # nothing is in it
    yield ring
    ring.stop()


def test_writes_on_three_nodes_come_back_as_of_a_point(
    ring: CassandraServer, object_store: ObjectStoreServer, bucket: str, tmp_path: Path, home: Home
) -> None:
    estate = Logging(ring, object_store, bucket, tmp_path)
    with ring.connect(timeout=60) as cql:
        write(cql, range(100), "before")
        fill_a_segment(cql)
        estate.ship_all()
        written = now() + timedelta(seconds=3)
        eventually(lambda: now() > written, what="the files' times, in whole seconds, are before the backup")
        manifest = estate.backup(keyspaces=["shop"], nodes=estate.nodes())
        write(cql, range(100, 200), "good")
        then, sold = rows(cql, "shop.orders", consistency="ALL"), rows(cql, "shop.sold", consistency="ALL")
        point = now()
        write(cql, range(150, 250), "bad")
        cql.many("DELETE FROM shop.orders WHERE k = ?", [(n,) for n in range(75)])
        with pytest.raises(Incomplete, match=r"leads to .* only"):
            estate.restore(destination=DestinationKind.SANDBOX, point=point.isoformat())
        eventually(lambda: now() > point + timedelta(seconds=2), what="the next segments' times are after the point")
        fill_a_segment(cql)
        fill_a_segment(cql)
    estate.ship_all()
    pipeline = estate.pipeline(nodes=estate.nodes())
    assert [check.verdict for check in upkeep.audit_archives(pipeline, clock=now)] == [Verdict.PASS] * 3
    archive = CommitLogArchive(TARGET, pipeline.catalog.bucket)
    assert archive.reach([manifest]).missing == ()
    segments = by_node(archive.segments())
    assert len(segments) == 3
    assert set.intersection(*({one.name for one in some} for some in segments.values()))
    newest = max(one.number for some in segments.values() for one in some)
    eventually(lambda: time.time() * 1000 > newest, within=120, what="a node that starts now counts from later on")
    with ExitStack() as left:
        restored = estate.restore(
            destination=DestinationKind.SANDBOX, point=point.isoformat(), only=["shop.orders", "shop.sold"]
        )
        with restored_node(home, restored, left).connect(timeout=60) as cql:
            assert rows(cql, "shop.orders") == then
            assert rows(cql, "shop.sold") == sold
    assert {check.name: check.detail for check in restored.checks if check.verdict is not Verdict.PASS} == {}


def write(cql: Cql, keys: range, word: str) -> None:
    """Write rows, and count each key once more."""
    cql.many("INSERT INTO shop.orders (k, v) VALUES (?, ?)", [(n, f"{word} {n}") for n in keys])
    cql.many("UPDATE shop.sold SET n = n + 1 WHERE k = ?", [(n,) for n in keys])
