"""A sweep removes what nobody can need any more; every doubt keeps."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from include.engine.errors import Contended, Corrupt, NotFound, Unreachable
from include.engine.model import Entry, Manifest, System, Target
from include.engine.store import lease
from include.engine.store import sweep as sweeps
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.lease import CLOCK_TOLERANCE, attempt_of, hold, live_leases, sweeping
from include.engine.store.sweep import orphans, sweep
from include.engine.store.uploads import Unfinished, abandoned, abort_unfinished
from tests.store.making import DAY, EVENTS, MAIN, NOW, a_backup, days_ago, keys, memory_catalog, overwrite, stored

ATTEMPT = f"{MAIN}/backups/20261123T000000Z/a1"
SHARED = f"{EVENTS}/objects/abc"


def later(days: float = 3) -> datetime:
    """The store's own time is that of this machine: we look at it from *days* later."""
    return datetime.now(NOW.tzinfo) + days * DAY


def in_days(days: float) -> Callable[[], datetime]:
    return lambda: later(days)


@pytest.fixture
def catalog() -> Catalog:
    return memory_catalog()


def test_only_objects_that_no_manifest_names_go(catalog: Catalog) -> None:
    manifest = a_backup(catalog, attempt="a1")
    folder = catalog.folder(MAIN, manifest.id)
    for key in (f"{folder}/a2/base.tar", f"{folder}/a2/deep/x", f"{folder}/note.txt", f"{MAIN}/wal/00000001/x.zst"):
        catalog.bucket.create(key, b"123")
    report = sweep(catalog, MAIN, clock=in_days(3), dry_run=False)
    assert {found.key for found in report.orphans} == {f"{folder}/a2/base.tar", f"{folder}/a2/deep/x"}
    assert (report.bytes, report.refused, report.left) == (6, (), 0)
    assert keys(catalog.bucket) == {
        manifest.entries[0].key,
        f"{folder}/manifest.json",
        f"{folder}/note.txt",
        f"{MAIN}/wal/00000001/x.zst",
    }
    assert sweep(catalog, MAIN, clock=in_days(3)).orphans == ()


def manifests() -> list[Manifest]:
    """All that are in memory now."""
    return [one for one in gc.get_objects() if type(one) is Manifest]


