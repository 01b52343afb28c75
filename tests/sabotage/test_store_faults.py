"""The object store fails while PostgreSQL is backed up: a clear error and nothing that counts, or a backup that is whole."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Unreachable
from include.engine.model import Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import PARTS_AT_ONCE, Bucket
from include.engine.store.sweep import sweep
from include.engine.store.uploads import abort_unfinished, unfinished_uploads
from include.engine.store.vault import VaultReader
from include.engine.store.verify import verify_backup
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.roles import BACKUP_ROLE
from include.engine.systems.postgres.server import PostgresServer
from tests.estate import eventually
from tests.faults import Wire
from tests.integration.postgres.taking import FIRST, TARGET, Taking, Watched, clock, environment

pytestmark = [pytest.mark.integration, pytest.mark.sabotage]

REFUSAL = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def role(sandbox: Sandbox) -> Iterator[Connection]:
    """The backup role of a server with some tens of megabytes that do not compress."""
    server = PostgresServer(sandbox, "storefaults").start()
    with server.connect() as connection:
        connection.execute("create table noise (bytes bytea)")
        connection.execute("alter table noise alter bytes set storage external")
        connection.execute(
            "insert into noise select sha512(i::text::bytea) || sha512((-i)::text::bytea) from generate_series(1, 300000) i"
        )
    yield Connection(
        host=server.host, port=server.port, login=BACKUP_ROLE, password=server.create_backup_role(), schema="postgres"
    )
    server.stop("immediate")


@pytest.fixture
def wire(object_store: ObjectStoreServer) -> Iterator[Wire]:
    where = urlsplit(object_store.endpoint)
    with Wire(str(where.hostname), int(where.port or 0)) as wire:
        yield wire


def through(wire: Wire, object_store: ObjectStoreServer, bucket: str, **extra: str) -> Bucket:
    return Bucket.open(
        f"s3://{bucket}/p",
        Connection(
            login=object_store.access_key,
            password=object_store.secret_key,
            extra={"endpoint_url": wire.endpoint, "region_name": object_store.region, **extra},
        ),
    )


def test_a_store_that_answers_500_now_and_then_gets_a_whole_backup(
    role: Connection, wire: Wire, object_store: ObjectStoreServer, bucket: str
) -> None:
    count = 0

    def every_third(first: bytes) -> bytes | None:
        nonlocal count
        count += 1
        return REFUSAL if count % 3 == 1 else None

    wire.verdict = every_third
    taking = Taking(role, through(wire, object_store, bucket))
    manifest = taking.catalog.commit(taking.take(full=True))

    assert count >= 3
    found = verify_backup(
        taking.catalog, VaultReader(taking.bucket), manifest, progress=Watched(), stop=Stop(), now=clock()
    )
    assert found.verdict is Verdict.PASS


def test_a_slow_store_gets_a_whole_backup(
    role: Connection, wire: Wire, object_store: ObjectStoreServer, bucket: str
) -> None:
    def slowly(_: bytes) -> None:
        time.sleep(0.3)

    wire.verdict = slowly
    wire.rate = 3_000_000.0
    taking = Taking(role, through(wire, object_store, bucket))
    began = time.monotonic()
    manifest = taking.catalog.commit(taking.take(full=True))
    assert manifest.bytes > 30_000_000
    # The backup goes at the pace of the store, part by part: nothing is given up, and nothing piles up.
    assert time.monotonic() - began > manifest.bytes / wire.rate / PARTS_AT_ONCE / 2
    found = verify_backup(
        taking.catalog, VaultReader(taking.bucket), manifest, progress=Watched(), stop=Stop(), now=clock()
    )
    assert found.verdict is Verdict.PASS


def test_a_store_that_dies_in_the_middle_leaves_nothing_that_counts_and_the_retry_is_whole(
    role: Connection, wire: Wire, object_store: ObjectStoreServer, bucket: str
) -> None:
    patience = {"max_retries": "1", "retry_seconds": "2", "timeout_seconds": "5"}
    taking = Taking(role, through(wire, object_store, bucket, **patience))
    dead = threading.Event()
    wire.verdict = lambda _: 0 if dead.is_set() else 20_000_000

    with pytest.raises(Unreachable, match="object store") as caught:
        taking.take(full=True, progress=Watched(when_moving=dead.set))
    assert "run can be repeated" in caught.value.hint

    wire.verdict = lambda _: None
    direct = through(wire, object_store, bucket)
    again = Taking(role, direct)
    assert again.catalog.backups(TARGET) == []
    manifest = again.catalog.commit(again.take(full=True))
    assert again.catalog.backup(TARGET, FIRST) == manifest
    swept = abort_unfinished(again.catalog, now=clock() + timedelta(days=3), dry_run=False)
    assert unfinished_uploads(direct) == []
    assert swept.spared == 0
    assert again.stored(again.entry(manifest, "backup_manifest.zst"))


def test_what_a_killed_backup_leaves_in_s3_is_swept_after_its_retry(
    role: Connection, object_store: ObjectStoreServer, bucket: str, wire: Wire
) -> None:
    direct = through(wire, object_store, bucket)
    keys = {"ACCESS": object_store.access_key, "SECRET": object_store.secret_key, "ENDPOINT": object_store.endpoint}
    slow = environment(role, direct.url, settings={"max_rate": 12 << 20})
    with subprocess.Popen([sys.executable, "-m", "tests.integration.postgres.taking"], env=slow | keys) as victim:
        eventually(lambda: unfinished_uploads(direct) or victim.poll() is not None, what="an upload is under way")
        victim.kill()
    (left,) = unfinished_uploads(direct)
    again = Taking(role, direct)
    assert again.catalog.backups(TARGET) == []
    manifest = again.catalog.commit(again.take(full=True))

    later = clock() + timedelta(days=3)
    assert abort_unfinished(again.catalog, now=later, dry_run=False).aborted == (left,)
    assert unfinished_uploads(direct) == []
    sweep(again.catalog, TARGET, clock=lambda: later, dry_run=False)
    found = verify_backup(again.catalog, VaultReader(direct), manifest, progress=Watched(), stop=Stop(), now=clock())
    assert found.verdict is Verdict.PASS


def test_a_worker_whose_clock_is_five_minutes_off_says_so_and_its_backup_is_whole(
    role: Connection, object_store: ObjectStoreServer, bucket: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.integration.postgres.taking.clock", lambda: clock() - timedelta(minutes=5))
    taking = Taking(role, through(wire, object_store, bucket))
    manifest = taking.catalog.commit(taking.take(full=True))

    assert any("clock" in note for note in manifest.notes)
    assert abs(manifest.detail["clock_ahead_seconds"] - 300) < 5
    # What recovery is compared with is the server's clock, not the worker's.
    assert abs((manifest.recoverable_to - clock()).total_seconds()) < 60
    found = verify_backup(
        taking.catalog, VaultReader(taking.bucket), manifest, progress=Watched(), stop=Stop(), now=clock()
    )
    assert found.verdict is Verdict.PASS
