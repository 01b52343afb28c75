"""``verify`` reads what a backup needs of the log archive, finds damage there, and says what it has not read."""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import pytest

from include.engine.contracts import Stop
from include.engine.errors import Interrupted, Unreachable
from include.engine.model import Check, Manifest, SourceIdentity, Verdict
from include.engine.store import encryption
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.archive import WalArchive
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.lsn import Segment, format_lsn
from include.engine.systems.postgres.wal_needed import needed
from include.engine.systems.postgres.wal_objects import WalIdentity, claim, pack, partial_name, wal_key
from tests.store.making import overwrite
from tests.systems.postgres.test_choose_chain import TARGET, manifest

SIZE = 1 << 20
FIRST, LAST = 30, 32  # segments that the backup needs
KEY = encryption.generate_identity()


def taken() -> Manifest:
    """A backup that starts in the middle of one segment and stops in the middle of the third one."""
    plain = manifest(3)
    detail = msgspec.structs.replace(
        PostgresDetail.of(plain),
        start_lsn=format_lsn(FIRST * SIZE + 0x100),
        stop_lsn=format_lsn(LAST * SIZE + 0x200),
        wal_segment_bytes=SIZE,
    )
    source = SourceIdentity(identity="7", version="17.10")
    return msgspec.structs.replace(plain, source=source, detail=msgspec.to_builtins(detail))


def content(number: int, size: int = SIZE) -> bytes:
    """A segment that begins as PostgreSQL's do."""
    return struct.pack("<HHIQI4xQI", 0xD116, 2, 1, number * SIZE, 0, 7, SIZE).ljust(size, b"x")


def key(number: int, *, encrypted: bool = False) -> str:
    return wal_key(TARGET, Segment(1, number, SIZE).name, encrypted=encrypted)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    bucket = Bucket.open(tmp_path.as_uri())
    claim(bucket, TARGET, WalIdentity(system_identifier="7", wal_segment_size=SIZE))
    return bucket


def archive(bucket: Bucket, *numbers: int, recipients: tuple[str, ...] = ()) -> None:
    for number in numbers:
        bucket.create(key(number, encrypted=bool(recipients)), pack(content(number), recipients))


def look(bucket: Bucket, *identities: str, stop: Stop | None = None) -> dict[str, Check]:
    found = WalArchive(TARGET, bucket).read_log_of(taken(), identities, (stop or Stop()).check)
    return {check.name: check for check in found}


def test_the_segments_from_start_to_stop_are_needed() -> None:
    assert [segment.number for segment in needed(PostgresDetail.of(taken()))] == [FIRST, 31, LAST]


def test_all_of_them_are_read_and_the_log_is_followed_to_its_end(bucket: Bucket) -> None:
    archive(bucket, *range(28, 36))
    part = content(36, 5000)
    bucket.create(wal_key(TARGET, partial_name(Segment(1, 36, SIZE).name, 5000), encrypted=False), pack(part, ()))
    found = look(bucket)
    assert {name: check.verdict for name, check in found.items()} == {
        "log": Verdict.PASS,
        "log from there on": Verdict.PASS,
    }
    assert found["log"].detail.startswith("3 archived segments from")
    assert format_lsn(36 * SIZE + 5000) in found["log from there on"].detail


@pytest.mark.sabotage
@pytest.mark.parametrize("number", [FIRST, 31, LAST])
@pytest.mark.parametrize("damage", ["flipped", "swapped", "truncated"])
def test_a_damaged_one_is_named(bucket: Bucket, number: int, damage: str) -> None:
    archive(bucket, *range(30, 36))
    raw = bytearray(bucket.read(key(number)))
    raw[len(raw) // 2] ^= 1
    overwrite(
        bucket,
        key(number),
        {"flipped": bytes(raw), "swapped": pack(content(35), ()), "truncated": bytes(raw[:-9])}[damage],
    )
    found = look(bucket)["log"]
    assert found.verdict is Verdict.FAIL
    assert key(number) in found.detail


@pytest.mark.sabotage
def test_damage_before_the_backup_and_far_behind_it_is_not_this_backups(bucket: Bucket) -> None:
    archive(bucket, *range(28, 36))
    for number in (29, 33):
        overwrite(bucket, key(number), b"damaged")
    assert look(bucket)["log"].verdict is Verdict.PASS


def test_a_gap_behind_the_backup_is_told_and_is_no_damage_of_it(bucket: Bucket) -> None:
    archive(bucket, 30, 31, 32, 34)
    found = look(bucket)
    assert found["log"].verdict is Verdict.PASS
    assert found["log from there on"].verdict is Verdict.FAIL
    assert Segment(1, 33, SIZE).name in found["log from there on"].detail


def test_what_is_in_the_backup_alone_was_not_read_here_and_that_is_said(bucket: Bucket) -> None:
    """The archiver began while the backup was taken: recovery takes what is missing from the backup itself."""
    archive(bucket, 20)
    found = look(bucket)
    assert set(found) == {"log from there on"}
    assert found["log from there on"].verdict is Verdict.UNVERIFIED
    assert "read in the backup alone" in found["log from there on"].detail


def test_an_encrypted_log_is_read_with_the_key_and_without_it_that_is_said(bucket: Bucket) -> None:
    archive(bucket, *range(30, 36), recipients=(KEY.recipient,))
    assert look(bucket, KEY.identity)["log"].verdict is Verdict.PASS
    blind = look(bucket)
    assert "log" not in blind
    assert "was not read: it is encrypted, and no key is at hand" in blind["log from there on"].detail
    other = look(bucket, encryption.generate_identity().identity)
    assert other["log"].verdict is Verdict.UNVERIFIED


def test_a_store_that_does_not_answer_leaves_it_unverified(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(bucket, *range(30, 36))
    read = Bucket.read

    def failing(self: Bucket, wanted: str) -> bytes:
        if wanted == key(31):
            raise Unreachable("the object store failed", hint="wait")
        return read(self, wanted)

    monkeypatch.setattr(Bucket, "read", failing)
    assert look(bucket)["log"].verdict is Verdict.UNVERIFIED


def test_nothing_is_said_when_nothing_was_ever_archived(bucket: Bucket) -> None:
    assert look(bucket) == {}


def test_a_stop_ends_it(bucket: Bucket) -> None:
    archive(bucket, *range(30, 36))
    stop = Stop()
    stop.stop("SIGTERM")
    with pytest.raises(Interrupted):
        look(bucket, stop=stop)
