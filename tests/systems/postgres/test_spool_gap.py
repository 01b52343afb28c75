"""A segment that vanishes while a restore runs is not the end of the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.engine.errors import NotFound
from include.engine.sandbox.accounts import ourselves
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.lsn import Segment
from include.engine.systems.postgres.spool import WalSpool
from include.engine.systems.postgres.wal_objects import pack, partial_name, wal_key
from tests.estate import eventually
from tests.systems.postgres.test_wal_sample import SIZE, TARGET, content

INSIDE = Segment(1, 4, SIZE)


@contextmanager
def spool(tmp_path: Path, *whole: int, part: int | None = None, inside: Segment | None = INSIDE) -> Iterator[WalSpool]:
    bucket = Bucket.open((tmp_path / "bucket").as_uri())
    for number in whole:
        segment = Segment(1, number, SIZE)
        bucket.create(wal_key(TARGET, segment.name, encrypted=False), pack(content(segment), ()))
    if part is not None:
        name = partial_name(Segment(1, part, SIZE).name, 4000)
        bucket.create(wal_key(TARGET, name, encrypted=False), pack(content(Segment(1, part, SIZE))[:4000], ()))
    with WalSpool(
        bucket, TARGET, tmp_path / "wal", account=ourselves(), segment_size=SIZE, system_identifier="7", inside=inside
    ) as found:
        yield found


def answer(found: WalSpool, number: int) -> str:
    """Ask for a segment, as PostgreSQL does; give what the script would end with."""
    name = Segment(1, number, SIZE).name
    (found.directory / "want" / name).touch()
    ends = {"served": f"done/{name}", "absent": f"absent/{name}", "stop": "failed"}
    return str(eventually(lambda: next((end for end, file in ends.items() if (found.directory / file).exists()), "")))


@pytest.mark.parametrize("part", [None, 5])
def test_a_segment_that_is_gone_or_cut_before_the_end_of_the_log_ends_the_recovery(
    tmp_path: Path, part: int | None
) -> None:
    with spool(tmp_path, 4, 6, 7, part=part) as found:
        assert answer(found, 4) == "served"
        assert answer(found, 5) == "stop"
        assert isinstance(found.failure, NotFound)
        assert Segment(1, 5, SIZE).name in found.failure.message


def test_the_end_of_the_log_is_the_end(tmp_path: Path) -> None:
    with spool(tmp_path, 4, 5, part=6) as found:
        assert [answer(found, number) for number in (5, 6, 7)] == ["served", "served", "absent"]
        assert found.failure is None


def test_what_the_backup_holds_itself_may_be_missing_and_so_may_what_was_known_to_be(tmp_path: Path) -> None:
    with spool(tmp_path, 5, 6) as found:
        assert answer(found, 4) == "absent"
    with spool(tmp_path / "known", 4, 6, inside=None) as found:
        assert answer(found, 5) == "absent"
