"""What a backup and those after it say of a point between them, before a commit log is replayed."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from include.engine.contracts import PlanRequest
from include.engine.errors import Incomplete, Unsupported
from include.engine.model import Cut, Entry, Kind, Manifest, SourceIdentity, System, Target, Verdict, backup_id
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.systems.cassandra.archive import CommitLogArchive
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.commit_logs import Segment, key_of
from include.engine.systems.cassandra.cut import BackupDetail, SnapshotCut, detail_of
from include.engine.systems.cassandra.lasting_sandbox import name_of
from include.engine.systems.cassandra.replay import segments_for
from include.engine.systems.cassandra.restore import CassandraRestore
from include.engine.systems.cassandra.schema import Schema, Statement
from include.engine.systems.cassandra.selection import (
    Selection,
    changed,
    choose_backup,
    require_logged,
    select,
    until_after,
)

TARGET = Target(System.CASSANDRA, "main")
START = datetime(2026, 11, 23, 2, tzinfo=UTC)
NODE = Node(host_id="h", address="127.0.0.1", datacenter="dc1", rack="r", version="5.0.9", tokens=("1",))


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def keyspace(name: str, *, durable: bool = True) -> Statement:
    cql = f"CREATE KEYSPACE {name} WITH replication = {{'class': 'X', 'dc1': '3'}} AND durable_writes = {str(durable).lower()};"
    return Statement(keyspace=name, type="keyspace", name=name, cql=cql)


def table(keyspace: str, name: str, columns: str = "k int") -> Statement:
    return Statement(
        keyspace=keyspace, type="table", name=name, cql=f"CREATE TABLE {keyspace}.{name} ({columns} PRIMARY KEY);"
    )


LOGGED = (keyspace("shop"), table("shop", "orders"), keyspace("cache"), table("cache", "pages"))
VOLATILE = (keyspace("shop"), table("shop", "orders"), keyspace("cache", durable=False), table("cache", "pages"))


def backup(
    hours: float,
    statements: tuple[Statement, ...] = LOGGED,
    *,
    archived: bool = True,
    ids: dict[str, str] | None = None,
    nodes: tuple[Node, ...] = (NODE,),
    born: dict[str, datetime] | None = None,
) -> Manifest:
    cut = SnapshotCut(
        tag="t",
        cluster="c",
        nodes=nodes,
        keyspaces=("cache", "shop"),
        schema=Schema(statements),
        samples=(),
        skew_seconds=0.1,
        table_ids=ids or {},
        archived=archived,
    )
    detail = BackupDetail(
        cut=cut,
        files={},
        schema_entry="schema.cql",
        sent_objects=0,
        sent_bytes=0,
        hashed_bytes=0,
        born=born or {},
    )
    return Manifest(
        id=backup_id(at(hours)),
        target=TARGET,
        kind=Kind.FULL,
        started=at(hours),
        finished=at(hours),
        recoverable_from=at(hours),
        recoverable_to=at(hours),
        cut=Cut(at=at(hours), position="t"),
        entries=(),
        source=SourceIdentity(identity="c", version="5.0.9", address="127.0.0.1"),
        detail=msgspec.to_builtins(detail),
    )


def whole(*only: str) -> Selection:
    return select(Schema(LOGGED), only, {})


def test_the_backups_that_know_of_a_point_go_to_the_first_one_after_it() -> None:
    some = [backup(hours) for hours in (0, 1, 2, 3)]
    assert until_after(some, some[0], at(1.5)) == some[:3]
    assert until_after(some, some[1], at(1.5)) == some[1:3]
    assert until_after(some, some[3], at(9)) == some[3:]


@pytest.mark.parametrize("volatile", [0, 1], ids=["in the backup", "in the one after the point"])
def test_keyspaces_whose_writes_are_in_no_log_are_named_with_what_can_be_done(volatile: int) -> None:
    some = [backup(n, VOLATILE if n == volatile else LOGGED) for n in range(2)]
    with pytest.raises(
        Unsupported, match=f"durable_writes is false for cache in the backup {some[volatile].id}"
    ) as told:
        require_logged(some, whole())
    assert "--only shop" in told.value.hint
    assert f"--backup {some[0].id}" in told.value.hint
    require_logged(some, whole("shop"))


def archive(host_id: str, *hours: float) -> Bucket:
    """A bucket with one node's log: whole segments that end at these hours."""
    bucket = Bucket.open(f"memory://{uuid.uuid4().hex}")
    store(bucket, host_id, *hours)
    return bucket


def store(bucket: Bucket, host_id: str, *hours: float, first: float = -2) -> None:
    begin = int(at(first).timestamp() * 1000)
    for n, hour in enumerate(hours):
        one = Segment(
            host_id=host_id,
            name=f"CommitLog-8-{begin + n}.log",
            number=begin + n,
            modified=at(hour),
            sha256="0" * 64,
            bytes=1,
        )
        bucket.create(key_of(TARGET, one), b"x")


JOINED = msgspec.structs.replace(NODE, host_id="d", address="127.0.0.4", tokens=("2",))


