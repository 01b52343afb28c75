"""The bucket is the truth: a backup exists when its manifest does, and the first one to commit is the one that counts."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from include.engine.errors import Corrupt, NotFound, Unsupported
from include.engine.model import Freeze, Verdict, encode
from include.engine.store.catalog import Catalog, Keep
from include.engine.store.proven import LastWords
from tests.store.making import (
    EVENTS,
    MAIN,
    NOW,
    a_backup,
    a_night,
    a_set,
    days_ago,
    keys,
    memory_catalog,
    overwrite,
    verified,
)


@pytest.fixture
def catalog() -> Catalog:
    return memory_catalog()


def test_an_empty_bucket_holds_nothing(catalog: Catalog) -> None:
    assert (catalog.targets(), catalog.backups(MAIN), catalog.sets(), catalog.drills()) == ([], [], [], [])
    with pytest.raises(NotFound, match="none at all"):
        catalog.backup(MAIN, "20261101T000000Z")


def test_backups_and_sets_are_given_oldest_first(catalog: Catalog) -> None:
    for days in (2, 9, 5):
        a_night(catalog, days=days, targets=(MAIN, EVENTS))
    times = [days_ago(days) for days in (9, 5, 2)]
    assert [manifest.started for manifest in catalog.backups(MAIN)] == times
    assert [found.started for found in catalog.sets()] == times
    assert catalog.targets() == [EVENTS, MAIN]


def test_objects_without_a_manifest_are_no_backup(catalog: Catalog) -> None:
    catalog.bucket.create(f"{MAIN}/backups/20261101T000000Z/a1/base.tar", b"x")
    assert catalog.backups(MAIN) == []


def test_the_first_to_commit_counts_and_the_second_is_told(catalog: Catalog) -> None:
    first = a_backup(catalog, days=1, attempt="a1")
    second = a_backup(catalog, days=1, attempt="a2")
    assert second == first
    assert second.entries[0].key.split("/")[-2] == "a1"


def test_an_unknown_backup_names_the_newest_ones(catalog: Catalog) -> None:
    ids = [a_backup(catalog, days=days).id for days in (5, 4, 3, 2)]
    with pytest.raises(NotFound, match=", ".join(ids[1:])):
        catalog.backup(MAIN, "20200101T000000Z")


def test_a_manifest_of_a_newer_version_is_unsupported_and_says_so(catalog: Catalog) -> None:
    manifest = a_backup(catalog)
    key = catalog.manifest_key(MAIN, manifest.id)
    overwrite(catalog.bucket, key, encode(msgspec.structs.replace(manifest, version=99)))
    with pytest.raises(Unsupported, match=f"{key} was written by a newer Mainstay"):
        catalog.find(MAIN, manifest.id)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"version": 1}', b"\xff\x00"])
def test_a_damaged_manifest_is_corrupt_and_named(catalog: Catalog, raw: bytes) -> None:
    key = catalog.manifest_key(MAIN, a_backup(catalog).id)
    overwrite(catalog.bucket, key, raw)
    with pytest.raises(Corrupt, match=key):
        catalog.backups(MAIN)


def test_a_manifest_in_the_wrong_place_is_corrupt(catalog: Catalog) -> None:
    one, two = a_backup(catalog, days=2), a_backup(catalog, days=1)
    overwrite(catalog.bucket, catalog.manifest_key(MAIN, two.id), encode(one))
    with pytest.raises(Corrupt, match=f"is the manifest of postgres/main {one.id}"):
        catalog.find(MAIN, two.id)
    first, second = a_set(catalog, one, days=3), a_set(catalog, one, days=2)
    overwrite(catalog.bucket, f"sets/{second.id}/manifest.json", encode(first))
    with pytest.raises(Corrupt, match=f"is the manifest of the set {first.id}"):
        catalog.set(second.id)


def test_a_survey_shows_the_good_ones_and_what_is_wrong_with_the_others(catalog: Catalog) -> None:
    good, bad = a_backup(catalog, days=2), a_backup(catalog, days=1)
    overwrite(catalog.bucket, catalog.manifest_key(MAIN, bad.id), b"{")
    survey = catalog.survey(MAIN)
    assert survey.manifests == (good,)
    assert list(survey.unreadable) == [bad.id]


def test_deleting_touches_only_what_the_manifest_names(catalog: Catalog) -> None:
    manifest = a_backup(catalog, attempt="a1")
    other = f"{catalog.folder(MAIN, manifest.id)}/a2/base.tar"
    catalog.bucket.create(other, b"another attempt is writing this")
    assert catalog.delete(MAIN, manifest.id) == ()
    assert keys(catalog.bucket) == {other}
    assert catalog.delete(MAIN, manifest.id) == ()


def test_the_first_freeze_counts(catalog: Catalog) -> None:
    first = Freeze(id="20261123T000000Z", started=NOW, frozen=NOW, cuts={})
    assert catalog.find_freeze(first.id) is None
    assert catalog.commit_freeze(first) == first
    assert catalog.commit_freeze(msgspec.structs.replace(first, frozen=NOW + timedelta(seconds=1))) == first


def test_a_set_carries_the_text_that_tells_how_to_restore_it_by_hand(catalog: Catalog) -> None:
    found = a_night(catalog, days=1)
    assert catalog.bucket.read(f"sets/{found.id}/RESTORE.md") == b"# How"
    assert catalog.delete_set(found.id) == ()
    assert not keys(catalog.bucket, "sets")
    with pytest.raises(NotFound):
        catalog.set(found.id)


def test_a_pin_can_be_set_once_and_taken_away(catalog: Catalog) -> None:
    found = a_night(catalog, days=1)
    keep = Keep(by="ana", reason="audit", at=NOW)
    catalog.keep(found.id, keep)
    catalog.keep(found.id, Keep(by="bob", reason="too", at=NOW))
    assert catalog.kept(found.id) == keep
    catalog.unkeep(found.id)
    catalog.unkeep(found.id)
    assert catalog.kept(found.id) is None
    with pytest.raises(NotFound):
        catalog.keep("20200101T000000Z", keep)


def test_the_last_verification_is_the_one_that_counts(catalog: Catalog) -> None:
    manifest = a_backup(catalog)
    assert LastWords(catalog).of(MAIN, manifest.id) is None
    verified(catalog, manifest, Verdict.PASS)
    first = LastWords(catalog).of(MAIN, manifest.id)
    assert first is not None
    later = msgspec.structs.replace(first, at=NOW + timedelta(seconds=1), verdict=Verdict.FAIL)
    catalog.record_verification(later)
    assert LastWords(catalog).of(MAIN, manifest.id) == later
    assert [(one.backup, one.verdict) for one in catalog.read_back.noted(MAIN)] == [
        (manifest.id, Verdict.PASS),
        (manifest.id, Verdict.FAIL),
    ]


def test_the_newest_backups_are_read_alone_and_the_others_are_counted(catalog: Catalog) -> None:
    ids = [a_backup(catalog, days=days).id for days in (5, 4, 3)]
    catalog.bucket.create(
        f"{catalog.folder(MAIN, '20261123T110000Z')}/a1/manifest.json", b"an attempt's, and no backup"
    )
    overwrite(catalog.bucket, catalog.manifest_key(MAIN, ids[0]), b"{")
    survey = catalog.survey(MAIN, newest=2)
    assert ([found.id for found in survey.manifests], survey.older, survey.unreadable) == (ids[1:], 1, {})


def test_sets_are_named_without_being_read(catalog: Catalog) -> None:
    ids = [a_night(catalog, days=days).id for days in (3, 2)]
    catalog.commit_freeze(Freeze(id="20261123T000000Z", started=NOW, frozen=NOW, cuts={}))  # is no set yet
    overwrite(catalog.bucket, f"sets/{ids[0]}/manifest.json", b"{")
    assert catalog.set_ids() == ids
