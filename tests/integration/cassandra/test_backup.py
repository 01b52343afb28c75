"""A backup of a live node: what it holds, what it sends, and what it refuses to call a backup."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from include.engine.contracts import Stop
from include.engine.model import Manifest, Verdict, Verification
from include.engine.systems.cassandra import control, stillness
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.ranges import Sampler
from include.engine.verbs import verify
from tests.faults import Wire
from tests.integration.cassandra.estate import Estate, Told, detail, make_table, now, rows

pytestmark = pytest.mark.integration


def test_a_backup_holds_all_keyspaces_and_every_object_is_named_after_its_digest(estate: Estate) -> None:
    manifest = estate.backup()
    tables = {entry.name.split("/")[1] for entry in manifest.entries if "/" in entry.name}
    assert {"user_events", "spark_streams"} <= tables
    assert all(entry.key.endswith(entry.sha256) for entry in manifest.entries)
    assert {f"p/{entry.key}" for entry in manifest.entries} == set(estate.objects())
    assert estate.told.bytes == detail(manifest).sent_bytes


def test_a_second_backup_of_unchanged_data_sends_nothing_and_reads_nothing_back(estate: Estate, wire: Wire) -> None:
    def taken() -> tuple[Manifest, Verification, list[bytes]]:
        """The backup, its verification as at the end of every run, and what was asked of the store for objects."""
        wire.requests.clear()
        manifest = estate.backup(keyspaces=["user_events", "spark_streams"])
        (proof,) = verify.verify_parts(
            estate.pipeline(), manifest.id, progress=Told(), stop=Stop(), clock=now, trust=verify.LATELY
        )
        return manifest, proof, [request for request in wire.requests if b"/objects/" in request]

    first, read, asked = taken()
    assert detail(first).sent_objects > 0
    assert read.bytes == first.bytes
    assert len([request for request in asked if request.startswith(b"GET")]) >= read.objects
    second, read, asked = taken()
    assert (detail(second).sent_objects, detail(second).sent_bytes) == (0, 0)
    assert detail(second).hashed_bytes < detail(first).hashed_bytes / 4
    assert {e.key for e in second.entries} == {e.key for e in first.entries}
    assert (read.verdict, read.objects, read.bytes) == (Verdict.PASS, 0, 0)
    assert read.trusted_bytes == first.bytes
    assert asked == []


def test_no_snapshot_is_left_on_the_node(estate: Estate, cql: Cql) -> None:
    manifest = estate.backup()
    assert manifest.cut.position not in {row["name"] for row in cql.rows("SELECT name FROM system_views.snapshots")}


def test_tables_that_stood_still_are_read_once_and_others_twice(
    estate: Estate, keyspace: str, cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stillness, "_SETTLED", 1)
    for n in range(5):
        make_table(cql, f"{keyspace}.t{n}", count=30)
    estate.backup(keyspaces=[keyspace])  # what is in memory goes to files
    time.sleep(2)
    read: list[str] = []
    again = Sampler.read

    def counting(self: Sampler, keyspace: str, table: str, *where: Any) -> tuple[int, str]:
        read.append(table)
        return again(self, keyspace, table, *where)

    monkeypatch.setattr(Sampler, "read", counting)
    cql.rows(f"INSERT INTO {keyspace}.t2 (k, v) VALUES (1000, 0x00)")
    take = control.Jolokia.snapshot

    def busy(self: control.Jolokia, tag: str, keyspaces: list[str], ttl: timedelta) -> None:
        cql.rows(f"INSERT INTO {keyspaces[0]}.t3 (k, v) VALUES (1000, 0x00)")  # after the first reading
        take(self, tag, keyspaces, ttl)

    monkeypatch.setattr(control.Jolokia, "snapshot", busy)
    manifest = estate.backup(keyspaces=[keyspace])
    assert sorted(read) == ["t2", "t3"]
    restless = {sample["table"] for sample in manifest.samples if sample["restless"]}
    assert restless == {"t3"}
    monkeypatch.setattr(Sampler, "read", again)
    try:
        restored = estate.restore(rename={keyspace: f"{keyspace}_x"})
        verdicts = {check.name[-2:]: check.verdict for check in restored.checks if check.name.startswith("rows of")}
        assert verdicts.pop("t3") is Verdict.UNVERIFIED
        assert set(verdicts.values()) == {Verdict.PASS}
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


def test_odd_tables_are_sampled_and_come_back(estate: Estate, keyspace: str, cql: Cql) -> None:
    cql.rows(f'CREATE TABLE {keyspace}.percent ("50%" int PRIMARY KEY, "%s" text)')
    cql.rows(f'INSERT INTO {keyspace}.percent ("50%", "%s") VALUES (1, \'%d, "mainstay_token": 7}}\')')
    cql.rows(f"CREATE TABLE {keyspace}.statics (k int, c int, s text STATIC, v map<int, text>, PRIMARY KEY (k, c))")
    cql.rows(f"INSERT INTO {keyspace}.statics (k, s) VALUES (1, 'goes') USING TTL 900")
    cql.rows(f"INSERT INTO {keyspace}.statics (k, c, v) VALUES (1, 1, {{1: 'stays'}})")
    cql.rows(f"CREATE TABLE {keyspace}.counters (k int PRIMARY KEY, n counter)")
    cql.rows(f"UPDATE {keyspace}.counters SET n = n + 3 WHERE k = 1")
    manifest = estate.backup(keyspaces=[keyspace])
    samples = {sample["table"]: sample for sample in manifest.samples}
    assert {name: sample["unread"] for name, sample in samples.items()} == dict.fromkeys(samples, "")
    assert all(one["expires"] for one in samples["statics"]["ranges"])  # a value of the partition expires as well
    try:
        restored = estate.restore(rename={keyspace: f"{keyspace}_x"})
        assert {check.name: check.detail for check in restored.checks if check.verdict is not Verdict.PASS} == {}
        for name in samples:
            assert rows(cql, f"{keyspace}_x.{name}") == rows(cql, f"{keyspace}.{name}")
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("k int PRIMARY KEY, v text", "(k, v) VALUES (1, 'x')"),
        ("k int, c int, PRIMARY KEY (k, c)", "(k, c) VALUES (1, 1)"),
        ("k int, c int, v int, PRIMARY KEY (k, c)", "(k, c, v) VALUES (1, 1, 1)"),
    ],
    ids=["static", "key alone", "dense"],
)
def test_tables_with_compact_storage_are_sampled(
    estate: Estate, keyspace: str, cql: Cql, columns: str, row: str
) -> None:
    cql.rows(f"CREATE TABLE {keyspace}.t ({columns}) WITH COMPACT STORAGE")
    cql.rows(f"INSERT INTO {keyspace}.t {row}")
    (sample,) = estate.backup(keyspaces=[keyspace]).samples
    assert (sample["unread"], [one["rows"] for one in sample["ranges"]]) == ("", [1])
