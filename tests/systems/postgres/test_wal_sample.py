"""The bytes of archived segments are read back: once when they are stored, and all of them within four weeks."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.engine.errors import Corrupt
from include.engine.model import System, Target, Verdict
from include.engine.store import encryption
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.archive import WalArchive
from include.engine.systems.postgres.lsn import Segment
from include.engine.systems.postgres.shipper import Shipper
from include.engine.systems.postgres.wal_objects import WalIdentity, claim, list_wal, pack, wal_key
from include.engine.systems.postgres.wal_sample import ROUND, due, read_back
from include.engine.verbs.upkeep import judge_age
from tests.store.making import overwrite, ticking

TARGET = Target(System.POSTGRES, "main")
SIZE = 1 << 20
NOW = datetime(2026, 11, 23, tzinfo=UTC)
IDENTITY = WalIdentity(system_identifier="7", wal_segment_size=SIZE)
MONTH = [NOW + timedelta(days=day) for day in range(ROUND)]


def content(segment: Segment) -> bytes:
    """A segment that begins as PostgreSQL's do."""
    return struct.pack("<HHIQI4xQI", 0xD116, 2, segment.timeline, segment.start, 0, 7, SIZE).ljust(SIZE, b"x")


def archive(bucket: Bucket, numbers: range, key: encryption.Key | None = None) -> None:
    claim(bucket, TARGET, IDENTITY)
    for number in numbers:
        segment = Segment(1, number, SIZE)
        recipients = (key.recipient,) if key else ()
        bucket.create(wal_key(TARGET, segment.name, encrypted=bool(key)), pack(content(segment), recipients))


def verdicts(bucket: Bucket, *identities: str) -> list[Verdict]:
    return [check.verdict for now in MONTH for check in read_back(bucket, TARGET, identities, now)]


def test_every_segment_has_its_turn_once_in_four_weeks(tmp_path: Path) -> None:
    bucket = Bucket.open(tmp_path.as_uri())
    archive(bucket, range(100))
    objects = list_wal(bucket, TARGET)
    turns = [[wal.name for wal in due(objects, now.toordinal())] for now in MONTH]
    assert sorted(name for turn in turns for name in turn) == [wal.name for wal in objects]
    assert max(len(turn) for turn in turns) < 20
    assert set(verdicts(bucket)) == {Verdict.PASS}


@pytest.mark.parametrize("damage", ["flipped", "swapped"])
def test_a_damaged_segment_is_found_on_its_day_and_named(tmp_path: Path, damage: str) -> None:
    bucket = Bucket.open(tmp_path.as_uri())
    archive(bucket, range(5))
    one, other = (list_wal(bucket, TARGET)[number].key for number in (1, 3))
    raw = bucket.read(one)
    overwrite(bucket, one, bucket.read(other) if damage == "swapped" else raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
    archived = WalArchive(TARGET, bucket)
    found = [check for now in MONTH for check in archived.read_back((), ticking(now))]
    assert [one in check.detail for check in found if check.verdict is Verdict.FAIL] == [True]


def test_a_sealed_archive_is_read_back_where_the_key_is(tmp_path: Path) -> None:
    bucket = Bucket.open(tmp_path.as_uri())
    key = encryption.generate_identity()
    archive(bucket, range(3), key)
    assert verdicts(bucket) == []
    assert set(verdicts(bucket, key.identity)) == {Verdict.PASS}
    victim = list_wal(bucket, TARGET)[1].key
    raw = bucket.read(victim)
    overwrite(bucket, victim, raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
    assert verdicts(bucket, key.identity).count(Verdict.FAIL) == 1


class Flipping(Bucket):
    """A store that damages what it is given."""

    def create(self, key: str, data: bytes) -> bool:
        return super().create(key, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if key.endswith(".zst") else data)


def test_a_segment_that_the_store_damages_does_not_leave_the_spool(tmp_path: Path) -> None:
    received = tmp_path / "spool" / "received"
    received.mkdir(parents=True)
    segment = Segment(1, 5, SIZE)
    (received / segment.name).write_bytes(content(segment))
    shipper = Shipper(
        Flipping.open((tmp_path / "bucket").as_uri()),
        TARGET,
        received,
        identity=IDENTITY,
        recipients=(),
        clock=lambda: NOW,
    )
    with pytest.raises(Corrupt, match=r"000000010000000000000005\.zst is not what was sent"):
        shipper.ship_closed(lambda: False)
    assert (received / segment.name).exists()


@pytest.mark.parametrize(
    ("minutes", "verdict"), [(0, Verdict.PASS), (15.9, Verdict.PASS), (16.1, Verdict.FAIL), (None, None)]
)
def test_the_last_statement_of_the_archiver_is_held_against_the_rpo(
    minutes: float | None, verdict: Verdict | None
) -> None:
    stated = None if minutes is None else NOW - timedelta(minutes=minutes)
    found = judge_age(stated, timedelta(minutes=15), NOW)
    assert [check.verdict for check in found] == ([] if verdict is None else [verdict])
