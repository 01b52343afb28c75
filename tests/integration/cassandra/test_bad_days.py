"""Bad days of a backup: each ends in a clear error, or goes on and is whole."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from include.engine.contracts import BackupSource, Stop
from include.engine.errors import (
    Contended,
    Corrupt,
    Incomplete,
    Interrupted,
    NotFound,
    PermanentError,
    Refused,
    Unauthorized,
    Unreachable,
)
from include.engine.model import DestinationKind, Manifest, System, Target, Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.store import shared as shared_objects
from include.engine.systems.cassandra import backup as source
from include.engine.systems.cassandra import clusters, control, node_scripts, transfer
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.selection import Method
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.verbs import backup, verify
from tests.faults import Wire
from tests.integration.cassandra.children import beside, kill_when
from tests.integration.cassandra.estate import TARGET, Estate, Told, detail, flushed_table, make_table, now, rows

pytestmark = pytest.mark.integration


@pytest.fixture
def table(keyspace: str, cql: Cql, estate: Estate) -> str:
    return flushed_table(estate, keyspace, cql)


def data_files(estate: Estate, table: str) -> list[Path]:
    keyspace, _, name = table.partition(".")
    return sorted(estate.server.nodes[0].data_directory.glob(f"{keyspace}/{name}-*/*-Data.db"))


def is_upload(first: bytes) -> bool:
    """Whether a connection begins with a signed upload."""
    return first.startswith(b"PUT") and b"X-Amz-Signature=" in first


def refusal(status: str, code: str) -> bytes:
    """What S3 answers when it refuses."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>no</Message></Error>'
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as stream:  # the very same file: links share it
        stream.write(content)


# on the node ---------------------------------------------------------------------------------------------------------


def test_a_bit_flipped_on_the_node_is_found_before_the_file_is_sent(estate: Estate, table: str) -> None:
    flip_a_bit(data_files(estate, table)[0])
    with pytest.raises(Corrupt, match="damaged on the node: its CRC-32") as found:
        estate.backup(keyspaces=[table.partition(".")[0]])
    assert "-Data.db" in found.value.message
    assert not estate.objects()


def test_a_component_that_is_missing_makes_the_backup_incomplete(estate: Estate, table: str) -> None:
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]])
    cut = backup.freeze(pipeline, "20261123T030000Z", [TARGET], clock=now).cuts[str(TARGET)]
    snapshot = next(data_files(estate, table)[0].parent.glob(f"snapshots/{cut.position}"))
    next(snapshot.glob("*-Filter.db")).unlink()
    with pytest.raises(Incomplete, match=r"1 files of the snapshot are missing.*-Filter\.db"):
        backup.copy(pipeline, "20261123T030000Z", TARGET, progress=Told(), stop=Stop(), clock=now)
    backup.release(pipeline, "20261123T030000Z", [TARGET])


def test_a_snapshot_that_was_cleared_is_no_backup_of_nothing(estate: Estate, table: str) -> None:
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]])
    backup.freeze(pipeline, "20261123T030001Z", [TARGET], clock=now)
    backup.release(pipeline, "20261123T030001Z", [TARGET])
    with pytest.raises(Incomplete, match="has nothing of"):
        backup.copy(pipeline, "20261123T030001Z", TARGET, progress=Told(), stop=Stop(), clock=now)


def test_a_keyspace_without_a_single_row_is_a_backup_that_proves_it_and_comes_back(
    estate: Estate, keyspace: str, cql: Cql, tmp_path: Path
) -> None:
    cql.rows(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")
    cql.rows(f"CREATE INDEX ON {keyspace}.t (v)")
    manifest = estate.backup(keyspaces=[keyspace])
    assert [entry.name for entry in manifest.entries] == ["schema.cql"]
    assert "no row in any of 1 tables: each node lists 0 SSTables of each" in manifest.notes[-1]
    (proof,) = verify.verify_parts(estate.pipeline(), manifest.id, progress=Told(), stop=Stop(), clock=now)
    assert proof.verdict is Verdict.PASS
    assert estate.backup(keyspaces=[keyspace]).notes == manifest.notes  # the first rows may be a day away

    restored = estate.restore(rename={keyspace: f"{keyspace}_x"})
    try:
        assert restored.verdict is Verdict.PASS, restored.checks
        assert rows(cql, f"{keyspace}_x.t") == []
    finally:
        cql.rows(f"DROP KEYSPACE {keyspace}_x", timeout=60)
    estate.restore("", destination=DestinationKind.DIRECTORY, path=str(tmp_path / "files"))
    assert f"CREATE TABLE {keyspace}.t" in (tmp_path / "files" / "schema.cql").read_text()


def test_a_keyspace_that_had_rows_is_not_taken_for_a_new_one(estate: Estate, table: str, cql: Cql) -> None:
    keyspace = table.partition(".")[0]
    estate.backup(keyspaces=[keyspace])
    cql.rows(f"TRUNCATE {table}", timeout=60)
    with pytest.raises(Incomplete, match="somebody has emptied it, or it is another cluster"):
        estate.backup(keyspaces=[keyspace])
    assert "no row in any" in estate.backup(full=True, keyspaces=[keyspace]).notes[-1]  # a person has said so


def test_a_snapshot_that_lists_no_file_of_rows_that_were_read_is_no_backup(estate: Estate, table: str) -> None:
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]])
    cut = backup.freeze(pipeline, "20261123T030002Z", [TARGET], clock=now).cuts[str(TARGET)]
    snapshot = next(data_files(estate, table)[0].parent.glob(f"snapshots/{cut.position}"))
    for file in snapshot.glob("*-big-*"):
        file.unlink()
    (snapshot / "manifest.json").write_text('{"files": []}')
    with pytest.raises(Incomplete, match="in which rows were read as it was taken"):
        backup.copy(pipeline, "20261123T030002Z", TARGET, progress=Told(), stop=Stop(), clock=now)
    backup.release(pipeline, "20261123T030002Z", [TARGET])


