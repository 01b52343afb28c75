"""A full disk is told as one, by whichever words a system says it, wherever they are heard."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from include.engine.contracts import Connection
from include.engine.errors import Incomplete, PermanentError, Unreachable
from include.engine.full_disks import FULL
from include.engine.model import PointKind, RecoveryPoint
from include.engine.store.failures import explained
from include.engine.systems.cassandra.control import Jolokia
from include.engine.systems.postgres.load import failure_of
from include.engine.systems.postgres.recovery import explain
from include.engine.systems.postgres.spool_disk import unwritable
from include.engine.systems.postgres.untar import full_or_broken

LATEST = RecoveryPoint(kind=PointKind.LATEST)
WORDS = pytest.mark.parametrize("words", FULL)


@WORDS
def test_by_a_server_that_recovers_and_by_what_unpacks(words: str, tmp_path: Path) -> None:
    for found in (
        explain(f"FATAL:  could not write to file: {words}", LATEST, tmp_path),
        full_or_broken(tmp_path, words),
    ):
        assert isinstance(found, Incomplete)
        assert f"the disk of {tmp_path} is full" in found.message
        assert words in found.message


@WORDS
def test_by_the_spool_of_an_archiver(words: str, tmp_path: Path) -> None:
    assert f"the disk of the spool {tmp_path} is full" in unwritable(tmp_path, f"write: {words}").message


@WORDS
def test_by_a_node_of_cassandra(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = msgspec.json.encode({"status": 500, "error": f"FSWriteError : {words}"})
    monkeypatch.setattr(Jolokia, "_exchange", lambda *_, **__: (200, body))
    with pytest.raises(PermanentError) as told:
        Jolokia("node", 8778, Connection()).answer()
    assert "free space" in told.value.hint


@WORDS
def test_by_the_store(words: str) -> None:
    assert "the store is full" in explained(OSError(words), "file:///srv", "k").hint


def test_by_a_store_that_says_it_in_another_language() -> None:
    assert "the store is full" in explained(OSError("Kein Platz frei (os error 28)"), "file:///srv", "k").hint


@WORDS
def test_by_a_server_under_load(words: str) -> None:
    assert type(failure_of(2, f"ERROR:  {words}", Connection(host="db"))) is Unreachable


def test_other_trouble_with_a_disk_is_not_called_full(tmp_path: Path) -> None:
    assert "cannot be written" in full_or_broken(tmp_path, "Read-only file system in this namespace").message
