"""Verify lists all that is wrong, and never calls a thing good that it could not read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.contracts import Stop
from include.engine.errors import Interrupted, Unreachable
from include.engine.model import Entry, Manifest, ReadBack, Verdict, Verification, encode
from include.engine.store.bucket import Bucket, StoredObject
from include.engine.store.catalog import Catalog
from include.engine.store.commits import Commits
from include.engine.store.encryption import generate_identity
from include.engine.store.proven import LastWords
from include.engine.store.rereading import Trust, choose
from include.engine.store.shared import SharedFolder
from include.engine.store.vault import VaultReader
from include.engine.store.verify import verify_backup, verify_set
from include.engine.verbs.verify import LATELY
from tests.store.making import EVENTS, MAIN, NOW, Told, a_backup, a_night, a_set, days_ago, memory_catalog, overwrite


@pytest.fixture
def catalog() -> Catalog:
    return memory_catalog()


@pytest.fixture
def manifest(catalog: Catalog) -> Manifest:
    return a_backup(catalog, objects={f"o{n}": bytes([n]) * 1000 for n in range(5)})


def verify(
    catalog: Catalog, manifest: Manifest, reader: VaultReader | None = None, stop: Stop | None = None
) -> Verification:
    return verify_backup(
        catalog, reader or VaultReader(catalog.bucket), manifest, progress=Told(), stop=stop or Stop(), now=NOW
    )


def test_a_good_backup_passes_is_recorded_and_shows_progress(catalog: Catalog, manifest: Manifest) -> None:
    told = Told()
    found = verify_backup(catalog, VaultReader(catalog.bucket), manifest, progress=told, stop=Stop(), now=NOW)
    assert found == Verification(
        target=MAIN, backup=manifest.id, at=NOW, objects=5, bytes=5000, verdict=Verdict.PASS, problems=()
    )
    assert LastWords(catalog).of(MAIN, manifest.id) == found
    assert (told.stages, told.bytes) == ([(f"verify postgres/main {manifest.id}", 5000)], 5000)


def test_no_key_is_needed(catalog: Catalog) -> None:
    encrypted = a_backup(catalog, recipients=[generate_identity().recipient])
    assert verify(catalog, encrypted).verdict is Verdict.PASS


@pytest.mark.sabotage
def test_all_damaged_objects_are_listed(catalog: Catalog, manifest: Manifest) -> None:
    missing, short, flipped, swapped, fine = (entry.key for entry in manifest.entries)
    catalog.bucket.delete([missing])
    overwrite(catalog.bucket, short, b"x")
    overwrite(catalog.bucket, flipped, b"\x02" * 999 + b"\x03")
    overwrite(catalog.bucket, swapped, catalog.bucket.read(fine))
    found = verify(catalog, manifest)
    assert (found.verdict, found.objects) == (Verdict.FAIL, 1)
    assert found.problems == (
        f"{missing} is missing from the store",
        f"{short} has 1 bytes in the store, 1000 were written",
        f"{flipped} is not what was written: its SHA-256 differs from the manifest's",
        f"{swapped} is not what was written: its SHA-256 differs from the manifest's",
    )
    assert LastWords(catalog).of(MAIN, manifest.id) == found


@pytest.mark.sabotage
def test_a_manifest_that_is_gone_or_replaced_is_a_failure(catalog: Catalog, manifest: Manifest) -> None:
    key = catalog.manifest_key(MAIN, manifest.id)
    overwrite(catalog.bucket, key, encode(msgspec.structs.replace(manifest, entries=manifest.entries[:1])))
    assert verify(catalog, manifest).problems == (f"{key} is not the manifest that was verified: somebody replaced it",)
    catalog.bucket.delete([key])
    assert verify(catalog, manifest).problems == (f"{key} is missing from the store",)


def test_a_backup_of_nothing_is_a_failure(catalog: Catalog, manifest: Manifest) -> None:
    found = verify(catalog, msgspec.structs.replace(manifest, id="20260101T000000Z", entries=()))
    assert found.verdict is Verdict.FAIL
    assert "names no object" in found.problems[0]


def test_an_object_named_twice_is_read_once_and_with_two_digests_is_a_failure(
    catalog: Catalog, manifest: Manifest
) -> None:
    first = manifest.entries[0]
    twice = msgspec.structs.replace(manifest, entries=(*manifest.entries, first))
    assert verify(catalog, twice).objects == 5
    other = msgspec.structs.replace(first, sha256="0" * 64)
    assert verify(catalog, msgspec.structs.replace(manifest, entries=(first, other))).objects == 1


class _Deaf(VaultReader):
    """A store that stops answering."""

    asked = 0

    def stored(self, entry: Entry, *, ahead: int = 4) -> Iterator[bytes]:
        type(self).asked += 1
        raise Unreachable("the object store failed", hint="wait")


def test_what_could_not_be_read_is_unverified_never_good(catalog: Catalog) -> None:
    manifest = a_backup(catalog, objects={f"o{n}": b"x" for n in range(50)})
    _Deaf.asked = 0
    found = verify(catalog, manifest, _Deaf(catalog.bucket))
    assert found.verdict is Verdict.UNVERIFIED
    assert f"{manifest.entries[0].key} could not be read: the object store failed" in found.problems
    assert found.problems[-1].endswith("more object(s) were not read")
    assert _Deaf.asked < 10  # a dead store is not asked fifty times


def test_damage_weighs_more_than_what_could_not_be_read(catalog: Catalog, manifest: Manifest) -> None:
    catalog.bucket.delete([catalog.manifest_key(MAIN, manifest.id)])
    assert verify(catalog, manifest, _Deaf(catalog.bucket)).verdict is Verdict.FAIL


def test_a_stop_ends_it_and_records_nothing(catalog: Catalog, manifest: Manifest) -> None:
    stop = Stop()
    stop.stop("SIGTERM")
    with pytest.raises(Interrupted, match="SIGTERM"):
        verify(catalog, manifest, stop=stop)
    assert LastWords(catalog).of(MAIN, manifest.id) is None


def test_a_whole_set_passes(catalog: Catalog) -> None:
    full = a_backup(catalog, days=2)
    found = a_set(catalog, a_backup(catalog, days=1, parent=full.id), days=1)
    (check,) = verify_set(Commits(catalog), found)
    assert (check.name, check.verdict) == ("postgres/main", Verdict.PASS)


@pytest.mark.sabotage
def test_a_set_with_a_lost_swapped_or_orphaned_part_fails(catalog: Catalog) -> None:
    full = a_backup(catalog, days=3)
    child = a_backup(catalog, days=2, parent=full.id)
    found = a_set(catalog, child, days=2)
    key = catalog.manifest_key(MAIN, child.id)
    raw = catalog.bucket.read(key)

    def detail() -> str:
        (check,) = verify_set(Commits(catalog), found)
        assert check.verdict is Verdict.FAIL
        return check.detail

    overwrite(catalog.bucket, key, raw.replace(b"base.tar", b"case.tar"))
    assert detail() == f"{key} is not what was sealed: its SHA-256 differs"
    overwrite(catalog.bucket, key, raw)
    catalog.delete(MAIN, full.id)
    assert detail() == f"{child.id} needs {full.id}, which is missing"
    catalog.bucket.delete([key])
    assert detail() == f"{key} is missing from the store"


def test_a_set_of_nothing_fails(catalog: Catalog) -> None:
    empty = msgspec.structs.replace(a_night(catalog, days=1), parts=())
    (check,) = verify_set(Commits(catalog), empty)
    assert check.verdict is Verdict.FAIL


# what backups share --------------------------------------------------------------------------------------------------


class Counting(VaultReader):
    """A reader that remembers what was asked for."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket)
        self.read_keys: list[str] = []

    def stored(self, entry: Entry, *, ahead: int = 6) -> Iterator[bytes]:
        self.read_keys.append(entry.key)
        return super().stored(entry, ahead=ahead)


