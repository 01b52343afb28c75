"""Who reads a backup keeps retention from it for as long as that takes, and no longer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from include.engine.errors import Unreachable
from include.engine.model import System, Target
from include.engine.store.bucket import Bucket
from include.engine.store.lease import CLOCK_TOLERANCE, Lease, live_leases, reading
from tests.estate import clock, eventually

TARGET = Target(System.CASSANDRA, "main")
BACKUP = "20261123T020000Z"
LASTS = timedelta(milliseconds=200)


def later(bucket: Bucket, first: Lease) -> Callable[[], list[Lease]]:
    """Give the leases that count when the first one does not any more, whatever the clocks of two machines differ by."""
    return lambda: list(live_leases(bucket, TARGET, first.expires_at + CLOCK_TOLERANCE).values())


def test_a_restore_that_takes_longer_than_was_agreed_still_keeps_its_backup() -> None:
    bucket = Bucket.open("memory://long-reading")
    with reading(bucket, TARGET, BACKUP, until=clock() + LASTS, clock=clock) as first:
        (found, *_) = eventually(later(bucket, first), within=10)
        assert found.folder.startswith(f"{TARGET}/backups/{BACKUP}/reading-")
        eventually(later(bucket, found), within=10)  # and so on
    assert [one.key for one in bucket.list()] == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reading ")]


def test_a_store_that_is_away_for_a_while_is_asked_again_before_the_lease_has_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = Bucket.open("memory://away-while-reading")
    create, tries = Bucket.create, []

    def away_at_first(self: Bucket, key: str, data: bytes) -> Any:
        tries.append(key)
        if 1 < len(tries) < 4:
            raise Unreachable("the store is away", hint="wait")
        return create(self, key, data)

    monkeypatch.setattr(Bucket, "create", away_at_first)
    with reading(bucket, TARGET, BACKUP, until=clock() + LASTS, clock=clock) as first:
        eventually(later(bucket, first), within=10)
    assert len(tries) >= 4