def test_without_samples_nobody_can_say_that_a_keyspace_holds_no_row(estate: Estate, keyspace: str, cql: Cql) -> None:
    cql.rows(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY)")
    with pytest.raises(Incomplete, match="nobody could count"):
        estate.backup(keyspaces=[keyspace], sample_ranges=0)


def test_a_new_cluster_without_a_keyspace_has_a_backup_and_one_that_is_left_out_has_none(
    sandbox: Sandbox, object_store: ObjectStoreServer, bucket: str, tmp_path: Path
) -> None:
    server = CassandraServer(sandbox, "new", jolokia=False).start()
    try:
        estate = Estate(server, object_store, bucket, tmp_path)
        manifest = estate.backup()
        assert manifest.notes[-1] == "there is no table to back up: no node knows one"
        with server.connect() as cql:
            assert (
                cql.rows("SELECT name FROM system_views.snapshots") == []
            )  # without names it would be of the system's
            restored = estate.restore("", destination=DestinationKind.DIRECTORY, path=str(tmp_path / "files"))
            assert restored.verdict is Verdict.PASS
            cql.rows("CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}")
        with pytest.raises(Incomplete, match="leaves out every keyspace of the cluster: k"):
            estate.backup(exclude=["k"])
        with pytest.raises(NotFound, match="no keyspace orders"):
            estate.backup(keyspaces=["orders"])
        assert "there is no table" in estate.backup().notes[-1]  # a keyspace alone
    finally:
        server.stop()


def test_an_empty_table_comes_back_empty_and_proved(estate: Estate, table: str, cql: Cql) -> None:
    keyspace = table.partition(".")[0]
    cql.rows(f"CREATE TABLE {keyspace}.nothing (k int PRIMARY KEY)")
    estate.backup(keyspaces=[keyspace])
    restored = estate.restore(rename={keyspace: f"{keyspace}_x"})
    try:
        checks = {check.name: check for check in restored.checks}
        assert checks[f"rows of {keyspace}_x.nothing"].verdict is Verdict.PASS
        assert rows(cql, f"{keyspace}_x.nothing") == []
    finally:
        cql.rows(f"DROP KEYSPACE {keyspace}_x", timeout=60)


def test_names_with_capitals_and_words_of_cql_survive(estate: Estate, cql: Cql) -> None:
    try:
        cql.rows(
            "CREATE KEYSPACE \"Select\" WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}", timeout=60
        )
        cql.rows('CREATE TYPE "Select"."Table" ("From" int, b text)')
        cql.rows('CREATE TABLE "Select"."Order" ("Key" text PRIMARY KEY, "a ""b"" é" text, u frozen<"Table">)')
        cql.rows('CREATE INDEX "ByValue" ON "Select"."Order" ("a ""b"" é")')
        cql.rows('INSERT INTO "Select"."Order" JSON \'{"\\"Key\\"": "x"}\'')
        cql.rows(
            """INSERT INTO "Select"."Order" ("Key", "a ""b"" é", u) VALUES ('y', 'it''s; "z"', {"From": 1, b: 'c'})"""
        )
        then = rows(cql, '"Select"."Order"')
        estate.backup(keyspaces=["Select"])
        restored = estate.restore(rename={"Select": "Where"})
        assert restored.verdict is Verdict.PASS, restored.checks
        assert rows(cql, '"Where"."Order"') == then
    finally:
        for name in ("Select", "Where"):
            cql.rows(f'DROP KEYSPACE IF EXISTS "{name}"', timeout=60)


def test_a_table_dropped_and_made_again_is_another_table(estate: Estate, table: str, cql: Cql) -> None:
    keyspace = table.partition(".")[0]
    cql.rows(f"DROP TABLE {table}", timeout=60)
    cql.rows(f"CREATE TABLE {table} (other text PRIMARY KEY, n int)")
    cql.rows(f"INSERT INTO {table} (other, n) VALUES ('only', 1)")
    estate.backup(keyspaces=[keyspace])
    try:
        assert estate.restore(rename={keyspace: f"{keyspace}_x"}).verdict is Verdict.PASS
        assert rows(cql, f"{keyspace}_x.t") == rows(cql, table) != []
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