def shared(catalog: Catalog, *contents: bytes) -> list[Entry]:
    folder = SharedFolder(catalog.bucket, EVENTS)
    return [folder.put(content) for content in contents]


def again(
    catalog: Catalog, manifest: Manifest, *, days: float, trust: Trust | None = LATELY
) -> tuple[Verification, list[str]]:
    reader = Counting(catalog.bucket)
    found = verify_backup(
        catalog, reader, manifest, progress=Told(), stop=Stop(), now=days_ago(days), trust=trust
    )  # fmt: skip
    return found, sorted(reader.read_keys)


def test_shared_objects_that_were_read_lately_are_not_read_again_and_nothing_claims_it(catalog: Catalog) -> None:
    old, new = shared(catalog, b"old " * 100), shared(catalog, b"new " * 200)
    first, read = again(catalog, a_backup(catalog, EVENTS, days=9, objects={}, shared=old), days=9)
    assert read == [old[0].key]
    assert (first.objects, first.bytes, first.trusted_objects, first.trusted_since) == (1, 400, 0, None)
    manifest = a_backup(catalog, EVENTS, days=8, objects={"mine": b"x"}, shared=[*old, *new])
    second, read = again(catalog, manifest, days=8)
    assert read == sorted([new[0].key, manifest.entries[0].key])
    assert (second.objects, second.bytes, second.trusted_objects, second.trusted_bytes) == (2, 801, 1, 400)
    assert second.trusted_since == days_ago(9)
    assert second.verdict is Verdict.PASS
    assert old[0].key not in second.read
    third, read = again(catalog, manifest, days=8, trust=None)
    assert (third.objects, third.trusted_objects) == (3, 0)


