"""What only S3 has: uploads that never ended, object lock, and errors of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Connection
from include.engine.errors import NotFound, Unauthorized, Unsupported
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.expiry import apply, plan_expiry
from include.engine.store.lease import hold
from include.engine.store.locks import LockMode, ObjectLocks
from include.engine.store.retention import Policy
from include.engine.store.s3 import s3_of
from include.engine.store.uploads import abort_unfinished, unfinished_uploads
from include.engine.store.vault import VaultWriter
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.store.making import DAY, MAIN, NOW, a_backup, a_night

pytestmark = pytest.mark.integration
ATTEMPT = f"{MAIN}/backups/20261123T000000Z/a1"


def connection(server: ObjectStoreServer, **more: str) -> Connection:
    return Connection(
        login=server.access_key,
        password=more.get("password", server.secret_key),
        extra={"endpoint_url": server.endpoint, "region_name": server.region},
    )


@pytest.fixture
def store(object_store: ObjectStoreServer, bucket: str) -> Bucket:
    return Bucket.open(f"s3://{bucket}/prefix", connection(object_store))


@pytest.fixture
def lockable(object_store: ObjectStoreServer, bucket: str) -> Bucket:
    name = object_store.create_bucket(f"{bucket[:55]}-lock", object_lock=True)
    return Bucket.open(f"s3://{name}/prefix", connection(object_store))


def begin(store: Bucket, key: str, *, elsewhere: bool = False) -> None:
    """Begin a multipart upload of one part and walk away, as a killed process does."""
    s3 = s3_of(store)
    name = key if elsewhere else s3.key(key)
    upload = s3.client.create_multipart_upload(Bucket=s3.bucket, Key=name)["UploadId"]
    s3.client.upload_part(Bucket=s3.bucket, Key=name, UploadId=upload, PartNumber=1, Body=bytes(1000))


def broken_off() -> Iterator[bytes]:
    """Give enough for several parts, and fail."""
    yield bytes(40 << 20)
    raise KeyError


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def test_uploads_that_never_ended_are_found_and_aborted_when_old(store: Bucket) -> None:
    catalog = Catalog(store)
    begin(store, f"{ATTEMPT}/x")
    begin(store, "another/pipeline", elsewhere=True)
    (found,) = unfinished_uploads(store)
    assert (found.key, found.bytes) == (f"{ATTEMPT}/x", 1000)
    assert abort_unfinished(catalog, now=in_days(1), dry_run=False).spared == 1
    assert abort_unfinished(catalog, now=in_days(3)).bytes == 1000
    assert unfinished_uploads(store)
    assert abort_unfinished(catalog, now=in_days(3), dry_run=False).aborted == (found,)
    assert unfinished_uploads(store) == []


def test_the_upload_of_a_running_attempt_is_left_alone(store: Bucket) -> None:
    begin(store, f"{ATTEMPT}/x")
    with hold(store, ATTEMPT, until=in_days(9), clock=lambda: in_days(0)):
        assert abort_unfinished(Catalog(store), now=in_days(5), dry_run=False).spared == 1
    assert abort_unfinished(Catalog(store), now=in_days(5), dry_run=False).spared == 0


def test_an_upload_whose_source_failed_leaves_nothing_that_is_not_found(store: Bucket) -> None:
    with pytest.raises(KeyError):
        store.upload(f"{ATTEMPT}/x", broken_off())
    abort_unfinished(Catalog(store), now=in_days(3), dry_run=False)
    assert unfinished_uploads(store) == []


def test_a_backup_that_is_stopped_leaves_no_part_of_its_upload(store: Bucket) -> None:
    with pytest.raises(KeyError):
        VaultWriter(store, ATTEMPT).write("x", broken_off())
    assert unfinished_uploads(store) == []


def test_wrong_credentials_are_unauthorized_here_too(object_store: ObjectStoreServer, bucket: str) -> None:
    wrong = Bucket.open(f"s3://{bucket}", connection(object_store, password="WRONGSECRET"))
    with pytest.raises(Unauthorized) as caught:
        unfinished_uploads(wrong)
    assert "WRONGSECRET" not in str(caught.value)


def test_a_lock_can_be_set_read_and_only_made_longer(lockable: Bucket) -> None:
    locks = ObjectLocks.of(lockable, mode=LockMode.GOVERNANCE)
    lockable.create("a", b"1")
    assert locks.locked_until("a") is None
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    locks.lock(["a"], until)
    assert locks.locked_until("a") == until
    locks.lock(["a"], until - timedelta(minutes=30))
    assert locks.locked_until("a") == until
    locks.lock(["a"], until + DAY)
    assert locks.locked_until("a") == until + DAY


def test_what_is_not_there_has_no_lock_and_gets_none(lockable: Bucket) -> None:
    locks = ObjectLocks.of(lockable)
    assert locks.locked_until("no/such") is None
    with pytest.raises(NotFound, match="no/such"):
        locks.lock(["no/such"], in_days(1))


def test_a_bucket_without_object_lock_says_so(store: Bucket) -> None:
    locks = ObjectLocks.of(store)
    store.create("a", b"1")
    assert locks.locked_until("a") is None
    with pytest.raises(Unsupported, match="made without object lock"):
        locks.lock(["a"], in_days(1))


def test_other_stores_have_no_locks(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="not an S3 store"):
        ObjectLocks.of(Bucket.open(tmp_path.as_uri()))


def test_expiry_honours_a_lock_and_takes_the_backup_when_it_is_over(lockable: Bucket) -> None:
    catalog = Catalog(lockable)
    locks = ObjectLocks.of(lockable, mode=LockMode.GOVERNANCE)
    old = a_backup(catalog, days=30)
    a_night(catalog, days=1)
    locks.lock([catalog.manifest_key(MAIN, old.id)], datetime.now(UTC) + timedelta(hours=1))
    policy = Policy(redundancy=1)
    # The clock of the tests is that of a story; the lock's is the store's.
    now = min(NOW, datetime.now(UTC))
    held = plan_expiry(catalog, policy, now, locked_until=locks.locked_until)
    assert held.delete == ()
    assert "is locked until" in held.cannot[0]
    free = plan_expiry(catalog, policy, in_days(1), locked_until=locks.locked_until)
    assert [one.backup for one in free.delete] == [old.id]
    assert [one.backup for one in apply(catalog, free).backups] == [old.id]
