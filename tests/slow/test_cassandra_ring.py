"""Three nodes, three copies, three racks: back up, lose everything, restore; and restore three nodes into one."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from include.engine import lookout
from include.engine.contracts import Stop
from include.engine.errors import Unreachable
from include.engine.model import Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra import keyspaces
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.probes import open_probes
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.verbs import backup
from tests.estate import eventually
from tests.integration.cassandra.estate import TARGET, Estate, Told, detail, now, rows
from tests.integration.sweeping import Sweeping, later

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TABLES = ("user_events.user_events", "user_events.user_sessions", "spark_streams.created_users")


@pytest.fixture(scope="module")
def ring(sandbox: Sandbox) -> Iterator[CassandraServer]:
    ring = CassandraServer(sandbox, "ring", size=3).start(timeout=300)
    with ring.connect(timeout=60) as cql:
        keyspaces.create(cql, copies=3)
        keyspaces.fill(cql, events=3000, sessions=900, users=200)
    yield ring
    ring.stop()


@pytest.fixture
def cql(ring: CassandraServer) -> Iterator[Cql]:
    with ring.connect(timeout=60) as session:
        yield session


@pytest.fixture
def estate(ring: CassandraServer, object_store: ObjectStoreServer, bucket: str, tmp_path: Path) -> Estate:
    return Estate(ring, object_store, bucket, tmp_path)


def everything(cql: Cql, consistency: str) -> dict[str, list[str]]:
    return {table: rows(cql, table, consistency=consistency) for table in TABLES}


def test_three_nodes_lose_everything_twice_and_get_it_back(estate: Estate, cql: Cql) -> None:
    before = everything(cql, "ALL")
    first = estate.backup()
    assert len(detail(first).cut.nodes) == 3
    assert {entry.name.split("/")[0] for entry in first.entries if "/" in entry.name} == {
        node.host_id for node in detail(first).cut.nodes
    }
    second = estate.backup()
    assert detail(second).sent_objects == 0

    for table in TABLES:
        cql.rows(f"TRUNCATE {table}", timeout=120, consistency="ALL")
    restored = estate.restore(confirm="cassandra_admin")
    assert restored.detail["method"] == "import"
    assert restored.verdict is Verdict.PASS
    assert everything(cql, "QUORUM") == before
    assert everything(cql, "ALL") == before

    for keyspace in ("user_events", "spark_streams"):
        cql.rows(f"DROP KEYSPACE {keyspace}", timeout=120)
    assert estate.restore(confirm="cassandra_admin").verdict is Verdict.PASS
    assert everything(cql, "QUORUM") == before
    assert everything(cql, "ALL") == before


def test_snapshots_of_three_nodes_are_taken_within_half_a_second(estate: Estate) -> None:
    skews = [detail(estate.backup()).cut.skew_seconds for _ in range(3)]
    assert statistics.median(skews) < 0.5


def test_three_nodes_fit_into_one(estate: Estate, cql: Cql, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(cql, "ALL")
    estate.backup()
    single = CassandraServer(sandbox, "single").start()
    try:
        connection = msgspec.structs.replace(single.connection(), extra={})
        uri = msgspec.json.encode({"conn_type": "cassandra", **msgspec.to_builtins(connection)}).decode()
        monkeypatch.setenv("AIRFLOW_CONN_SINGLE", uri)
        restored = estate.restore("single", pipeline=estate.bare())
        assert restored.detail["method"] == "sstableloader"
        assert restored.verdict is Verdict.PASS
        with single.connect(timeout=60) as there:
            assert everything(there, "QUORUM") == before
            found = there.rows("SELECT * FROM user_events.user_events WHERE event_type = 'login'")
            assert len(found) == sum('"event_type": "login"' in row for row in before[TABLES[0]])
    finally:
        single.stop()


def test_one_node_fits_into_three(estate: Estate, cql: Cql, sandbox: Sandbox, object_store: ObjectStoreServer) -> None:
    single = CassandraServer(sandbox, "source").start()
    try:
        with single.connect() as there:
            there.rows("CREATE KEYSPACE grows WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}")
            there.rows("CREATE TABLE grows.t (k int PRIMARY KEY, v text)")
            there.many("INSERT INTO grows.t (k, v) VALUES (?, ?)", [(n, f"v{n}") for n in range(2000)])
            before = rows(there, "grows.t")
        source = Estate(single, object_store, estate.bucket, estate.directory)
        source.backup(keyspaces=["grows"])
    finally:
        single.stop()
    source.connections.known["ring"] = estate.server.connection()
    restored = source.restore("ring")
    assert restored.detail["method"] == "sstableloader"
    assert rows(cql, "grows.t", consistency="ALL") == before
    assert restored.verdict is Verdict.PASS


def test_a_node_that_is_down_fails_backup_and_restore_hinders_no_reads_and_is_seen_by_the_probes(
    estate: Estate, ring: CassandraServer, cql: Cql
) -> None:
    before = everything(cql, "ALL")
    estate.backup()
    name = estate.name()
    pipeline = estate.pipeline()
    settings = Settings.model_validate({"connection": "cassandra_main", **ring.target_settings()})
    probes = {probe.name: probe for probe in open_probes(TARGET, settings, estate.connections)}
    whole = {one.metric: one.value for one in probes["nodes"].read(now, timeout=30)}
    assert (whole["cassandra.nodes.down"], whole["cassandra.schema.versions"]) == (0, 1)
    assert {one.metric: one.value for one in probes["repairs"].read(now, timeout=30)}["cassandra.repair.never"] >= 3
    ring.nodes[2].kill()
    try:
        with pytest.raises(Unreachable, match=r"1 of 3 nodes are down.*the backup would be incomplete"):
            backup.freeze(pipeline, name, [TARGET], clock=now)
        with pytest.raises(Unreachable, match=r"1 of 3 nodes are down.*the restore would be incomplete"):
            estate.restore(confirm="cassandra_admin")
        assert everything(cql, "QUORUM") == before

        def down() -> bool:
            return any(
                one.metric == "cassandra.nodes.down" and one.value == 1 for one in probes["nodes"].read(now, timeout=30)
            )

        eventually(down, what="the probe sees that a node is down")
        nodes = {one.labels["node"] for one in probes["pools"].read(now, timeout=30)}
        assert nodes == {ring.nodes[0].address, ring.nodes[1].address}
        eventually(
            lambda: (
                {
                    one.value
                    for one in probes["jolokia"].read(now, timeout=30)
                    if one.metric == "cassandra.nodes.unreachable"
                }
                == {1}
            ),
            what="both living nodes call the third unreachable",
        )
    finally:
        ring.nodes[2].start(timeout=300)
    assert estate.restore(confirm="cassandra_admin").verdict is Verdict.PASS
    assert everything(cql, "ALL") == before


def test_a_node_that_is_down_and_what_the_others_keep_for_it_are_found_until_it_is_back(
    estate: Estate, ring: CassandraServer, cql: Cql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    settings: dict[str, object] = {
        "cassandra": {"main": {"connection": "cassandra_main", **ring.target_settings()}},
        "expect": {"cassandra": {"nodes": 3, "repair_within": "7d"}},
        "sweep": {"timeout": "60s"},
    }
    sweeping = Sweeping(tmp_path, estate.connections.known, settings)
    sweeping.tolerate("cassandra-hints", 0)
    found = {"cassandra-node", "cassandra-nodes", "cassandra-hints"}
    sweeping.until(lambda rules: not rules & found, "cassandra")
    victim = ring.nodes[2]
    victim.kill()
    try:

        def kept(rules: set[str]) -> bool:
            statement = "INSERT INTO user_events.user_sessions (user_id, session_id) VALUES (uuid(), now())"
            cql.rows(statement, consistency="QUORUM", timeout=60)
            return rules >= found

        sweeping.until(kept, "cassandra")
        assert [one.labels["node"] for one in sweeping.found("cassandra-node", "cassandra")] == [victim.address]
    finally:
        victim.start(timeout=300)
    sweeping.until(lambda rules: not rules & found, "cassandra")

    assert "cassandra-never-repaired" in sweeping.rules("cassandra")
    ring.nodes[0].nodetool("repair", "--full", "--", "user_events", timeout=300)
    assert "cassandra-repair-age" not in sweeping.rules("cassandra")
    assert "cassandra-repair-age" in sweeping.rules("cassandra", clock=later(8 * 24 * 3600))
    assert "cassandra-repair-age" not in sweeping.rules("cassandra")


def test_messages_that_a_slow_node_drops_are_found_and_forgotten_with_time(
    estate: Estate, ring: CassandraServer, cql: Cql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    settings: dict[str, object] = {
        "cassandra": {"main": {"connection": "cassandra_main", **ring.target_settings()}},
        "sweep": {"timeout": "60s"},
    }
    sweeping = Sweeping(tmp_path, estate.connections.known, settings)
    sweeping.gone("cassandra-dropped", "cassandra")
    statement = "INSERT INTO user_events.user_sessions (user_id, session_id) VALUES (uuid(), now())"
    first = next(node for node in cql.ring() if node.address == ring.nodes[0].address)
    pid = ring.nodes[2].pid
    assert pid is not None
    # Milliseconds.  The coordinator writes into each message when it expires; in the sandbox that would be after 20 seconds.
    ring.nodes[0].nodetool("settimeout", "write", "2000")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        while time.monotonic() < began + 8:  # longer than a message lasts, and the node is not yet taken for dead
            cql.rows(statement, consistency="QUORUM", at=first, timeout=60)
    finally:
        os.kill(pid, signal.SIGCONT)
        ring.nodes[0].nodetool("settimeout", "write", "20000")
    found = sweeping.awaited("cassandra-dropped", "cassandra", node=ring.nodes[2].address)
    peak = found[0].value
    assert peak is not None
    sweeping.tolerate("cassandra-dropped", peak / 2)  # the mean of five minutes is halved in three and a half
    eventually(
        lambda: not sweeping.found("cassandra-dropped", "cassandra"),
        within=420,
        what="the rate of drops falls with time",
    )


def test_a_node_that_dies_after_the_snapshot_leaves_no_backup_and_the_retry_finishes_it(
    estate: Estate, ring: CassandraServer
) -> None:
    name = estate.name()
    pipeline = estate.pipeline()
    backup.freeze(pipeline, name, [TARGET], clock=now)
    ring.nodes[1].kill()
    try:
        with pytest.raises(Unreachable):
            backup.copy(pipeline, name, TARGET, progress=Told(), stop=Stop(), clock=now)
        assert pipeline.catalog.find(TARGET, name) is None
    finally:
        ring.nodes[1].start(timeout=300)
    manifest = backup.copy(pipeline, name, TARGET, progress=Told(), stop=Stop(), clock=now)
    assert len({entry.name.split("/")[0] for entry in manifest.entries if "/" in entry.name}) == 3
    backup.release(pipeline, name, [TARGET])
