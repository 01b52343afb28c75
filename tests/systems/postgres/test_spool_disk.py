"""What ends a half of the archiver is told: none of them dies in silence while the other goes on."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import MainstayError, Unreachable
from include.engine.model import System, Target
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.receiver import Receiver
from include.engine.systems.postgres.spool_disk import unwritable, writing
from include.engine.systems.postgres.wal_archive import WalArchiver
from tests.estate import Quiet, clock

FULL = OSError(errno.ENOSPC, "No space left on device", "/spool/received/0001.partial")


def refuse(*_: object) -> Any:
    raise AssertionError


@pytest.fixture
def archiver(tmp_path: Path) -> WalArchiver:
    return WalArchiver(
        Target(System.POSTGRES, "main"),
        Bucket.open(f"file://{tmp_path}/bucket"),
        Connection(host="127.0.0.1", port=9),
        spool=tmp_path / "spool",
        slot="mainstay_wal",
        binaries=refuse,
        clock=clock,
        progress=Quiet(),
    )


def shipper(*errors: BaseException, stop: Stop) -> Any:
    """One that fails with each of *errors* in turn, and then asks for the end."""
    left = list(errors)

    def ship(_: object) -> int:
        if left:
            raise left.pop(0)
        stop.stop("the test is over")
        return 0

    return SimpleNamespace(
        ship_closed=ship, ship_partial=lambda: False, spool_bytes=0, shipped=0, state=None, stored_to=lambda: None
    )


def test_a_shipper_whose_spool_is_full_goes_on_when_there_is_room(archiver: WalArchiver) -> None:
    stop = Stop()
    archiver._ship_until(stop, shipper(FULL, FULL, stop=stop))
    assert stop.stopped


def test_whatever_else_ends_the_shipper_ends_the_archiver_with_that_error(archiver: WalArchiver) -> None:
    stop = Stop()
    with pytest.raises(ZeroDivisionError):
        archiver._ship_until(stop, shipper(ZeroDivisionError(), stop=stop))


@pytest.mark.parametrize(
    ("error", "told"),
    [(FULL, "the disk of the spool .* is full"), (ZeroDivisionError("what?"), "cannot be received: ZeroDivisionError")],
    ids=["a full disk", "what nobody expected"],
)
def test_a_receiver_that_cannot_begin_says_so_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    receiver = Receiver(Connection(), "slot", tmp_path, binaries=refuse, seed=lambda _, anew: None)
    stop = Stop()
    heard: list[MainstayError | None] = []

    def once(_: Stop) -> None:
        heard.append(receiver.error)
        if len(heard) == 2:
            stop.stop("the test is over")
        raise error

    monkeypatch.setattr(receiver, "_once", once)
    receiver.run(stop)
    assert heard[0] is None
    with pytest.raises(Unreachable, match=told):
        raise heard[1] or AssertionError


def test_what_pg_receivewal_says_of_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    receiver = Receiver(Connection(host="db1"), "slot", tmp_path, binaries=refuse, seed=lambda _, anew: None)
    said = (
        "pg_receivewal: starting log streaming at 0/3000000 (timeline 1)\n"
        'pg_receivewal: error: could not open write-ahead log file "000000010000000000000003": No space left on device'
    )
    found = receiver._diagnosed(said)
    assert "the disk of the spool" in found.message
    assert "db1" not in found.message


def test_other_trouble_with_the_spool_is_not_called_full(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"cannot be written: .*Permission denied"), writing(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert "is full" in unwritable(tmp_path, "write: Disk quota exceeded").message