def test_types_of_the_users_that_are_not_frozen_are_sampled_and_come_back(
    estate: Estate, keyspace: str, cql: Cql
) -> None:
    cql.rows(f"CREATE TYPE {keyspace}.place (street text, number int)")
    cql.rows(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, p place, f frozen<place>, v text)")
    cql.rows(
        f"INSERT INTO {keyspace}.t (k, p, f, v) VALUES (1, {{street: 'a', number: 1}}, {{street: 'b'}}, 'c') USING TTL 900"
    )
    manifest = estate.backup(keyspaces=[keyspace])
    (sample,) = [one for one in manifest.samples if one["table"] == "t"]
    assert sample["unread"] == ""
    assert all(one["expires"] for one in sample["ranges"])
    try:
        assert estate.restore(rename={keyspace: f"{keyspace}_x"}).verdict is Verdict.PASS
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


def test_a_dropped_column_does_not_hinder_the_restore(estate: Estate, table: str, cql: Cql) -> None:
    keyspace = table.partition(".")[0]
    cql.rows(f"ALTER TABLE {table} ADD gone text")
    cql.rows(f"INSERT INTO {table} (k, gone) VALUES (1, 'old')")
    estate.server.nodes[0].nodetool("flush", keyspace)
    cql.rows(f"ALTER TABLE {table} DROP gone")
    estate.backup(keyspaces=[keyspace])
    try:
        assert estate.restore(rename={keyspace: f"{keyspace}_x"}).verdict is Verdict.PASS
        assert rows(cql, f"{keyspace}_x.t") == rows(cql, table)
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


# the freeze ----------------------------------------------------------------------------------------------------------