def test_a_point_without_the_log_of_a_node_that_the_next_backup_has_is_refused() -> None:
    bucket = archive("h", -1, 5)
    some = [backup(0), backup(4, nodes=(NODE, JOINED))]
    assert segments_for(bucket, some[:1], at(2))  # as long as nobody knows of it
    with pytest.raises(Incomplete, match="the node d joined the ring after the backup"):
        segments_for(bucket, until_after(some, some[0], at(2)), at(2))
    (window,) = CommitLogArchive(TARGET, bucket).reach(some).windows[:1]
    assert window.to_time == at(0)  # of what was written since then, that node alone may have a copy
    store(bucket, "d", 4.5, first=1)
    assert {one.host_id for one in segments_for(bucket, some, at(2))} == {"h", "d"}


def test_a_node_that_was_archived_only_after_it_had_joined_is_refused_from_its_birth_on() -> None:
    bucket = archive("h", -1, 5)
    store(bucket, "d", 4.5, first=3)
    some = [backup(0), backup(4, nodes=(NODE, JOINED), born={"d": at(1)})]
    with pytest.raises(Incomplete, match="not archived from its first start on"):
        segments_for(bucket, some, at(2))
    assert segments_for(bucket, some, at(0.9))


@pytest.mark.parametrize(
    ("born", "refused"),
    [(at(1), True), (None, True), (at(3), False)],
    ids=["before the point", "it does not answer", "after the point"],
)
def test_a_point_without_the_log_of_a_node_that_the_ring_has_now_is_refused(
    born: datetime | None, refused: bool
) -> None:
    bucket = archive("h", -1, 5)
    ring = {"h": at(-9), "d": born}
    if not refused:
        assert segments_for(bucket, [backup(0)], at(2), ring)
        return
    with pytest.raises(Incomplete, match="the node d joined the ring after the backup"):
        segments_for(bucket, [backup(0)], at(2), ring)


def test_what_a_manifest_says_of_births_is_read_back_as_it_was() -> None:
    assert detail_of(backup(0, born={"h": at(-9)})).born == {"h": at(-9)}
    assert detail_of(backup(0)).born == {}


def test_a_keyspace_without_tables_loses_no_writes() -> None:
    require_logged([backup(0, (keyspace("shop"), table("shop", "orders"), keyspace("bare", durable=False)))], whole())


def test_the_audit_of_an_archive_names_keyspaces_whose_writes_are_in_no_log() -> None:
    archive = CommitLogArchive(TARGET, Bucket.open(f"memory://{uuid.uuid4().hex}"))
    found = {check.name: check for check in archive.audit([backup(0, VOLATILE), backup(1, VOLATILE)], lambda: at(2))}
    assert found["commit log of keyspace cache"].verdict is Verdict.FAIL
    assert "durable_writes" in found["commit log of keyspace cache"].detail
    mended = archive.audit([backup(0, VOLATILE), backup(1, LOGGED)], lambda: at(2))
    assert [check.name for check in mended] == ["commit log of 127.0.0.1"]


def test_tables_that_changed_meanwhile_are_named() -> None:
    then = backup(0, ids={"shop.orders": "1", "cache.pages": "2"})
    anew = backup(1, ids={"shop.orders": "9", "cache.pages": "2"})
    altered = backup(
        1,
        (keyspace("shop"), table("shop", "orders", "k int, v text"), table("shop", "more")),
        ids={"shop.orders": "1"},
    )
    assert changed([then, then], whole()) == []
    assert changed([then, anew], whole()) == ["shop.orders"]
    assert changed([then, anew], whole("cache")) == []
    assert changed([then, altered], whole()) == ["cache.pages", "shop.more", "shop.orders"]


def test_a_named_backup_that_does_not_lead_to_the_time_is_told_from_one_that_is_not_there() -> None:
    some = [backup(0), backup(2)]
    with pytest.raises(Unsupported, match=f"{some[1].id} does not lead to") as told:
        choose_backup(some, some[1].id, at(1).isoformat())
    assert some[0].id in told.value.hint
    assert choose_backup(some, None, at(1).isoformat()) == some[0]


def test_files_of_a_newer_cassandra_than_that_of_sandboxes_are_refused_by_the_plan() -> None:
    name = f"h/shop/orders-{'0' * 32}/zz-1-big-Data.db"
    manifest = msgspec.structs.replace(
        backup(0), entries=(Entry(name=name, key="objects/1", bytes=1, sha256="0" * 64),)
    )
    catalog = Catalog(Bucket.open(f"memory://{uuid.uuid4().hex}"))
    engine = CassandraRestore(TARGET, catalog, connections=None, targets={})
    request = PlanRequest(
        manifests=[manifest],
        backup=None,
        destination_kind="sandbox",
        path="",
        server="",
        point="latest",
        confirm="",
    )
    with pytest.raises(Unsupported, match="SSTables are of version zz"):
        engine.plan(request)


def test_a_sandbox_is_named_after_all_that_decides_which_rows_are_in_it() -> None:
    asked = [
        (TARGET, None, whole()),
        (TARGET, at(1), whole()),
        (TARGET, at(1) + timedelta(microseconds=1), whole()),
        (TARGET, None, whole("shop")),
        (TARGET, None, select(Schema(LOGGED), (), {"shop": "copy"})),
        (Target(System.CASSANDRA, f"main{'n' * 40}1"), None, whole()),
        (Target(System.CASSANDRA, f"main{'n' * 40}2"), None, whole()),
    ]
    names = [name_of(target, "20261123T020000Z", point, selection) for target, point, selection in asked]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 63  # the longest name of a sandbox
    elsewhere = at(1).astimezone(timezone(timedelta(hours=2)))
    assert name_of(TARGET, "20261123T020000Z", elsewhere, whole()) == names[1]
