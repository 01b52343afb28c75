"""What a backup says of its nodes and notices of their files, compared with what the nodes say themselves."""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from include.engine.errors import Incomplete
from include.engine.model import DestinationKind, Manifest, Verdict
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.cut import cut_of
from include.engine.verbs import backup
from tests.integration.cassandra.estate import TARGET, Estate, detail, flushed_table, now, rows
from tests.integration.cassandra.shells import job

pytestmark = pytest.mark.integration


@pytest.fixture
def table(keyspace: str, cql: Cql, estate: Estate) -> str:
    return flushed_table(estate, keyspace, cql)


def test_the_manifest_has_the_host_id_the_rack_and_the_tokens_that_the_node_tells(estate: Estate, table: str) -> None:
    (node,) = detail(estate.backup(keyspaces=[table.partition(".")[0]])).cut.nodes
    told = re.findall(r"^(\S[^:]*?) *: (\S.*?) *$", estate.server.nodes[0].nodetool("info", "-T"), re.MULTILINE)
    known = dict(told)
    assert (node.host_id, node.datacenter, node.rack) == (known["ID"], known["Data Center"], known["Rack"])
    assert set(node.tokens) == {value for name, value in told if name == "Token"} != set()
    assert node.address == estate.server.nodes[0].address


def test_a_snapshot_that_nobody_clears_vanishes_by_itself(estate: Estate, table: str, cql: Cql) -> None:
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]], snapshot_ttl="13h")
    name, before = estate.name(), now()
    cut = backup.freeze(pipeline, name, [TARGET], clock=now).cuts[str(TARGET)]
    after = now()
    try:
        found = [row for row in cql.rows("SELECT * FROM system_views.snapshots") if row["name"] == cut.position]
        ends = {row["expires_at"].replace(tzinfo=UTC) - timedelta(hours=13) for row in found}
        assert ends
        second = timedelta(seconds=1)
        assert all(before - second <= end <= after + second for end in ends)
    finally:
        backup.release(pipeline, name, [TARGET])


def test_a_node_that_left_the_ring_after_the_snapshot_makes_the_backup_incomplete(estate: Estate, table: str) -> None:
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]])
    name = estate.name()
    cut = backup.freeze(pipeline, name, [TARGET], clock=now).cuts[str(TARGET)]
    try:
        taken = cut_of(cut)
        (node,) = taken.nodes
        gone = msgspec.structs.replace(node, host_id=str(uuid.uuid4()), address="127.0.0.9")
        then = msgspec.structs.replace(taken, nodes=(node, gone))
        work = msgspec.structs.replace(
            job(pipeline.catalog.bucket), cut=msgspec.structs.replace(cut, detail=msgspec.to_builtins(then))
        )
        with pytest.raises(Incomplete, match=r"127\.0\.0\.9 left the ring after the snapshot") as told:
            pipeline.lookup.source(TARGET).copy(work)
        assert "run a new backup" in told.value.hint
        assert not estate.objects()
    finally:
        backup.release(pipeline, name, [TARGET])


def test_a_file_that_the_node_writes_again_under_its_name_is_sent_anew_and_both_come_back(
    estate: Estate, table: str, cql: Cql, tmp_path: Path
) -> None:
    keyspace = table.partition(".")[0]

    def digests(manifest: Manifest) -> dict[str, str]:
        return {entry.name: entry.sha256 for entry in manifest.entries}

    first = estate.backup(keyspaces=[keyspace])
    estate.server.nodes[0].nodetool("sstablerepairedset", "--really-set", "--is-repaired", keyspace, "t")
    second = estate.backup(keyspaces=[keyspace])
    assert digests(first).keys() == digests(second).keys()
    written = {name for name, sha256 in digests(second).items() if digests(first)[name] != sha256}
    assert {name.rpartition("-")[2] for name in written} == {"Statistics.db"}
    assert detail(second).sent_objects == len(written)
    for manifest in (first, second):
        copy = f"{keyspace}_{manifest.id[-3:].lower()}"
        try:
            restored = estate.restore(backup=manifest.id, rename={keyspace: copy})
            assert restored.verdict is Verdict.PASS, restored.checks
            assert rows(cql, f"{copy}.t") == rows(cql, table)
        finally:
            cql.rows(f"DROP KEYSPACE IF EXISTS {copy}", timeout=60)
    estate.restore("", backup=second.id, destination=DestinationKind.DIRECTORY, path=str(tmp_path / "files"))
    fetched = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "files").rglob("*-Statistics.db")}
    assert fetched == {entry.sha256 for entry in second.entries if entry.name in written}


def test_functions_and_aggregates_come_back_and_work(estate: Estate, keyspace: str, cql: Cql) -> None:
    cql.rows(
        f"CREATE FUNCTION {keyspace}.plus(a int, b int) CALLED ON NULL INPUT RETURNS int LANGUAGE java"
        " AS $$ return (a == null ? 0 : a) + (b == null ? 0 : b); $$"
    )
    cql.rows(f"CREATE AGGREGATE {keyspace}.total(int) SFUNC plus STYPE int INITCOND 0")
    cql.rows(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")
    cql.many(f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)", [(n, n) for n in range(1, 11)])
    estate.backup(keyspaces=[keyspace])
    copy = f"{keyspace}_x"
    try:
        restored = estate.restore(rename={keyspace: copy})
        assert restored.verdict is Verdict.PASS, restored.checks
        (row,) = cql.rows(f"SELECT {copy}.total(v) AS sum, {copy}.plus(40, 2) AS two FROM {copy}.t")
        assert (row["sum"], row["two"]) == (55, 42)
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {copy}", timeout=60)


def test_parts_of_a_collection_and_of_a_type_that_expire_on_their_own_are_expected_until_then(
    estate: Estate, keyspace: str, cql: Cql
) -> None:
    cql.rows(f"CREATE TYPE {keyspace}.place (street text, number int)")
    for name, column in (("maps", "map<text, text>"), ("lists", "list<int>"), ("types", "place")):
        cql.rows(f"CREATE TABLE {keyspace}.{name} (k int PRIMARY KEY, v text, c {column})")
        cql.rows(f"INSERT INTO {keyspace}.{name} (k, v) VALUES (1, 'stays')")
    cql.rows(f"CREATE TABLE {keyspace}.lasting (k int PRIMARY KEY, c set<int>)")
    cql.rows(f"INSERT INTO {keyspace}.lasting (k, c) VALUES (1, {{1, 2}})")
    cql.rows(f"UPDATE {keyspace}.maps SET c = c + {{'a': 'stays'}} WHERE k = 1")
    cql.rows(f"UPDATE {keyspace}.maps USING TTL 900 SET c = c + {{'b': 'goes'}} WHERE k = 1")
    cql.rows(f"UPDATE {keyspace}.lists USING TTL 900 SET c = c + [7] WHERE k = 1")
    cql.rows(f"UPDATE {keyspace}.types USING TTL 900 SET c.street = 'goes' WHERE k = 1")
    manifest = estate.backup(keyspaces=[keyspace])
    after = now()
    assert {sample["table"]: sample["unread"] for sample in manifest.samples if sample["unread"]} == {}
    ends = {one["table"]: one["expires"] for sample in manifest.samples for one in sample["ranges"]}
    assert ends.pop("lasting") is None
    assert len(ends) == 3
    for end in ends.values():
        assert after + timedelta(seconds=600) < msgspec.convert(end, datetime) <= after + timedelta(seconds=900)