def test_a_schema_that_changed_meanwhile_has_the_snapshot_taken_again(
    estate: Estate, table: str, cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    take = control.Jolokia.snapshot

    def slow(self: control.Jolokia, tag: str, keyspaces: list[str], ttl: timedelta) -> None:
        if not taken:
            cql.rows(f"ALTER TABLE {table} ADD later int")
        taken.append(tag)
        take(self, tag, keyspaces, ttl)

    monkeypatch.setattr(control.Jolokia, "snapshot", slow)
    manifest = estate.backup(keyspaces=[table.partition(".")[0]])
    assert len(taken) == 2
    assert manifest.cut.position == taken[1]
    assert "later int" in detail(manifest).cut.schema.text()
    there = {row["name"] for row in cql.rows("SELECT name FROM system_views.snapshots")}
    assert not there & set(taken)


def test_a_table_made_again_under_its_name_meanwhile_has_the_snapshot_taken_again(
    estate: Estate, table: str, cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its schema reads the same; the ids by which commit logs name tables would not be those of the files."""
    taken: list[str] = []
    take = control.Jolokia.snapshot

    def then_made_again(self: control.Jolokia, tag: str, keyspaces: list[str], ttl: timedelta) -> None:
        take(self, tag, keyspaces, ttl)
        if not taken:
            cql.rows(f"DROP TABLE {table}", timeout=60)
            make_table(cql, table, count=5)
        taken.append(tag)

    monkeypatch.setattr(control.Jolokia, "snapshot", then_made_again)
    manifest = estate.backup(keyspaces=[table.partition(".")[0]])
    assert len(taken) == 2
    table_id = detail(manifest).cut.table_ids[table].replace("-", "")
    of_rows = [entry.name for entry in manifest.entries if entry.name.endswith("-Data.db")]
    assert of_rows
    assert all(f"-{table_id}/" in name for name in of_rows)


def test_a_schema_that_never_stands_still_is_told(
    estate: Estate, table: str, cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(100))
    take = control.Jolokia.snapshot

    def restless(self: control.Jolokia, tag: str, keyspaces: list[str], ttl: timedelta) -> None:
        cql.rows(f"ALTER TABLE {table} ADD c{next(count)} int")
        take(self, tag, keyspaces, ttl)

    monkeypatch.setattr(control.Jolokia, "snapshot", restless)
    with pytest.raises(Contended, match="schema changed during each"):
        estate.backup(keyspaces=[table.partition(".")[0]])


def test_jolokia_being_down_is_noted_and_nodetool_does_it(estate: Estate, table: str) -> None:
    nodes = estate.server.target_settings()["nodes"]
    address = estate.server.nodes[0].address
    nodes[address]["jolokia_port"] = 1
    manifest = estate.backup(keyspaces=[table.partition(".")[0]], nodes=nodes)
    assert any("nodetool was used instead" in note for note in manifest.notes)


def test_a_certificate_that_is_not_accepted_is_an_error_and_no_reason_for_nodetool(estate: Estate, table: str) -> None:
    certificate, key = estate.server.authority.issue("somebody-else")
    known = estate.connections.known["cassandra_main"]
    wrong = {**known.extra, "jolokia_cert_file": str(certificate), "jolokia_key_file": str(key)}
    estate.connections.known["cassandra_main"] = msgspec.structs.replace(known, extra=wrong)
    with pytest.raises(Unauthorized, match="certificate"):
        estate.backup(keyspaces=[table.partition(".")[0]], release=False)


def test_a_retried_freeze_leaves_no_snapshot_of_the_first(estate: Estate, table: str, cql: Cql) -> None:
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]])
    source = pipeline.lookup.source(TARGET)
    tags = {source.freeze("20261123T040000Z", now).position for _ in range(2)}
    assert len(tags) == 2
    source.release("20261123T040000Z")
    source.release("20261123T040000Z")
    assert not tags & {row["name"] for row in cql.rows("SELECT name FROM system_views.snapshots")}


def test_a_release_leaves_what_other_targets_on_the_ring_have_frozen_under_the_same_name(
    estate: Estate, table: str, cql: Cql
) -> None:
    keyspace = table.partition(".")[0]
    cql.rows(f"CREATE KEYSPACE {keyspace}_2 WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}}")
    make_table(cql, f"{keyspace}_2.t", count=1)
    name = estate.name()

    def of(target: Target, keyspace: str) -> BackupSource:
        terms = {"connection": "cassandra_main", "keyspaces": [keyspace], **estate.server.target_settings()}
        return source.open_source(target, Settings(**terms), estate.connections.get("cassandra_main"))

    mine = of(TARGET, keyspace)
    others = [of(Target(System.CASSANDRA, f"{TARGET.name}-2"), keyspace), of(TARGET, f"{keyspace}_2")]
    mine.freeze(name, now)
    kept = {other.freeze(name, now).position for other in others}

    def there() -> set[str]:
        return {row["name"] for row in cql.rows("SELECT name FROM system_views.snapshots") if name in row["name"]}

    mine.release(name)
    assert there() == kept
    for other in others:
        other.release(name)
    assert there() == set()


def test_rows_that_change_during_the_snapshot_are_not_compared(
    estate: Estate, table: str, cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = control.Jolokia.snapshot

    def busy(self: control.Jolokia, tag: str, keyspaces: list[str], ttl: timedelta) -> None:
        take(self, tag, keyspaces, ttl)
        cql.rows(f"INSERT INTO {table} (k, v) VALUES (100000, 0x00)")  # after the snapshot, before the second reading

    monkeypatch.setattr(control.Jolokia, "snapshot", busy)
    estate.backup(keyspaces=[table.partition(".")[0]], sample_ranges=1, sample_rows=5000)
    keyspace = table.partition(".")[0]
    try:
        restored = estate.restore(rename={keyspace: f"{keyspace}_x"})
        check = next(check for check in restored.checks if check.name.startswith("rows of"))
        assert check.verdict is Verdict.UNVERIFIED
        assert "1 more changed while the snapshot was taken" in check.detail
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


# the way to the store ------------------------------------------------------------------------------------------------


def test_connections_cut_in_the_middle_are_tried_again(
    estate: Estate, table: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.05)
    cuts = iter([10, 0, 0])
    wire.verdict = lambda first: next(cuts, None) if first.startswith(b"PUT") and b"X-Amz-Signature=" in first else None
    manifest = estate.backup(keyspaces=[table.partition(".")[0]])
    assert {f"p/{entry.key}": entry.bytes for entry in manifest.entries} == estate.objects()


def test_a_store_that_answers_503_for_a_while_is_waited_for(
    estate: Estate, table: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.05)
    busy = iter([b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"] * 3)
    wire.verdict = lambda first: next(busy, None) if first.startswith(b"PUT") and b"X-Amz-Signature=" in first else None
    manifest = estate.backup(keyspaces=[table.partition(".")[0]])
    assert {f"p/{entry.key}": entry.bytes for entry in manifest.entries} == estate.objects()


def test_a_connection_that_hangs_is_given_up_and_tried_again(
    estate: Estate, table: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.05)
    monkeypatch.setattr(node_scripts, "_STALLED_SECONDS", 1)
    hanging = iter([True])
    ended = threading.Event()

    def hang(first: bytes) -> None:
        if is_upload(first) and next(hanging, False):
            ended.wait(60)

    wire.verdict = hang
    began = time.monotonic()
    try:
        manifest = estate.backup(keyspaces=[table.partition(".")[0]])
        assert time.monotonic() - began < 30
    finally:
        ended.set()
    assert {f"p/{entry.key}": entry.bytes for entry in manifest.entries} == estate.objects()


def test_nothing_is_copied_outside_the_window(estate: Estate, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_LOOK_AGAIN", 0.01)
    seen: list[int] = []

    def clock() -> datetime:
        """Noon, until it was asked often enough; then night."""
        seen.append(len(estate.objects()))
        return now().replace(hour=12 if len(seen) < 30 else 23)

    name = estate.name()
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]], window="22:00-06:00", timeout="20h")
    backup.freeze(pipeline, name, [TARGET], clock=now)
    told = Told()
    manifest = backup.copy(pipeline, name, TARGET, progress=told, stop=Stop(), clock=clock)
    backup.release(pipeline, name, [TARGET])
    assert told.said[0] == "cassandra/main: waiting for the window 22:00-06:00"
    assert set(seen[:29]) == {0}
    assert len(estate.objects()) == len({entry.key for entry in manifest.entries})


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("400 Bad Request", "RequestTimeout"),
        ("400 Bad Request", "IncompleteBody"),
        ("409 Conflict", "ConditionalRequestConflict"),
    ],
)
def test_a_refusal_that_says_nothing_of_the_file_is_tried_again(
    estate: Estate, table: str, wire: Wire, monkeypatch: pytest.MonkeyPatch, status: str, code: str
) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.05)
    refusals = iter([refusal(status, code)] * 2)
    wire.verdict = lambda first: next(refusals, None) if is_upload(first) else None
    manifest = estate.backup(keyspaces=[table.partition(".")[0]])
    assert {f"p/{entry.key}": entry.bytes for entry in manifest.entries} == estate.objects()


def test_the_stores_own_word_for_a_refusal_is_told(
    estate: Estate, table: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.01)
    wire.verdict = lambda first: refusal("409 Conflict", "ObjectParentIsFile") if is_upload(first) else None
    with pytest.raises(Unreachable, match="HTTP 409 ObjectParentIsFile"):
        estate.backup(keyspaces=[table.partition(".")[0]])


def test_an_upload_that_the_store_does_not_list_afterwards_is_no_backup(
    estate: Estate, table: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    wire.verdict = lambda first: taken if is_upload(first) else None
    with pytest.raises(Corrupt, match="does not list them as they were sent"):
        estate.backup(keyspaces=[table.partition(".")[0]])


def test_a_full_backup_mends_objects_that_are_not_what_their_names_say(estate: Estate, table: str) -> None:
    keyspace = table.partition(".")[0]
    manifest = estate.backup(keyspaces=[keyspace])
    whole = estate.objects()
    flipped, cut = (f"p/{one.key}" for one in manifest.entries if one.name.endswith(("-Data.db", "schema.cql")))
    client = estate.store.client()
    for key, damaged in ((flipped, b"x" * whole[flipped]), (cut, b"x")):
        client.delete_object(Bucket=estate.bucket, Key=key)
        client.put_object(Bucket=estate.bucket, Key=key, Body=damaged)

    def read_back(name: str) -> Verdict:
        return verify.verify_part(estate.pipeline(), TARGET, name, progress=Told(), stop=Stop(), clock=now).verdict

    assert read_back(manifest.id) is Verdict.FAIL
    again = estate.backup(full=True, keyspaces=[keyspace])
    assert {one.key for one in again.entries} == {one.key for one in manifest.entries}
    assert estate.objects() == whole
    assert (read_back(again.id), read_back(manifest.id)) == (Verdict.PASS, Verdict.PASS)


def test_an_object_of_another_size_is_sent_again_without_being_asked(estate: Estate, table: str) -> None:
    keyspace = table.partition(".")[0]
    manifest = estate.backup(keyspaces=[keyspace])
    whole = estate.objects()
    key = next(f"p/{one.key}" for one in manifest.entries if one.name.endswith("-Data.db"))
    estate.store.client().put_object(Bucket=estate.bucket, Key=key, Body=b"cut off")
    assert detail(estate.backup(keyspaces=[keyspace])).sent_objects == 1
    assert estate.objects() == whole


def test_a_node_that_never_reaches_the_store_is_told_without_a_signature(
    estate: Estate, table: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.01)
    wire.verdict = lambda first: 0 if first.startswith(b"PUT") and b"X-Amz-Signature=" in first else None
    with pytest.raises(Unreachable, match=r"could not send .* curl: \(\d+\)") as told:
        estate.backup(keyspaces=[table.partition(".")[0]])
    assert "Signature" not in str(told.value)


def test_a_store_whose_disk_is_full_is_told_and_leaves_no_backup(
    estate: Estate, table: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.01)
    full = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    wire.verdict = lambda first: full if first.startswith(b"PUT") and b"X-Amz-Signature=" in first else None
    name = estate.name()
    with pytest.raises(Unreachable, match=r"could not send .* HTTP 507"):
        estate.backup(name, keyspaces=[table.partition(".")[0]])
    assert estate.bare().catalog.targets() == [] or estate.bare().catalog.find(TARGET, name) is None


def test_a_signed_url_that_expired_is_signed_anew(estate: Estate, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.05)
    sign = shared_objects.SharedFolder.sign_put
    signed: list[str] = []
    slow = iter([True])

    def late(self: shared_objects.SharedFolder, sha256: str, expires: timedelta, **wishes: bool) -> object:
        first = sha256 not in signed
        signed.append(sha256)
        request = sign(self, sha256, timedelta(seconds=1) if first else expires, **wishes)
        if next(slow, False):
            time.sleep(2.5)
        return request

    monkeypatch.setattr(shared_objects.SharedFolder, "sign_put", late)
    manifest = estate.backup(keyspaces=[table.partition(".")[0]])
    assert len(signed) > len(set(signed))
    assert len(estate.objects()) == len({entry.key for entry in manifest.entries})


def test_signed_urls_that_are_always_refused_are_a_matter_for_a_person(
    estate: Estate, table: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.01)
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    wire.verdict = lambda first: refusal if first.startswith(b"PUT") and b"X-Amz-Signature=" in first else None
    with pytest.raises(Unauthorized, match="HTTP 403"):
        estate.backup(keyspaces=[table.partition(".")[0]])


def test_the_store_refuses_bytes_that_are_not_what_was_hashed(
    estate: Estate, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = transfer.in_one

    def then_flip(*arguments: Any) -> object:
        found = pieces(*arguments)
        flip_a_bit(data_files(estate, table)[0])
        return found

    monkeypatch.setattr(transfer, "in_one", then_flip)
    with pytest.raises(Corrupt, match="not what was hashed a moment ago"):
        estate.backup(keyspaces=[table.partition(".")[0]])


def test_large_files_go_in_parts_and_come_back(estate: Estate, keyspace: str, cql: Cql) -> None:
    make_table(cql, f"{keyspace}.large", count=130, size=100_000)
    manifest = estate.backup(keyspaces=[keyspace], multipart_above="5120KiB")
    assert max(entry.bytes for entry in manifest.entries) > 10 << 20
    try:
        assert estate.restore(rename={keyspace: f"{keyspace}_x"}).verdict is Verdict.PASS
        assert rows(cql, f"{keyspace}_x.large") == rows(cql, f"{keyspace}.large")
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


def test_a_large_file_that_reads_otherwise_on_its_way_takes_the_place_of_no_good_object(
    estate: Estate, keyspace: str, cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part that is sent is what the node has hashed of it: only the whole tells that it was another reading."""
    make_table(cql, f"{keyspace}.large", count=130, size=100_000)
    terms: dict[str, Any] = {"keyspaces": [keyspace], "multipart_above": "5120KiB"}
    manifest = estate.backup(**terms)
    largest = max(manifest.entries, key=lambda entry: entry.bytes)
    parts = transfer._parts

    def stored() -> bytes:
        return bytes(estate.store.client().get_object(Bucket=estate.bucket, Key=f"p/{largest.key}")["Body"].read())

    def misread(*arguments: Any) -> object:
        (data,) = data_files(estate, f"{keyspace}.large")
        flip_a_bit(data)
        try:
            return parts(*arguments)
        finally:
            flip_a_bit(data)

    whole = stored()
    with monkeypatch.context() as once:
        once.setattr(transfer, "_parts", misread)
        with pytest.raises(Corrupt, match="reads otherwise than it was hashed"):
            estate.backup(full=True, **terms)
    assert stored() == whole
    estate.store.client().put_object(Bucket=estate.bucket, Key=f"p/{largest.key}", Body=b"x" * len(whole))
    estate.backup(full=True, **terms)  # which mends what is not right, in parts too
    assert stored() == whole


def test_the_bandwidth_limit_holds(estate: Estate, keyspace: str, cql: Cql) -> None:
    make_table(cql, f"{keyspace}.t", count=30, size=100_000)
    began = time.monotonic()
    manifest = estate.backup(keyspaces=[keyspace], bandwidth="1024KiB", uploads_at_once=1)
    assert detail(manifest).sent_bytes / (time.monotonic() - began) < 1.3 * (1 << 20)


# twice, and killed ---------------------------------------------------------------------------------------------------


def test_two_copies_of_one_set_at_once_make_one_backup(estate: Estate, table: str) -> None:
    name = estate.name()
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]])
    backup.freeze(pipeline, name, [TARGET], clock=now)
    with ThreadPoolExecutor(2) as pool:
        copies = [
            pool.submit(backup.copy, pipeline, name, TARGET, progress=Told(), stop=Stop(), clock=now) for _ in range(2)
        ]
    assert copies[0].result() == copies[1].result()
    backup.release(pipeline, name, [TARGET])


