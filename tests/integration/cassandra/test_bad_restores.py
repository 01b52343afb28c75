"""Bad days of a restore: what is damaged, forged, full or in the way is told before harm is done, or found and named."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from include.engine.contracts import Stop
from include.engine.errors import Corrupt, PermanentError, Refused
from include.engine.model import DestinationKind, Manifest, Verdict
from include.engine.store.shared import SharedFolder
from include.engine.store.vault import VaultReader
from include.engine.systems.cassandra import clusters, fetch
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.cut import detail_of
from include.engine.systems.cassandra.selection import Method, StoredFile, files_of, select
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.transport import transport_to
from include.engine.verbs import restore as restores
from tests.faults import Wire
from tests.integration.cassandra.estate import TARGET, Estate, Told, now, rows

pytestmark = pytest.mark.integration


@pytest.fixture
def backup(estate: Estate, keyspace: str, cql: Cql) -> Manifest:
    """The backup of one table of 50 rows in this test's keyspace."""
    cql.rows(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")
    cql.many(f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)", [(n, f"value {n}") for n in range(50)])
    return estate.backup(keyspaces=[keyspace])


@pytest.fixture
def tiny(estate: Estate) -> Iterator[Path]:
    """A file system of 64 KiB, where the node may write."""
    place = estate.server.nodes[0].directory / f"tiny-{os.urandom(3).hex()}"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", place], check=False)
    if done.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def data_of(manifest: Manifest) -> str:
    return next(entry.key for entry in manifest.entries if entry.name.endswith("-Data.db"))


def replace(estate: Estate, key: str, content: bytes | None) -> None:
    """Put other bytes in the place of an object, or none."""
    client = estate.store.client()
    client.delete_object(Bucket=estate.bucket, Key=f"p/{key}")
    if content is not None:
        client.put_object(Bucket=estate.bucket, Key=f"p/{key}", Body=content)


def flipped(estate: Estate, key: str) -> bytes:
    content = bytearray(estate.store.client().get_object(Bucket=estate.bucket, Key=f"p/{key}")["Body"].read())
    content[len(content) // 2] ^= 1
    return bytes(content)


def files(manifest: Manifest) -> list[StoredFile]:
    return files_of(manifest, select(detail_of(manifest).cut.schema, [], {}))


@pytest.mark.parametrize("destination", [DestinationKind.SERVER, DestinationKind.DIRECTORY], ids=["node", "worker"])
@pytest.mark.parametrize("damage", ["a flipped bit", "missing"])
def test_a_damaged_object_is_named_wherever_it_is_fetched(
    estate: Estate, backup: Manifest, keyspace: str, cql: Cql, tmp_path: Path, destination: DestinationKind, damage: str
) -> None:
    key = data_of(backup)
    replace(estate, key, flipped(estate, key) if damage == "a flipped bit" else None)
    with pytest.raises(Corrupt, match=key):
        estate.restore(destination=destination, rename={keyspace: f"{keyspace}_x"}, path=str(tmp_path / "there"))
    cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


@pytest.mark.parametrize("way", ["import", "sstableloader"])
def test_a_backup_that_cannot_be_read_costs_no_row_of_the_living_table(
    estate: Estate, backup: Manifest, keyspace: str, cql: Cql, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    key = data_of(backup)
    replace(estate, key, flipped(estate, key))
    then = rows(cql, f"{keyspace}.t")
    monkeypatch.setattr(clusters, "choose_method", lambda *_, **__: Method(way))
    with pytest.raises(Corrupt, match=key):
        estate.restore(confirm="cassandra_admin")
    assert rows(cql, f"{keyspace}.t") == then != []


def test_rows_that_came_after_the_plan_are_not_emptied(
    estate: Estate, backup: Manifest, keyspace: str, cql: Cql
) -> None:
    cql.rows(f"CREATE TABLE {keyspace}.other (k int PRIMARY KEY)")
    later = estate.backup(keyspaces=[keyspace])
    cql.rows(f"TRUNCATE {keyspace}.t", timeout=60)
    pipeline = estate.pipeline()
    plan = restores.plan(
        pipeline, TARGET, destination=DestinationKind.SERVER, server="cassandra_admin", confirm="cassandra_admin"
    )
    assert plan.backup == later.id
    assert plan.would_overwrite == ()
    cql.rows(f"INSERT INTO {keyspace}.t (k, v) VALUES (77, 'came meanwhile')")
    with pytest.raises(Refused, match=f"{keyspace}.t held no rows when the restore was planned"):
        restores.restore(
            pipeline, plan, reason="a test asks for it", by="tests", progress=Told(), stop=Stop(), clock=now
        )
    assert len(rows(cql, f"{keyspace}.t")) == 1


def test_rows_that_were_deleted_since_come_back(estate: Estate, backup: Manifest, keyspace: str, cql: Cql) -> None:
    then = rows(cql, f"{keyspace}.t")
    cql.many(f"DELETE FROM {keyspace}.t WHERE k = ?", [(n,) for n in range(50)])
    assert rows(cql, f"{keyspace}.t") == []
    assert estate.restore(confirm="cassandra_admin").verdict is Verdict.PASS
    assert rows(cql, f"{keyspace}.t") == then


def test_bytes_that_were_changed_on_their_way_back_are_fetched_again(
    estate: Estate, backup: Manifest, keyspace: str, cql: Cql, wire: Wire
) -> None:
    key = data_of(backup)
    wrong = flipped(estate, key)
    answers = iter([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(wrong) + wrong])
    wire.verdict = lambda first: next(answers, None) if b"X-Amz-Signature=" in first and key.encode() in first else None
    try:
        assert estate.restore(rename={keyspace: f"{keyspace}_x"}).verdict is Verdict.PASS
        assert next(answers, None) is None
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


def test_a_manifest_that_names_other_objects_is_found_out(estate: Estate, backup: Manifest, tmp_path: Path) -> None:
    key = f"cassandra/main/backups/{backup.id}/manifest.json"
    forged: dict[str, Any] = msgspec.json.decode(estate.bare().catalog.bucket.read(key))
    data = [entry for entry in forged["entries"] if entry["name"].endswith(("-Data.db", "-Index.db", "-Partitions.db"))]
    data[0]["key"], data[0]["bytes"] = data[1]["key"], data[1]["bytes"]
    replace(estate, key, msgspec.json.encode(forged))
    with pytest.raises(Corrupt, match="is not what was sealed"):
        estate.restore(destination=DestinationKind.DIRECTORY, path=str(tmp_path / "there"))
    estate.bare().catalog.delete_set(backup.id)  # who forges that as well is found out by the bytes
    with pytest.raises(Corrupt, match=f"{data[0]['key']}.*SHA-256 differs"):
        estate.restore(destination=DestinationKind.DIRECTORY, path=str(tmp_path / "there"))


def test_an_older_manifest_in_the_place_of_the_newest_is_not_restored(
    estate: Estate, backup: Manifest, keyspace: str, cql: Cql, tmp_path: Path
) -> None:
    cql.rows(f"INSERT INTO {keyspace}.t (k, v) VALUES (100, 'later')")
    newest = estate.backup(keyspaces=[keyspace])
    key = f"cassandra/main/backups/{newest.id}/manifest.json"
    there = str(tmp_path / "there")
    replace(estate, key, msgspec.json.encode(backup))
    with pytest.raises(Corrupt, match=f"is the manifest of cassandra/main {backup.id}"):
        estate.restore(destination=DestinationKind.DIRECTORY, path=there, backup=newest.id)
    # Under the newest one's name, everything in it fits together: only the set knows better.
    replace(estate, key, msgspec.json.encode(msgspec.structs.replace(backup, id=newest.id)))
    with pytest.raises(Corrupt, match=f"{newest.id}: {key} is not what was sealed") as told:
        estate.restore(destination=DestinationKind.DIRECTORY, path=there)
    assert "put the object's older version back" in told.value.hint


def test_a_manifest_without_cassandras_part_is_corrupt(estate: Estate, backup: Manifest, tmp_path: Path) -> None:
    key = f"cassandra/main/backups/{backup.id}/manifest.json"
    forged: dict[str, Any] = msgspec.json.decode(estate.bare().catalog.bucket.read(key))
    del forged["detail"]["cut"]["schema"]
    replace(estate, key, msgspec.json.encode(forged))
    with pytest.raises(Corrupt, match="cannot be read"):
        estate.restore(destination=DestinationKind.DIRECTORY, path=str(tmp_path / "there"))


def test_files_that_are_there_are_not_fetched_again(estate: Estate, backup: Manifest, tmp_path: Path) -> None:
    wanted = files(backup)
    size = sum(file.entry.bytes for file in wanted)
    bucket = estate.bare().catalog.bucket
    reader = VaultReader(bucket)
    assert fetch.to_here(wanted[:3], tmp_path / "here", reader, Told(), Stop()) > 0
    (tmp_path / "here" / f"{wanted[4].place}.part").write_bytes(b"cut off")
    rest = fetch.to_here(wanted, tmp_path / "here", reader, Told(), Stop())
    assert rest == sum(file.entry.bytes for file in wanted[3:])
    assert fetch.to_here(wanted, tmp_path / "here", reader, Told(), Stop()) == 0

    known = Settings.model_validate({"connection": "c", **estate.server.target_settings()})
    transport = transport_to(known, "127.0.0.1")
    place = f"{estate.server.nodes[0].directory}/resumed-{backup.id}-{os.urandom(3).hex()}"
    told = Told()
    arguments: dict[str, Any] = {"progress": told, "stop": Stop(), "timeout": 60, "rate": None}
    shared = SharedFolder(bucket, TARGET)
    assert fetch.to_node(wanted, place, shared, transport, **arguments) == size == told.bytes
    transport.run(f"rm '{place}/{wanted[0].place}'", timeout=20)
    assert fetch.to_node(wanted, place, shared, transport, **arguments) == wanted[0].entry.bytes
    assert fetch.to_node(wanted, place, shared, transport, **arguments) == 0


def test_a_full_disk_on_the_worker_is_told(
    estate: Estate, backup: Manifest, keyspace: str, cql: Cql, tiny: Path
) -> None:
    (tiny / "filler").write_bytes(b"x" * 60_000)
    (tiny / "there").mkdir()
    with pytest.raises(PermanentError, match="No space left on device"):
        estate.restore(destination=DestinationKind.DIRECTORY, path=str(tiny / "there"))


def test_a_full_disk_on_the_node_is_told_and_the_next_try_succeeds(
    estate: Estate, backup: Manifest, keyspace: str, cql: Cql, tiny: Path
) -> None:
    (tiny / "filler").write_bytes(b"x" * 60_000)
    nodes = estate.server.target_settings()["nodes"]
    nodes["127.0.0.1"]["staging"] = str(tiny / "staging")
    pipeline = estate.pipeline(nodes=nodes)
    with pytest.raises(PermanentError, match="is full"):
        estate.restore(pipeline=pipeline, rename={keyspace: f"{keyspace}_x"})
    try:
        assert estate.restore(rename={keyspace: f"{keyspace}_x"}).verdict is Verdict.PASS
        assert rows(cql, f"{keyspace}_x.t") == rows(cql, f"{keyspace}.t")
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}_x", timeout=60)


def test_the_source_is_refused_until_its_name_is_typed_even_when_it_is_empty(
    estate: Estate, backup: Manifest, keyspace: str, cql: Cql
) -> None:
    cql.rows(f"DROP TABLE {keyspace}.t", timeout=60)
    with pytest.raises(Refused, match="is the cluster that was backed up"):
        estate.restore()
    assert estate.restore(confirm="cassandra_admin").verdict is Verdict.PASS
    assert len(rows(cql, f"{keyspace}.t")) == 50


def test_a_table_of_another_shape_is_refused(estate: Estate, backup: Manifest, keyspace: str, cql: Cql) -> None:
    cql.rows(f"DROP TABLE {keyspace}.t", timeout=60)
    cql.rows(f"CREATE TABLE {keyspace}.t (k text PRIMARY KEY)")
    with pytest.raises(Refused, match="other columns"):
        estate.restore(confirm="cassandra_admin")


def test_added_rows_are_never_called_equal(estate: Estate, backup: Manifest, keyspace: str, cql: Cql) -> None:
    cql.rows(f"DELETE FROM {keyspace}.t WHERE k = 1")
    cql.rows(f"INSERT INTO {keyspace}.t (k, v) VALUES (1000, 'new')")
    restored = estate.restore(append=True, confirm="cassandra_admin")
    assert restored.verdict is Verdict.UNVERIFIED
    assert len(rows(cql, f"{keyspace}.t")) == 50  # 1 stays deleted: its tombstone is newer than the row


def test_a_directory_that_holds_something_is_refused(estate: Estate, backup: Manifest, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("")
    with pytest.raises(Refused, match="not an empty directory"):
        estate.restore(destination=DestinationKind.DIRECTORY, path=str(tmp_path / "there"))
