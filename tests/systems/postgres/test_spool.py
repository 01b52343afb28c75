"""Recovery asks for one file after the other, and for some of them again."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from include.engine.store.bucket import Bucket
from include.engine.systems.postgres import spool as spools
from include.engine.systems.postgres.lsn import Segment
from include.engine.systems.postgres.spool import WalSpool
from include.engine.systems.postgres.wal_objects import WalObject, fetch
from tests.estate import eventually
from tests.systems.postgres.test_spool_gap import spool
from tests.systems.postgres.test_wal_sample import SIZE


def ask(found: WalSpool, number: int, where: Path) -> int:
    """Run the script as PostgreSQL does, and give what it ends with."""
    name = Segment(1, number, SIZE).name
    script = str(found.directory / "fetch")
    return subprocess.run([script, name, str(where / name)], check=False, timeout=60).returncode


def ahead(found: WalSpool, number: int) -> None:
    eventually((found.directory / "done" / Segment(1, number, SIZE).name).exists, what=f"{number} was fetched ahead")


def test_an_earlier_segment_that_is_asked_for_again_comes_though_a_later_one_had_been_fetched_ahead(
    tmp_path: Path,
) -> None:
    """As at the end of a recovery, which reads the last record's segment once more."""
    with spool(tmp_path, 2, 3, 4, 5, 6) as found:
        assert ask(found, 2, tmp_path) == 0
        for _ in range(10):
            ahead(found, 3)
            assert [ask(found, 3, tmp_path), ask(found, 2, tmp_path)] == [0, 0]


def test_what_is_fetched_ahead_is_fetched_once_and_always_some_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: Counter[str] = Counter()

    def counted(bucket: Bucket, wal: WalObject, identities: Sequence[str]) -> bytes:
        fetched[wal.name] += 1
        return fetch(bucket, wal, identities)

    monkeypatch.setattr(spools, "fetch", counted)
    numbers = range(1, 31)
    with spool(tmp_path, *numbers) as found:
        for number in numbers:
            assert ask(found, number, tmp_path) == 0
            if number < numbers[-1]:
                ahead(found, number + 1)
        eventually(lambda: found.served_bytes > 0 and not list((found.directory / "took").iterdir()))
    assert set(fetched.values()) == {1}
    assert len(fetched) == len(numbers)
