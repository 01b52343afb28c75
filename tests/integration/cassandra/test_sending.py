"""How nodes send their files: real shells, real curl and a real store, without a cluster."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.store.bucket import Bucket
from include.engine.systems.cassandra.backup import CassandraSource
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.faults import Wire
from tests.integration.cassandra.estate import TARGET
from tests.integration.cassandra.shells import Dying, dead, job, open_through, share, shell
from tests.integration.cassandra.test_bad_days import is_upload

pytestmark = pytest.mark.integration


@pytest.fixture
def wire(object_store: ObjectStoreServer) -> Iterator[Wire]:
    with Wire(object_store.host, object_store.port) as wire:
        yield wire


@pytest.fixture
def opened(wire: Wire, object_store: ObjectStoreServer, bucket: str) -> Bucket:
    return open_through(wire, object_store, bucket)


def source(**settings: object) -> CassandraSource:
    return CassandraSource(TARGET, Settings.model_validate({"connection": "c", **settings}), Connection())


def files(directory: Path, count: int, size: int) -> list[Path]:
    directory.mkdir()
    paths = [directory / f"da-{n}-bti-Data.db" for n in range(count)]
    for path in paths:
        path.write_bytes(os.urandom(size))
    return paths


def test_a_node_that_dies_ends_the_sending_of_the_others_and_a_retry_goes_on(
    wire: Wire, opened: Bucket, tmp_path: Path
) -> None:
    here, there = files(tmp_path / "alive", 3, 8 << 20), files(tmp_path / "dead", 2, 1000)
    wire.rate = 100_000  # bytes a second: the node that lives has more than a minute to go
    began = time.monotonic()
    first = job(opened)
    with pytest.raises(Unreachable, match="ssh to dead failed"):
        source()._send(first, [share("alive", shell("alive"), here), share("dead", dead("dead"), there)], {})
    assert time.monotonic() - began < 30
    assert not first.stop.stopped

    wire.rate = None
    again = job(opened)
    shares = [share("alive", shell("alive"), here), share("dead", shell("dead"), there)]
    sent = source()._send(again, shares, again.shared.stored())
    assert sent.bytes + sum(first.shared.stored().values()) >= 3 * (8 << 20) + 2 * 1000
    assert sorted(again.shared.stored().values()) == [1000] * 2 + [8 << 20] * 3


def test_no_upload_in_parts_is_left_when_a_later_file_cannot_be_read(
    opened: Bucket, object_store: ObjectStoreServer, bucket: str, tmp_path: Path
) -> None:
    large = files(tmp_path / "large", 2, 6 << 20)
    with pytest.raises(Unreachable, match="ssh to n failed"):
        source(multipart_above="5MiB")._send(job(opened), [share("n", Dying("n", 1), large)], {})
    assert "Uploads" not in object_store.client().list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("at_once", [1, 3])
def test_as_many_files_as_the_inventory_says_are_sent_at_the_same_time(
    wire: Wire, opened: Bucket, tmp_path: Path, at_once: int
) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def meeting(first: bytes) -> None:
        """Hold each connection that begins an upload for a while, and see how many are held together."""
        nonlocal now, most
        if not is_upload(first):
            return
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.7)
        with lock:
            now -= 1

    wire.verdict = meeting
    work = job(opened)
    source(uploads_at_once=at_once)._send(work, [share("n", shell("n"), files(tmp_path / "f", 9, 50_000))], {})
    assert len(work.shared.stored()) == 9
    assert most == at_once
