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
from include.engine.model import System, Target, encode
from include.engine.store import lease
from include.engine.store.bucket import Bucket
from include.engine.store.lease import CLOCK_TOLERANCE, LEASE, Lease, sweeping, turn

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


def test_an_heir_that_died_before_it_took_over_is_followed_by_the_next(empty: Bucket) -> None:
    """It has said that it removes the dead lease, and was killed before it did."""
    dead = held(empty)
    late = UNTIL + CLOCK_TOLERANCE
    heir = msgspec.structs.replace(dead, host=os.uname().nodename, pid=_gone(), started=late)
    name = f"{FOLDER}/ended-{dead.started:%Y%m%dT%H%M%S%f}-elsewhere-1.json"
    assert empty.create(name, encode(msgspec.structs.replace(heir, expires_at=late + CLOCK_TOLERANCE)))
    take(empty, late)
    take(empty, late)


def test_of_two_sweeps_that_find_a_dead_one_the_slower_does_not_end_the_other(
    empty: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(System.CASSANDRA, "events")
    late = UNTIL + CLOCK_TOLERANCE
    dead = Lease(folder=str(target), host="elsewhere", pid=1, started=NOW, expires_at=UNTIL)
    assert empty.create(f"{target}/sweep.json", encode(dead))
    with sweeping(empty, target, clock=lambda: late):
        # The slower one has read the dead lease before the faster one removed it.
        find = lease._find
        monkeypatch.setattr(lease, "_find", lambda b, key: dead if key.endswith("/sweep.json") else find(b, key))
        with pytest.raises(Contended, match="taking over"), sweeping(empty, target, clock=lambda: late):
            raise AssertionError
        assert empty.exists(f"{target}/sweep.json")


def _gone() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return ended.pid
