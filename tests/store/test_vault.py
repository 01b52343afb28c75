"""What a backup stored is hashed on the way in, compared on the way out, and every kind of damage is named."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

import pytest

from include.engine.errors import Corrupt, Refused, Unauthorized, Unsupported
from include.engine.model import Encryption, Entry
from include.engine.store.bucket import RANGE_BYTES, Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.encryption import generate_identity
from include.engine.store.vault import VaultReader, VaultWriter
from tests.store.making import a_backup, memory_catalog, overwrite

KEY, OTHER = generate_identity(), generate_identity()


@pytest.fixture
def catalog() -> Catalog:
    return memory_catalog()


@pytest.fixture
def bucket(catalog: Catalog) -> Bucket:
    return catalog.bucket


def test_an_entry_says_what_is_stored(bucket: Bucket) -> None:
    entry = VaultWriter(bucket, "t/b/a1").write("x.tar", [b"one", b"", b"two"], original_bytes=lambda: 60)
    assert entry == Entry(
        name="x.tar", key="t/b/a1/x.tar", bytes=6, sha256=hashlib.sha256(b"onetwo").hexdigest(), original_bytes=60
    )
    assert b"".join(VaultReader(bucket).read(entry)) == b"onetwo"


def test_an_entry_of_an_encrypted_object_is_of_its_ciphertext(bucket: Bucket) -> None:
    writer = VaultWriter(bucket, "t/b/a1", recipients=[KEY.recipient])
    entry = writer.write("x.tar", [b"secret"])
    raw = bucket.read(entry.key)
    assert entry.key == "t/b/a1/x.tar.age"
    assert (entry.bytes, entry.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert b"secret" not in raw
    assert writer.encryption == Encryption(scheme="age", key_ids=(KEY.recipient,))


@pytest.mark.parametrize("recipients", [(), (KEY.recipient,)], ids=["clear", "encrypted"])
@pytest.mark.parametrize("size", [0, 1, RANGE_BYTES, RANGE_BYTES + 1, 3 * RANGE_BYTES + 5])
def test_objects_of_any_size_come_back(bucket: Bucket, recipients: tuple[str, ...], size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    entry = VaultWriter(bucket, "t/b/a1", recipients=recipients).write("x", [content])
    assert b"".join(VaultReader(bucket, identities=[KEY.identity]).read(entry)) == content


def test_a_name_is_written_once_in_an_attempt(bucket: Bucket) -> None:
    writer = VaultWriter(bucket, "t/b/a1")
    writer.write("x", [b"1"])
    with pytest.raises(Refused, match="t/b/a1/x was written"):
        writer.write("x", [b"2"])
    assert bucket.read("t/b/a1/x") == b"1"


def test_a_name_that_looks_encrypted_is_refused(bucket: Bucket) -> None:
    with pytest.raises(Refused, match="ends like"):
        VaultWriter(bucket, "t/b/a1").write("x.age", [b""])


def test_several_threads_write_at_once(bucket: Bucket) -> None:
    writer = VaultWriter(bucket, "t/b/a1")
    threads = [threading.Thread(target=writer.write, args=(f"part{n}", [b"%d" % n])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name: bucket.read(entry.key) for entry in writer.written} == {f"part{n}": b"%d" % n for n in range(8)}


def _missing(bucket: Bucket, key: str) -> None:
    bucket.delete([key])


def _truncated(bucket: Bucket, key: str) -> None:
    overwrite(bucket, key, bucket.read(key)[:-1])


def _flipped(bucket: Bucket, key: str) -> None:
    raw = bytearray(bucket.read(key))
    raw[len(raw) // 2] ^= 0x10
    overwrite(bucket, key, bytes(raw))


def _swapped(bucket: Bucket, key: str) -> None:
    overwrite(bucket, key, bucket.read(key.replace("one", "two")))


@pytest.mark.parametrize("recipients", [(), (KEY.recipient,)], ids=["clear", "encrypted"])
@pytest.mark.parametrize("damage", [_missing, _truncated, _flipped, _swapped])
def test_every_damage_is_corrupt_and_names_the_object(
    catalog: Catalog, damage: Callable[[Bucket, str], None], recipients: tuple[str, ...]
) -> None:
    content = bytes(range(256)) * 1000
    manifest = a_backup(catalog, objects={"one": content, "two": content[::-1]}, recipients=recipients)
    entry = manifest.entries[0]
    damage(catalog.bucket, entry.key)
    reader = VaultReader(catalog.bucket, identities=[KEY.identity], manifests=[manifest])
    with pytest.raises(Corrupt, match=entry.key):
        list(reader.read(entry))


def test_only_the_escrowed_key_is_needed(catalog: Catalog) -> None:
    manifest = a_backup(catalog, recipients=[OTHER.recipient, KEY.recipient])
    escrowed = VaultReader(catalog.bucket, identities=[KEY.identity], manifests=[manifest])
    assert b"".join(escrowed.read(manifest.entries[0])) == b"rows " * 100


def test_a_missing_key_is_named_by_its_id_before_anything_is_fetched(catalog: Catalog) -> None:
    manifest = a_backup(catalog, recipients=[KEY.recipient])
    catalog.bucket.delete([manifest.entries[0].key])
    reader = VaultReader(catalog.bucket, identities=[OTHER.identity], manifests=[manifest])
    with pytest.raises(Unauthorized) as caught:
        list(reader.read(manifest.entries[0]))
    assert KEY.recipient in caught.value.hint


def test_each_backup_of_a_chain_is_opened_by_its_own_key(catalog: Catalog) -> None:
    chain = [a_backup(catalog, days=n, recipients=[key.recipient]) for n, key in ((2, OTHER), (1, KEY))]
    reader = VaultReader(catalog.bucket, identities=[KEY.identity, OTHER.identity], manifests=chain)
    assert [b"".join(reader.read(m.entries[0])) for m in chain] == [b"rows " * 100] * 2


def test_an_unknown_scheme_is_unsupported(catalog: Catalog) -> None:
    import msgspec

    manifest = a_backup(catalog, recipients=[KEY.recipient])
    strange = msgspec.structs.replace(manifest, encryption=Encryption(scheme="rot13", key_ids=("k",)))
    with pytest.raises(Unsupported, match="rot13"):
        VaultReader(catalog.bucket, manifests=[strange])
