"""On this machine one restore is done once at a time, and what killed ones left goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.engine.errors import Contended
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Home
from include.engine.systems.cassandra.staging import alone


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(root=tmp_path, account=ourselves())


def now() -> datetime:
    return datetime.now(UTC)


def test_the_same_restore_waits_and_another_one_does_not(home: Home) -> None:
    with alone(home, "one", now()) as first, alone(home, "two", now()) as second:
        assert first != second
        with pytest.raises(Contended, match="does the same restore"), alone(home, "one", now()):
            pass
    with alone(home, "one", now()) as again:
        assert again == first


def test_what_was_left_a_day_ago_goes_unless_it_is_in_use(home: Home) -> None:
    with alone(home, "left", now()) as left, alone(home, "used", now()) as used, alone(home, "mine", now()) as mine:
        for place in (left, used, mine):
            (place / "host").mkdir(parents=True)
            (place / "host" / "rows").write_bytes(b"rows")
    assert left.parent.stat().st_mode & 0o777 == 0o700
    with alone(home, "used", now()):
        with alone(home, "mine", now() + timedelta(hours=23)):
            assert left.exists()
        with alone(home, "mine", now() + timedelta(hours=25)):
            assert (left.exists(), used.exists(), mine.exists()) == (False, True, True)
