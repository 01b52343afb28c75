"""An archive is read while its archiver goes on: what it replaces between listing and reading is no loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine.errors import Corrupt
from include.engine.model import Target
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.wal_objects import WalObject, fetch, list_wal, pack, partial_name, wal_key

TARGET = Target.parse("postgres/main")
SEGMENT = "000000010000000000000006"


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket.open(tmp_path.as_uri())


def store(bucket: Bucket, file: str, content: bytes) -> WalObject:
    key = wal_key(TARGET, file, encrypted=False)
    bucket.create(key, pack(content, ()))
    return next(wal for wal in list_wal(bucket, TARGET) if wal.key == key)


def test_a_part_that_gave_way_to_a_longer_one_is_read_from_it(bucket: Bucket) -> None:
    part = store(bucket, partial_name(SEGMENT, 4), b"1234")
    store(bucket, partial_name(SEGMENT, 6), b"123456")
    bucket.delete([part.key])
    assert fetch(bucket, part, ()) == b"1234"


def test_a_part_that_gave_way_to_its_segment_is_read_from_it(bucket: Bucket) -> None:
    part = store(bucket, partial_name(SEGMENT, 4), b"1234")
    store(bucket, SEGMENT, b"12345678")
    bucket.delete([part.key])
    assert fetch(bucket, part, ()) == b"1234"


def test_a_part_with_only_a_shorter_one_left_is_missing_and_named(bucket: Bucket) -> None:
    store(bucket, partial_name(SEGMENT, 2), b"12")
    part = store(bucket, partial_name(SEGMENT, 4), b"1234")
    bucket.delete([part.key])
    with pytest.raises(Corrupt, match=r"partial-4\.zst was listed and is missing now"):
        fetch(bucket, part, ())


def test_a_whole_segment_that_is_gone_is_missing_and_named(bucket: Bucket) -> None:
    segment = store(bucket, SEGMENT, b"12345678")
    store(bucket, partial_name(SEGMENT, 4), b"1234")
    bucket.delete([segment.key])
    with pytest.raises(Corrupt, match="was listed and is missing now"):
        fetch(bucket, segment, ())