@pytest.mark.sabotage
@pytest.mark.parametrize("damage", ["replaced", "missing", "another size"])
def test_a_trusted_object_that_was_touched_is_read_and_found_out(catalog: Catalog, damage: str) -> None:
    (entry,) = shared(catalog, b"bytes " * 100)
    manifest = a_backup(catalog, EVENTS, objects={}, shared=[entry])
    assert again(catalog, manifest, days=1)[0].verdict is Verdict.PASS
    catalog.bucket.delete([entry.key])
    if damage != "missing":
        content = b"Bytes " * 100 if damage == "replaced" else b"bytes"
        catalog.bucket.create(entry.key, content)
    found, read = again(catalog, manifest, days=0.5)
    assert read == [entry.key]
    assert found.verdict is Verdict.FAIL


def test_a_manifest_that_names_another_digest_is_not_covered_by_the_reading(catalog: Catalog) -> None:
    (entry,) = shared(catalog, b"bytes " * 100)
    again(catalog, a_backup(catalog, EVENTS, days=2, objects={}, shared=[entry]), days=2)
    forged = msgspec.structs.replace(entry, sha256="0" * 64)
    found, read = again(catalog, a_backup(catalog, EVENTS, days=1, objects={}, shared=[forged]), days=1)
    assert read == [entry.key]
    assert found.verdict is Verdict.FAIL


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=12),
    st.lists(st.floats(0.2, 6), min_size=1, max_size=12),
    st.floats(0.01, 1),
)
def test_no_verdict_stands_on_a_reading_older_than_the_limit_and_what_is_due_is_spread(
    sizes: list[int], gaps: list[float], share: float
) -> None:
    trust = Trust(share=share)
    entries = [Entry(name=f"o{n}", key=f"o{n}", bytes=size, sha256=f"{n:064x}") for n, size in enumerate(sizes)]
    listed = {entry.key: StoredObject(entry.key, entry.bytes, NOW) for entry in entries}
    readings: dict[str, tuple[datetime, ReadBack]] = {}
    now = NOW
    for gap in gaps:
        chosen = choose(entries, listed, readings, trust, now=now)
        assert {*chosen.read} | {*chosen.trusted} == {*entries}
        assert not {*chosen.read} & {*chosen.trusted}
        assert all(now - readings[entry.key][0] < trust.limit for entry in chosen.trusted)
        early = [entry for entry in chosen.read if entry.key in readings and now - readings[entry.key][0] < trust.limit]
        assert sum(entry.bytes for entry in early) <= share * sum(sizes) + max(sizes)
        assert not [entry for entry in early if now - readings[entry.key][0] < trust.lasts]
        readings |= {entry.key: (now, ReadBack(entry.sha256, NOW)) for entry in chosen.read}
        now += timedelta(days=gap)
