"""One at a time: whose turn it is, and who may take it over."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from include.engine.errors import Contended
from include.engine.model import encode
from include.engine.store.bucket import Bucket
from include.engine.store.lease import CLOCK_TOLERANCE, LEASE, Lease, turn

FOLDER = "loads/running"
NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
UNTIL = NOW + timedelta(hours=1)


def held(bucket: Bucket, **changes: object) -> Lease:
    lease = Lease(folder=FOLDER, host="elsewhere", pid=1, started=NOW, expires_at=UNTIL)
    lease = msgspec.structs.replace(lease, **changes)
    assert bucket.create(f"{FOLDER}/{LEASE}", encode(lease))
    return lease


def take(bucket: Bucket, now: datetime = NOW) -> None:
    with (
        turn(bucket, FOLDER, until=now + timedelta(hours=1), clock=lambda: now),
        pytest.raises(Contended),
        turn(bucket, FOLDER, until=now + timedelta(hours=2), clock=lambda: now),
    ):
        pass


@pytest.fixture
def empty(tmp_path: Path) -> Bucket:
    return Bucket.open(f"file://{tmp_path}")


def test_a_turn_is_given_back_also_after_an_error(empty: Bucket) -> None:
    with pytest.raises(ZeroDivisionError), turn(empty, FOLDER, until=UNTIL, clock=lambda: NOW):
        raise ZeroDivisionError
    take(empty)
    take(empty)


def test_a_lease_of_another_machine_holds_until_it_runs_out(empty: Bucket) -> None:
    held(empty)
    with pytest.raises(Contended, match="elsewhere"):
        take(empty)
    take(empty, UNTIL + CLOCK_TOLERANCE)


def test_a_lease_of_this_machine_is_taken_over_when_its_process_is_gone_and_not_before(empty: Bucket) -> None:
    alive = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    held(empty, host=os.uname().nodename, pid=alive.pid)
    with pytest.raises(Contended):
        take(empty)
    alive.kill()
    alive.communicate()
    take(empty)


def test_only_one_of_two_heirs_takes_over(empty: Bucket) -> None:
    """The other one has seen the dead lease too, and comes to remove it when the first one's is there already."""
    dead = held(empty)
    late = UNTIL + CLOCK_TOLERANCE
    take(empty, late)
    held(empty)  # what the slower heir has read
    with pytest.raises(Contended, match="taking over"):
        take(empty, late)
    assert dead.host == "elsewhere"