def test_two_backups_at_once_are_both_whole(estate: Estate, table: str) -> None:
    names = [estate.name(), estate.name()]
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]])

    def take(name: str) -> Manifest:
        backup.freeze(pipeline, name, [TARGET], clock=now)
        manifest = backup.copy(pipeline, name, TARGET, progress=Told(), stop=Stop(), clock=now)
        backup.release(pipeline, name, [TARGET])
        return manifest

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(take, names)
    assert first.cut.position != second.cut.position
    stored = estate.objects()
    for manifest in (first, second):
        assert all(stored[f"p/{entry.key}"] == entry.bytes for entry in manifest.entries)
    assert (
        verify.verify_part(pipeline, TARGET, names[0], progress=Told(), stop=Stop(), clock=now).verdict is Verdict.PASS
    )


def test_a_wish_to_stop_ends_the_transfers_and_commits_nothing(estate: Estate, keyspace: str, cql: Cql) -> None:
    make_table(cql, f"{keyspace}.t", count=60, size=100_000)
    name, stop = estate.name(), Stop()
    pipeline = estate.pipeline(keyspaces=[keyspace], bandwidth="256KiB")
    backup.freeze(pipeline, name, [TARGET], clock=now)
    threading.Timer(2.0, lambda: stop.stop("a test")).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        backup.copy(pipeline, name, TARGET, progress=Told(), stop=stop, clock=now)
    assert time.monotonic() - began < 10
    assert pipeline.catalog.find(TARGET, name) is None
    backup.release(pipeline, name, [TARGET])


