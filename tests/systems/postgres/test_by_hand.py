"""The text of how to restore by hand needs the backups that its own builds on, and no other."""

from __future__ import annotations

from pathlib import Path

import msgspec

from include.engine.model import Entry, Manifest
from include.engine.sandbox.home import Home
from include.engine.systems.postgres.restore import PostgresRestore
from tests.store.making import memory_catalog, overwrite
from tests.systems.postgres.test_choose_chain import TARGET, manifest


def with_objects(bare: Manifest) -> Manifest:
    entries = tuple(
        Entry(name=name, key=f"{TARGET}/backups/{bare.id}/a/{name}", bytes=1, sha256="0" * 64)
        for name in ("base.tar.zst", "backup_manifest.zst")
    )
    return msgspec.structs.replace(bare, entries=entries)


def test_a_damaged_manifest_of_another_backup_does_not_keep_a_set_from_being_sealed(tmp_path: Path) -> None:
    catalog = memory_catalog()
    for day in (1, 2):
        catalog.commit(with_objects(manifest(day)))
    child = catalog.commit(with_objects(manifest(3, parent=2)))
    overwrite(catalog.bucket, catalog.manifest_key(TARGET, "day1"), b"{")
    text = PostgresRestore(TARGET, catalog, Home.of(tmp_path)).by_hand(child)
    assert "day2/a/base.tar.zst" in text
    assert "day1" not in text
