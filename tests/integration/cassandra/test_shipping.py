"""In which order commit log segments get into the archive: real shells and a real store, without a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Unreachable
from include.engine.systems.cassandra import transfer
from include.engine.systems.cassandra.archive import CommitLogArchive
from include.engine.systems.cassandra.commit_logs import Reach, by_node, reach
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.shipper import CommitLogShipper
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.faults import Wire
from tests.integration.cassandra.estate import TARGET, Told
from tests.integration.cassandra.shells import node, open_through
from tests.integration.cassandra.test_bad_days import is_upload, refusal

pytestmark = pytest.mark.integration

START = datetime(2026, 11, 23, 2, tzinfo=UTC)
OLD = int(START.timestamp() * 1000)  # the number of the first segment of a server that was started then,
NEW = OLD + 3_600_000  # and of the one that was started an hour later, after a crash


@pytest.fixture
def wire(object_store: ObjectStoreServer) -> Iterator[Wire]:
    with Wire(object_store.host, object_store.port) as wire:
        yield wire


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def link(directory: Path, number: int, minutes: int) -> None:
    path = directory / f"CommitLog-8-{number}.log"
    path.write_bytes(os.urandom(1000))
    os.utime(path, (at(minutes).timestamp(), at(minutes).timestamp()))


@pytest.mark.parametrize(
    ("lost", "until"),
    [(OLD + 1, 10), (NEW, 20), (NEW + 1, 70)],
    ids=["the end of the old life", "the beginning of the new one", "what follows"],
)
def test_nothing_is_stored_behind_a_gap_that_nobody_could_notice(
    wire: Wire,
    object_store: ObjectStoreServer,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: int,
    until: int,
) -> None:
    monkeypatch.setattr(transfer, "_PAUSE", 0.01)
    opened = open_through(wire, object_store, bucket)
    archive = CommitLogArchive(TARGET, opened)
    settings = Settings.model_validate({"connection": "c", "commitlog_archive": str(tmp_path)})
    shipper = CommitLogShipper(TARGET, settings, Connection(), opened, Told())

    def reached() -> Reach:
        return reach("h", by_node(archive.segments())["h"], at(15))

    link(tmp_path, OLD, 10)
    assert shipper._ship_from(node("h"), Stop()) == 1
    for number, minutes in ((OLD + 1, 20), (NEW, 70), (NEW + 1, 80), (NEW + 2, 90)):
        link(tmp_path, number, minutes)
    name = f"CommitLog-8-{lost}.log".encode()
    wire.verdict = lambda first: (
        refusal("500 Internal Server Error", "InternalError") if is_upload(first) and name in first else None
    )
    with pytest.raises(Unreachable, match="could not send 1 files"):
        shipper._ship_from(node("h"), Stop())
    assert reached().until == at(until)

    wire.verdict = lambda _: None
    shipper._ship_from(node("h"), Stop())
    assert (reached().until, reached().missing) == (at(90), ())
    assert list(tmp_path.iterdir()) == []
