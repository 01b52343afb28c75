"""The S3 server of machines without Go, SeaweedFS: what Mainstay needs of a store, and a backup that comes back from it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Unauthorized
from include.engine.model import Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import PART_BYTES, Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.expiry import plan_expiry
from include.engine.store.locks import LockMode, ObjectLocks
from include.engine.store.retention import Policy
from include.engine.store.uploads import abort_unfinished, unfinished_uploads
from include.engine.store.vault import VaultReader, VaultWriter
from include.engine.store.verify import verify_backup
from include.engine.systems.object_store.implementations import VARIABLE
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.server import PostgresServer
from tests.estate import TARGET, Estate, Quiet, clock
from tests.store.making import MAIN, NOW, a_backup, a_night
from tests.store.test_on_s3 import ATTEMPT, begin, broken_off, connection, in_days

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def weed(sandbox: Sandbox) -> Iterator[ObjectStoreServer]:
    """Installed as ``./mainstay demo`` installs it where there is no Go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "seaweedfs")
        server = ObjectStoreServer(sandbox, "seaweedfs").start()
    assert server.implementation == "seaweedfs"
    yield server
    server.kill()


def opened(server: ObjectStoreServer, name: str) -> Bucket:
    """A prefix of its own in a bucket of the server."""
    return Bucket.open(f"s3://{name}/{uuid.uuid4().hex[:8]}", connection(server))


@pytest.fixture
def store(weed: ObjectStoreServer) -> Bucket:
    return opened(weed, weed.create_bucket("plain"))


def test_a_backup_is_taken_verified_rolled_forward_and_swept_after(
    weed: ObjectStoreServer, store: Bucket, sandbox: Sandbox, tmp_path: Path
) -> None:
    server = PostgresServer(sandbox, "onweed").start()
    estate = Estate(server, store, tmp_path / "spool")
    estate.sql("create table history as select n, md5(n::text) from generate_series(1, 200000) n")
    with estate.archiving():
        manifest = estate.backup()
        estate.sql("insert into history values (200001, 'later')")
        estate.archived()
    server.stop("immediate")

    found = verify_backup(estate.catalog, VaultReader(store), manifest, progress=Quiet(), stop=Stop(), now=clock())
    log = estate.archive.read_log_of(manifest, (), Stop().check)
    restored = estate.restore(sandbox.directory("onweed") / "data")

    assert found.verdict is Verdict.PASS
    assert {check.verdict for check in log} == {Verdict.PASS}
    assert restored.verdict is Verdict.PASS
    with estate.serving(sandbox.directory("onweed") / "data", "onweed") as connection:
        assert connection.execute("select count(*) from history").fetchone() == (200001,)
    assert unfinished_uploads(store) == []
    assert estate.catalog.delete(TARGET, manifest.id) == ()
    assert estate.catalog.backups(TARGET) == []


def test_an_object_of_several_parts_comes_back_as_it_was(store: Bucket) -> None:
    content = bytes(range(256)) * 4096
    entry = VaultWriter(store, ATTEMPT).write("x", [content] * (2 * PART_BYTES // len(content) + 1))
    assert sum(len(chunk) for chunk in VaultReader(store).stored(entry)) == entry.bytes


def test_uploads_that_never_ended_are_found_and_aborted_when_old(store: Bucket) -> None:
    begin(store, f"{ATTEMPT}/x")
    (found,) = unfinished_uploads(store)
    assert (found.key, found.bytes) == (f"{ATTEMPT}/x", 1000)
    assert abort_unfinished(Catalog(store), now=in_days(1), dry_run=False).spared == 1
    assert abort_unfinished(Catalog(store), now=in_days(3), dry_run=False).aborted == (found,)
    assert unfinished_uploads(store) == []


def test_a_backup_that_is_stopped_leaves_no_part_of_its_upload(store: Bucket) -> None:
    with pytest.raises(KeyError):
        VaultWriter(store, ATTEMPT).write("x", broken_off())
    assert unfinished_uploads(store) == []


def test_of_twenty_that_create_one_object_at_once_exactly_one_wins(store: Bucket) -> None:
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda n: store.create("a/manifest.json", b"%d" % n), range(20)))
    assert made.count(True) == 1
    assert store.read("a/manifest.json") == b"%d" % made.index(True)
    assert not store.create("a/manifest.json", b"again")


def test_a_locked_object_stays_and_expiry_leaves_its_backup_alone(weed: ObjectStoreServer) -> None:
    store = opened(weed, weed.create_bucket("locked", object_lock=True))
    catalog, locks = Catalog(store), ObjectLocks.of(store, mode=LockMode.COMPLIANCE)
    old = a_backup(catalog, days=30)
    a_night(catalog, days=1)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    key = catalog.manifest_key(MAIN, old.id)
    locks.lock([key], until)
    assert locks.locked_until(key) == until
    held = plan_expiry(catalog, Policy(redundancy=1), min(NOW, datetime.now(UTC)), locked_until=locks.locked_until)
    assert held.delete == ()
    assert "is locked until" in held.cannot[0]
    free = plan_expiry(catalog, Policy(redundancy=1), in_days(1), locked_until=locks.locked_until)
    assert [one.backup for one in free.delete] == [old.id]


def test_a_wrong_secret_is_unauthorized(weed: ObjectStoreServer, store: Bucket) -> None:
    wrong = Connection(
        login=weed.access_key,
        password="WRONGSECRET",
        extra={"endpoint_url": weed.endpoint, "region_name": weed.region, "max_retries": "1", "retry_seconds": "2"},
    )
    with pytest.raises(Unauthorized) as caught:
        Bucket.open(store.url, wrong).create("x", b"1")
    assert "WRONGSECRET" not in str(caught.value)