def test_of_many_manifests_a_few_are_in_memory_at_once(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    last = [a_backup(catalog, days=days).id for days in range(64, 0, -1)][-1]
    find, alive = Catalog.find, list[int]()
    others = manifests()  # of tests before this one; held, so that none of them goes meanwhile

    def finding(asked: Catalog, target: Target, backup: str) -> Manifest | None:
        found = find(asked, target, backup)
        if backup == last:
            alive.append(len(manifests()) - len(others))
        return found

    monkeypatch.setattr(Catalog, "find", finding)
    assert sweep(catalog, MAIN, clock=in_days(100)).orphans == ()
    assert 0 < alive[0] <= 32


def test_by_default_it_only_tells(catalog: Catalog) -> None:
    catalog.bucket.create(f"{ATTEMPT}/x", b"1")
    report = sweep(catalog, MAIN, clock=in_days(3))
    assert (report.dry_run, len(report.orphans)) == (True, 1)
    assert catalog.bucket.exists(f"{ATTEMPT}/x")


def test_what_is_young_stays(catalog: Catalog) -> None:
    catalog.bucket.create(f"{ATTEMPT}/x", b"1")
    assert sweep(catalog, MAIN, clock=in_days(1.9), dry_run=False).orphans == ()
    assert sweep(catalog, MAIN, clock=in_days(-1), dry_run=False).orphans == ()
    assert len(sweep(catalog, MAIN, clock=in_days(1), older_than=timedelta(hours=1)).orphans) == 1


def test_an_attempt_with_a_live_lease_is_left_alone_and_told(catalog: Catalog) -> None:
    with hold(catalog.bucket, ATTEMPT, until=later(5), clock=in_days(0)):
        catalog.bucket.create(f"{ATTEMPT}/x", b"1")
        report = sweep(catalog, MAIN, clock=in_days(4), dry_run=False)
        assert report.orphans == ()
        assert ATTEMPT in report.held[0]
    assert len(sweep(catalog, MAIN, clock=in_days(4), dry_run=False).orphans) == 1


def test_a_lease_that_ran_out_goes_with_its_attempt(catalog: Catalog) -> None:
    with hold(catalog.bucket, ATTEMPT, until=later(1), clock=in_days(0)):
        catalog.bucket.create(f"{ATTEMPT}/x", b"1")
        report = sweep(catalog, MAIN, clock=in_days(4), dry_run=False)
        assert [found.key for found in report.orphans] == [f"{ATTEMPT}/x", f"{ATTEMPT}/lease.json"]
        assert keys(catalog.bucket) == set()
    # and that the lease was gone already is no error at the end of the attempt


def test_how_the_work_ended_is_not_hidden_by_a_lease_that_cannot_be_given_back(catalog: Catalog) -> None:
    def work(bucket: _Silent) -> None:
        with hold(bucket, ATTEMPT, until=later(1), clock=in_days(0)):
            bucket.silent = True
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work(_Silent(catalog.bucket._store, catalog.bucket.url))


class _Silent(Bucket):
    """A store that stops answering in the middle."""

    silent = False

    def delete(self, keys: Iterable[str]) -> None:
        if self.silent:
            raise Unreachable("no answer", hint="wait")
        super().delete(keys)


def test_a_manifest_that_cannot_be_read_stops_it(catalog: Catalog) -> None:
    manifest = a_backup(catalog)
    catalog.bucket.create(f"{ATTEMPT}/x", b"1")
    overwrite(catalog.bucket, catalog.manifest_key(MAIN, manifest.id), b"{")
    with pytest.raises(Corrupt):
        sweep(catalog, MAIN, clock=in_days(3), dry_run=False)
    assert catalog.bucket.exists(f"{ATTEMPT}/x")


def test_shared_objects_go_when_no_backup_names_them(catalog: Catalog) -> None:
    for name in ("named", "unnamed"):
        catalog.bucket.create(f"{EVENTS}/objects/{name}", b"12")
    a_backup(catalog, EVENTS, shared=[Entry(name="x", key=f"{EVENTS}/objects/named", bytes=2, sha256="")])
    report = sweep(catalog, EVENTS, clock=in_days(3), dry_run=False)
    assert [found.key for found in report.orphans] == [f"{EVENTS}/objects/unnamed"]
    assert keys(catalog.bucket, f"{EVENTS}/objects") == {f"{EVENTS}/objects/named"}
    assert not catalog.bucket.exists(f"{EVENTS}/sweep.json")


def test_shared_objects_may_lie_in_folders(catalog: Catalog) -> None:
    kafka = Target(System.KAFKA, "main")
    catalog.bucket.create(f"{kafka}/objects/orders/0/000-099.abc.parquet", b"1")
    catalog.bucket.create(f"{kafka}/topics.json", b"1")
    report = sweep(catalog, kafka, clock=in_days(3), dry_run=False)
    assert [found.key for found in report.orphans] == [f"{kafka}/objects/orders/0/000-099.abc.parquet"]


def test_young_shared_objects_stay(catalog: Catalog) -> None:
    catalog.bucket.create(SHARED, b"1")
    assert sweep(catalog, EVENTS, clock=in_days(1), dry_run=False).orphans == ()


def test_no_shared_object_goes_while_any_backup_of_the_target_runs(catalog: Catalog) -> None:
    catalog.bucket.create(SHARED, b"1")
    with hold(catalog.bucket, f"{EVENTS}/backups/b/a", until=later(9), clock=in_days(3)):
        assert sweep(catalog, EVENTS, clock=in_days(3), dry_run=False).orphans == ()
    assert catalog.bucket.exists(SHARED)


def test_a_backup_that_begins_and_ends_between_mark_and_sweep_saves_what_it_uses(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.bucket.create(SHARED, b"1")

    @contextmanager
    def after_a_backup(*given: object, **named: object) -> Iterator[tuple[Mapping[str, lease.Lease], datetime]]:
        a_backup(catalog, EVENTS, shared=[Entry(name="x", key=SHARED, bytes=1, sha256="")])
        with sweeping(*given, **named) as found:  # type: ignore[arg-type]
            yield found

    monkeypatch.setattr(sweeps, "sweeping", after_a_backup)
    assert sweep(catalog, EVENTS, clock=in_days(3), dry_run=False).orphans == ()
    assert catalog.bucket.exists(SHARED)


def test_a_backup_does_not_begin_while_shared_objects_are_swept(catalog: Catalog) -> None:
    with sweeping(catalog.bucket, EVENTS, clock=in_days(0)) as (leases, _until):
        assert leases == {}
        with (
            pytest.raises(Contended, match="being swept"),
            hold(catalog.bucket, f"{EVENTS}/backups/b/a", until=later(1), clock=in_days(0)),
        ):
            raise AssertionError
        with hold(catalog.bucket, ATTEMPT, until=later(1), clock=in_days(0)):
            pass  # another target's may
        with pytest.raises(Contended), sweeping(catalog.bucket, EVENTS, clock=in_days(0)):
            raise AssertionError
    assert keys(catalog.bucket) == set()


def test_a_sweep_that_died_does_not_stop_the_next_one_or_backups(catalog: Catalog) -> None:
    dead = sweeping(catalog.bucket, EVENTS, clock=in_days(0))
    dead.__enter__()
    with hold(catalog.bucket, f"{EVENTS}/backups/b/a", until=later(2), clock=in_days(1)):
        pass
    with sweeping(catalog.bucket, EVENTS, clock=in_days(1)) as (leases, _until):
        assert leases == {}


def test_a_sweep_whose_time_is_up_leaves_the_rest_for_the_next_one(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "_BATCH", 1)
    for n in range(4):
        catalog.bucket.create(f"{EVENTS}/objects/{n}", b"1")
    looks = iter([*[later(3)] * 6, *[later(4)] * 20])
    report = sweep(catalog, EVENTS, clock=lambda: next(looks), dry_run=False)
    assert 0 < report.left < 4
    assert len(keys(catalog.bucket, f"{EVENTS}/objects")) == report.left


def test_a_folder_is_held_by_one_only(catalog: Catalog) -> None:
    with hold(catalog.bucket, ATTEMPT, until=later(1), clock=in_days(0)) as mine:
        assert live_leases(catalog.bucket, MAIN, later(0)) == {ATTEMPT: mine}
        with (
            pytest.raises(Contended, match=f"{ATTEMPT} is held already"),
            hold(catalog.bucket, ATTEMPT, until=later(1), clock=in_days(0)),
        ):
            raise AssertionError
    with pytest.raises(NotFound):
        catalog.bucket.read(f"{ATTEMPT}/lease.json")


def test_a_lease_counts_a_little_longer_because_clocks_differ(catalog: Catalog) -> None:
    with hold(catalog.bucket, ATTEMPT, until=NOW, clock=lambda: NOW) as mine:
        assert mine.live(NOW + CLOCK_TOLERANCE - timedelta(seconds=1))
        assert not mine.live(NOW + CLOCK_TOLERANCE)


@pytest.mark.parametrize(
    ("key", "attempt"),
    [
        (f"{ATTEMPT}/x", ATTEMPT),
        (f"{ATTEMPT}/deep/x", ATTEMPT),
        (f"{MAIN}/backups/b/manifest.json", None),
        (f"{MAIN}/wal/1/2/3/4", None),
        (SHARED, None),
    ],
)
def test_the_attempt_of_a_key_is_its_fifth_folder(key: str, attempt: str | None) -> None:
    assert attempt_of(key) == attempt


def test_an_attempt_is_as_old_as_its_youngest_object() -> None:
    listed = [stored(f"{ATTEMPT}/x", days=9), stored(f"{ATTEMPT}/y", days=1), stored(f"{ATTEMPT}2/x", days=9)]
    found = orphans(listed, named=(), held=(), before=days_ago(2))
    assert [one.key for one in found] == [f"{ATTEMPT}2/x"]


def test_only_old_uploads_without_a_lease_are_abandoned() -> None:
    def upload(key: str, days: float) -> Unfinished:
        return Unfinished(key=key, upload="u", started=days_ago(days), bytes=1)

    old, young, held = upload(f"{ATTEMPT}/x", 3), upload(f"{ATTEMPT}/y", 1), upload(f"{ATTEMPT}2/x", 9)
    assert abandoned([old, young, held], held={f"{ATTEMPT}2"}, before=days_ago(2)) == [old]


def test_a_large_shared_object_is_not_taken_from_a_copy_that_sends_it_for_days() -> None:
    of_many = "cassandra/events/objects/abc"
    sent = Unfinished(key=of_many, upload="1", started=days_ago(3), bytes=1)
    attempt = "cassandra/events/backups/20261120T120000Z/a1"
    assert abandoned([sent], held={attempt}, before=days_ago(2)) == []
    assert abandoned([sent], held={attempt.replace("events", "others")}, before=days_ago(2)) == [sent]


def test_stores_other_than_s3_have_no_unfinished_uploads(catalog: Catalog) -> None:
    assert abort_unfinished(catalog, now=NOW, dry_run=False).aborted == ()