def test_a_killed_copy_goes_on_where_it_was(estate: Estate, keyspace: str, cql: Cql) -> None:
    for n in range(4):
        make_table(cql, f"{keyspace}.t{n}", count=10, size=100_000)
    name = estate.name()
    pipeline = estate.pipeline(keyspaces=[keyspace], bandwidth="128KiB", uploads_at_once=1)
    backup.freeze(pipeline, name, [TARGET], clock=now)
    child = beside(estate, f"backup.copy(pipeline, {name!r}, TARGET, progress=Told(), stop=Stop(), clock=now)")
    kill_when(child, lambda: any(size > 500_000 for size in estate.objects().values()))
    assert pipeline.catalog.find(TARGET, name) is None
    sent_before = len(estate.objects())
    quick = estate.pipeline(keyspaces=[keyspace])
    manifest = backup.copy(quick, name, TARGET, progress=Told(), stop=Stop(), clock=now)
    backup.release(quick, name, [TARGET])
    assert 0 < detail(manifest).sent_objects <= len(estate.objects()) - sent_before + 1
    assert {f"p/{entry.key}": entry.bytes for entry in manifest.entries} == estate.objects()


def test_a_killed_freeze_leaves_a_snapshot_that_its_retry_clears(estate: Estate, table: str, cql: Cql) -> None:
    name = estate.name()
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]])

    def snapshots() -> set[str]:
        return {r["name"] for r in cql.rows("SELECT name FROM system_views.snapshots") if name in r["name"]}

    child = beside(
        estate,
        "from include.engine.systems.cassandra import snapshot\n"
        "snapshot.keep_quiet = lambda *_: time.sleep(600)\n"
        f"backup.freeze(pipeline, {name!r}, [TARGET], clock=now)",
    )
    kill_when(child, lambda: bool(snapshots()))
    backup.freeze(pipeline, name, [TARGET], clock=now)
    assert len(snapshots()) == 2
    backup.copy(pipeline, name, TARGET, progress=Told(), stop=Stop(), clock=now)
    backup.seal(pipeline, name, clock=now)
    backup.release(pipeline, name, [TARGET])
    assert snapshots() == set()


