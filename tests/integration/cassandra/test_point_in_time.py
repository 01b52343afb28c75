"""Commit logs are shipped as they fill, walked for gaps, and replayed to the microsecond."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from include.engine.contracts import Stop
from include.engine.errors import Incomplete, Misconfigured, Unsupported
from include.engine.model import DestinationKind, Restored, Target, Verdict
from include.engine.sandbox.accounts import private_directory
from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.cassandra.archive import CommitLogArchive
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.clusters import Clusters
from include.engine.systems.cassandra.commit_logs import Newcomer, by_node, folder_of, reach_of_newcomer
from include.engine.systems.cassandra.node import CassandraNode
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.shipper import CommitLogShipper
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.verbs import upkeep
from tests.estate import eventually
from tests.integration.cassandra.estate import TARGET, Estate, Told, detail, now, rows

pytestmark = pytest.mark.integration


class Logging(Estate):
    """An estate whose node archives its commit logs."""

    def shipper(self) -> CommitLogShipper:
        pipeline = self.pipeline(nodes=self.nodes())
        settings = Settings.model_validate(
            {"connection": "cassandra_main", **self.server.target_settings(), "nodes": self.nodes()}
        )
        connection = self.connections.get("cassandra_main")
        return CommitLogShipper(TARGET, settings, connection, pipeline.catalog.bucket, Told())

    def nodes(self, directory: str | None = None) -> dict[str, dict[str, object]]:
        nodes: dict[str, dict[str, object]] = self.server.target_settings()["nodes"]
        for node in self.server.nodes:
            nodes[node.address]["commitlog_archive"] = directory or str(archive_of(node))
        return nodes

    def ship_all(self) -> None:
        """Ship until no link is left: a segment that was closed while others were shipped goes the next time."""
        shipper = self.shipper()

        def nothing_is_left() -> bool:
            shipper.ship(Stop())
            return not any(list(archive_of(node).iterdir()) for node in self.server.nodes)

        eventually(nothing_is_left, what="every link is shipped")


def archive_of(node: CassandraNode) -> Path:
    return node.directory / "archived"


def archives(server: CassandraServer) -> None:
    """Have every node of a ring that was not started yet link its finished commit logs into a directory of its own."""
    for node in server.nodes:
        private_directory(archive_of(node), owner=server.sandbox.account, mode=0o700)
    server.commitlog_archiving = "archive_command=/bin/ln %path archived/%name\n"  # it runs in the node's own directory


@pytest.fixture(scope="module")
def archiving(sandbox: Sandbox) -> Iterator[CassandraServer]:
    server = CassandraServer(sandbox, "archiving", settings={"commitlog_segment_size": "1MiB"})
    archives(server)
    with server.start().connect() as cql:
        cql.rows("CREATE KEYSPACE shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}")
        cql.rows("CREATE TABLE shop.orders (k int PRIMARY KEY, v text)")
        cql.rows("CREATE TABLE shop.later (k int PRIMARY KEY)")
        cql.rows("CREATE TABLE shop.filler (k int PRIMARY KEY, v blob)")
        cql.rows("CREATE INDEX orders_v ON shop.orders (v)")
        cql.rows(
            "CREATE MATERIALIZED VIEW shop.by_v AS SELECT * FROM shop.orders WHERE v IS NOT NULL AND k IS NOT NULL"
            " PRIMARY KEY (v, k)"
        )
    yield server
    server.stop()


@pytest.fixture
def estate(archiving: CassandraServer, object_store: ObjectStoreServer, bucket: str, tmp_path: Path) -> Logging:
    return Logging(archiving, object_store, bucket, tmp_path)


def fill_a_segment(cql: Cql) -> None:
    cql.many("INSERT INTO shop.filler (k, v) VALUES (?, ?)", [(n, b"x" * 300_000) for n in range(8)])


def test_writes_until_the_point_come_back_and_later_ones_do_not(estate: Logging, home: Home) -> None:
    shipper, stop = estate.shipper(), Stop()
    with estate.server.connect() as cql:
        cql.many("INSERT INTO shop.orders (k, v) VALUES (?, ?)", [(n, f"before {n}") for n in range(100)])
        fill_a_segment(cql)
        # The node links a segment that is full by a program of its own, a moment later.
        eventually(lambda: shipper.ship(stop), what="a segment is shipped")
        written = now() + timedelta(seconds=3)
        eventually(lambda: now() > written, what="the files' times, in whole seconds, are before the backup")
        manifest = estate.backup(keyspaces=["shop"], nodes=estate.nodes())
        earlier, first = now(), rows(cql, "shop.orders")
        cql.many("INSERT INTO shop.orders (k, v) VALUES (?, ?)", [(n, f"good {n}") for n in range(100, 150)])
        cql.rows("INSERT INTO shop.later (k) VALUES (1)")
        then = rows(cql, "shop.orders")
        point = now()
        microseconds = (point - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
        for k, moment in ((900, microseconds), (901, microseconds + 1)):
            cql.rows(f"INSERT INTO shop.orders (k, v) VALUES ({k}, 'exact') USING TIMESTAMP {moment}")
        then = sorted([*then, '{"k": 900, "v": "exact"}'])  # and not the row that was written a microsecond later
        cql.many("DELETE FROM shop.orders WHERE k = ?", [(n,) for n in range(75)])
        cql.rows("UPDATE shop.orders SET v = 'bad' WHERE k = 120")
        with pytest.raises(Incomplete, match=r"leads to .* only"):
            estate.restore(destination=DestinationKind.SANDBOX, point=point.isoformat())
        eventually(lambda: now() > point + timedelta(seconds=2), what="the next segments' times are after the point")
        fill_a_segment(cql)
        fill_a_segment(cql)

    pipeline = estate.pipeline(nodes=estate.nodes())
    archive = pipeline.lookup.archive(TARGET)
    assert archive is not None

    def reached() -> bool:
        estate.ship_all()
        return any(one.from_time < point < one.to_time for one in archive.reach([manifest]).windows)

    eventually(reached, what="the archive reaches beyond the point")
    assert len(archive.reach([manifest]).windows) == 1
    checks = upkeep.audit_archives(pipeline, clock=now)
    assert [check.verdict for check in checks] == [Verdict.PASS], checks
    ((host_id, born),) = detail(manifest).born.items()
    segments = by_node(CommitLogArchive(TARGET, pipeline.catalog.bucket).segments())[host_id]
    whole = reach_of_newcomer(Newcomer(host_id=host_id, not_before=born, born=born), segments, born)
    assert whole.segments == tuple(segments)  # archived from its first start on, as its own log and its birth agree
    with pytest.raises(Unsupported, match="as it starts"):
        estate.restore(point=point.isoformat())
    only = ["shop.orders", "shop.later"]
    with ExitStack() as left:
        restored = estate.restore(destination=DestinationKind.SANDBOX, point=point.isoformat(), only=only)
        assert {check.name: check.detail for check in restored.checks if check.verdict is not Verdict.PASS} == {}
        assert restored.recovered_to == point
        with restored_node(home, restored, left).connect() as cql:
            assert sorted(row["k"] for row in cql.rows("SELECT k FROM shop.by_v")) == [*range(150), 900]
            assert rows(cql, "shop.orders") == then
            assert rows(cql, "shop.later") == ['{"k": 1}']
            assert len(cql.rows("SELECT k FROM shop.orders WHERE v = 'good 120'")) == 1
        again = estate.restore(destination=DestinationKind.SANDBOX, point=earlier.isoformat(), only=only)
        with restored_node(home, again, left).connect() as cql:  # the first one's rows are not there
            assert rows(cql, "shop.orders") == first
            assert rows(cql, "shop.later") == []

    names = sorted(one.key for one in pipeline.catalog.bucket.list(folder_of(Target.parse(str(TARGET)))))
    pipeline.catalog.bucket.delete([names[-2]])
    (lost,) = upkeep.audit_archives(pipeline, clock=now)
    assert lost.verdict is Verdict.FAIL
    assert names[-2].split("-")[-1].partition(".")[0] in lost.detail


def restored_node(home: Home, restored: Restored, left: ExitStack) -> CassandraServer:
    """The node that a restore has left, to be destroyed in the end."""
    sandbox = home.sandbox(str(restored.detail["sandbox"]))
    left.callback(sandbox.destroy)
    server = CassandraServer(sandbox, "restored", jolokia=False)
    assert restored.address == f"{server.host}:{server.native_port}"
    return server


def test_a_keyspace_whose_writes_are_in_no_log_is_told_at_the_backup_and_refused_for_a_point(estate: Logging) -> None:
    with estate.server.connect() as cql:
        replication = "{'class': 'NetworkTopologyStrategy', 'dc1': 1}"
        cql.rows(f"CREATE KEYSPACE cache WITH replication = {replication} AND durable_writes = false")
        cql.rows("CREATE TABLE cache.pages (k int PRIMARY KEY)")
        cql.rows("INSERT INTO cache.pages (k) VALUES (1)")
        manifest = estate.backup(keyspaces=["cache", "shop"], nodes=estate.nodes())
        point = (now() + timedelta(seconds=1)).isoformat()
        assert any("cache has durable_writes = false" in note for note in manifest.notes)
        with pytest.raises(Unsupported, match="durable_writes is false for cache") as told:
            estate.restore(destination=DestinationKind.SANDBOX, point=point)
        assert "--only shop" in told.value.hint
        with pytest.raises(Incomplete, match="commit log of node"):  # the rest is a matter of what was archived
            estate.restore(destination=DestinationKind.SANDBOX, point=point, only=["shop"])
        named = {check.name.rpartition(" ")[2] for check in upkeep.audit_archives(estate.pipeline(), clock=now)}
        assert "cache" in named
        cql.rows("ALTER KEYSPACE cache WITH durable_writes = true")
        later = estate.backup(keyspaces=["cache", "shop"], nodes=estate.nodes())
        assert later.notes == ()
        cql.rows("DROP KEYSPACE cache", timeout=60)


def test_a_ring_says_who_belongs_to_it_and_since_when_and_says_the_same_after_a_restart(estate: Logging) -> None:
    manifest = estate.backup(keyspaces=["shop"], nodes=estate.nodes())
    known = detail(manifest)
    settings = Settings.model_validate({"connection": "cassandra_main", **estate.server.target_settings()})
    clusters = Clusters(TARGET, estate.connections, {TARGET: settings})
    assert clusters.born_now(known) == known.born
    estate.server.restart()
    assert clusters.born_now(known) == known.born != {}
    (node,) = known.cut.nodes
    elsewhere = msgspec.structs.replace(known.cut, nodes=(msgspec.structs.replace(node, host_id="another"),))
    assert clusters.born_now(msgspec.structs.replace(known, cut=elsewhere)) == {}


def test_a_directory_that_is_not_there_is_told(estate: Logging) -> None:
    settings = Settings.model_validate(
        {"connection": "c", **estate.server.target_settings(), "nodes": estate.nodes("/nowhere")}
    )
    bucket = estate.bare().catalog.bucket
    shipper = CommitLogShipper(TARGET, settings, estate.connections.get("cassandra_main"), bucket, Told())
    with pytest.raises(Misconfigured, match="has no directory /nowhere"):
        shipper.ship(Stop())
