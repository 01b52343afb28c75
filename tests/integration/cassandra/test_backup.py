"""A backup of a live node: what it holds, what it sends, and what it refuses to call a backup."""

from __future__ import annotations

import pytest

from include.engine.contracts import Stop
from include.engine.model import Manifest, Verdict, Verification
from include.engine.systems.cassandra.client import Cql
from include.engine.verbs import verify
from tests.faults import Wire
from tests.integration.cassandra.estate import Estate, Told, detail, now

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