def test_a_killed_seal_leaves_no_set_and_a_killed_release_no_snapshot_once_they_are_run_again(
    estate: Estate, table: str, cql: Cql
) -> None:
    name = estate.name()
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]])
    source = pipeline.lookup.source(TARGET)
    source.freeze(name, now)  # an attempt that died: its snapshot is cleared, too

    def snapshots() -> set[str]:
        return {r["name"] for r in cql.rows("SELECT name FROM system_views.snapshots") if name in r["name"]}

    backup.freeze(pipeline, name, [TARGET], clock=now)
    backup.copy(pipeline, name, TARGET, progress=Told(), stop=Stop(), clock=now)
    sealing = beside(
        estate,
        "from include.engine.store.bucket import Bucket\n"
        "create = Bucket.create\n"
        "Bucket.create = lambda self, key, data: time.sleep(600) if key == "
        f"'sets/{name}/manifest.json' else create(self, key, data)\n"
        f"backup.seal(pipeline, {name!r}, clock=now)",
    )
    kill_when(sealing, lambda: any(found.key.endswith("RESTORE.md") for found in pipeline.catalog.bucket.list("sets")))
    assert pipeline.catalog.find_set(name) is None
    assert [part.backup for part in backup.seal(pipeline, name, clock=now).parts] == [name]
    assert [check.verdict for check in verify.check_set(pipeline, name)] == [Verdict.PASS]

    assert len(snapshots()) == 2
    releasing = beside(
        estate,
        "from include.engine.systems.cassandra.control import Jolokia\n"
        "clear = Jolokia.clear\n"
        "Jolokia.clear = lambda self, tag, keyspaces: (clear(self, tag, keyspaces), time.sleep(600))\n"
        f"backup.release(pipeline, {name!r}, [TARGET])",
    )
    kill_when(releasing, lambda: len(snapshots()) == 1)
    backup.release(pipeline, name, [TARGET])
    assert snapshots() == set()


def test_a_killed_restore_goes_on_and_is_proved(estate: Estate, keyspace: str, cql: Cql) -> None:
    make_table(cql, f"{keyspace}.t", count=30, size=100_000)
    then = rows(cql, f"{keyspace}.t")
    estate.backup(keyspaces=[keyspace])
    cql.rows(f"DROP TABLE {keyspace}.t", timeout=60)
    estate.pipeline(restore_bandwidth="128KiB")
    staging = estate.server.nodes[0].staging
    before = set(staging.glob("*"))
    child = beside(
        estate,
        "plan = restore.plan(pipeline, TARGET, destination=DestinationKind.SERVER, server='cassandra_admin', clock=now,"
        " confirm='cassandra_admin')\n"
        "restore.restore(pipeline, plan, reason='a test asks for it', by='tests', progress=Told(), stop=Stop(), clock=now)",
    )
    kill_when(child, lambda: any(any(place.rglob("*.part")) for place in set(staging.glob("*")) - before))
    (left,) = set(staging.glob("*")) - before
    there = cql.rows("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", [keyspace])
    assert there == []  # nothing is made, or emptied, before all files are there
    restored = estate.restore(confirm="cassandra_admin")
    assert restored.verdict is Verdict.PASS
    assert rows(cql, f"{keyspace}.t") == then
    assert not left.exists()


@pytest.mark.parametrize("way", ["import", "sstableloader"])
def test_a_restore_that_was_killed_while_rows_came_goes_on_without_being_asked_again(
    estate: Estate, keyspace: str, cql: Cql, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for n in range(3):
        make_table(cql, f"{keyspace}.t{n}", count=30)
    cql.rows(f"ALTER TABLE {keyspace}.t2 ADD n int")
    cql.rows(f"CREATE INDEX later ON {keyspace}.t2 (n) USING 'sai'", timeout=60)
    then = {n: rows(cql, f"{keyspace}.t{n}") for n in range(3)}
    estate.backup(keyspaces=[keyspace])
    copy = f"{keyspace}_x"
    wish = f"rename={{{keyspace!r}: {copy!r}}}"
    child = beside(
        estate,
        "from include.engine.systems.cassandra import clusters as engine, landing, sstableloader\n"
        f"engine.choose_method = lambda *_, **__: engine.Method({way!r})\n"
        "run, load = landing.Nodetool.run, sstableloader.Loader.load\n"
        "landing.Nodetool.run = lambda self, *a: (run(self, *a), time.sleep(600 * ('t1' in a)))\n"
        "sstableloader.Loader.load = lambda self, at, *a, **k: (load(self, at, *a, **k), time.sleep(600 * (at.name == 't1')))\n"
        "plan = restore.plan(pipeline, TARGET, destination=DestinationKind.SERVER, server='cassandra_admin', clock=now, "
        f"{wish})\n"
        "restore.restore(pipeline, plan, reason='a test asks for it', by='tests', progress=Told(), stop=Stop(), clock=now)",
    )
    try:
        kill_when(child, lambda: holds(cql, copy, "t1"))
        assert not holds(cql, copy, "t2")
        with pytest.raises(Refused, match="holds rows"):  # another restore than the one that began
            estate.restore(rename={keyspace: copy}, only=[f"{keyspace}.t0"])
        monkeypatch.setattr(clusters, "choose_method", lambda *_, **__: Method(way))
        assert estate.restore(rename={keyspace: copy}).verdict is Verdict.PASS
        assert {n: rows(cql, f"{copy}.t{n}") for n in range(3)} == then
        with pytest.raises(Refused, match="holds rows"):  # it is done: the next is another one
            estate.restore(rename={keyspace: copy})
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {copy}", timeout=60)


def holds(cql: Cql, keyspace: str, table: str) -> bool:
    """Whether a table is there and has rows."""
    there = cql.rows("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", [keyspace])
    if table not in {row["table_name"] for row in there}:
        return False
    try:
        return bool(rows(cql, f"{keyspace}.{table}"))
    except (PermanentError, Unreachable):  # the schema's tables have it a moment before it can be asked
        return False


def test_ten_thousand_small_sstables_are_listed_and_sent(estate: Estate, table: str) -> None:
    name = estate.name()
    pipeline = estate.pipeline(keyspaces=[table.partition(".")[0]], check_data=False)
    cut = backup.freeze(pipeline, name, [TARGET], clock=now).cuts[str(TARGET)]
    (data,) = data_files(estate, table)
    snapshot = data.parent / "snapshots" / str(cut.position)
    (snapshot / "statistics").write_bytes(b"statistics")
    (snapshot / "toc").write_text("Data.db\nStatistics.db\nTOC.txt\n")
    (snapshot / "statistics").chmod(0o644)
    (snapshot / "toc").chmod(0o644)
    for n in range(10_000):
        sstable = snapshot / f"oa-{n}-big-"
        if n < 300:  # the others are the same bytes: listed and hashed, and not sent again
            Path(f"{sstable}Data.db").write_bytes(b"data %d" % n)
        else:
            os.link(snapshot / "oa-0-big-Data.db", f"{sstable}Data.db")
        os.link(snapshot / "statistics", f"{sstable}Statistics.db")
        os.link(snapshot / "toc", f"{sstable}TOC.txt")
    manifest = backup.copy(pipeline, name, TARGET, progress=Told(), stop=Stop(), clock=now)
    backup.release(pipeline, name, [TARGET])
    assert len(manifest.entries) > 30_000
    assert 300 <= len(estate.objects()) < 330
    assert {f"p/{entry.key}": entry.bytes for entry in manifest.entries} == estate.objects()
