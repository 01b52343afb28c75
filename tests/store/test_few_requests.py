"""What a sweep and a backup ask of the bucket does not grow with its years: names are listed, and a few documents are read."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from math import ceil

import msgspec
import pytest

from include.engine.model import DrillReport, Entry, Manifest, ReadBack, Target, Verdict, Verification, backup_id
from include.engine.store.bucket import Bucket, StoredObject
from include.engine.store.catalog import Catalog
from include.engine.store.drills import newest_first
from include.engine.store.expiry import plan_expiry
from include.engine.store.proven import LastWords
from include.engine.store.retention import Policy
from include.engine.systems.postgres.archive import WalArchive
from include.engine.verbs import ancestry, proofs, retention, upkeep
from tests.cli import paper
from tests.estate import Quiet
from tests.store.making import EVENTS, MAIN, NOW, a_backup, a_night, a_set, days_ago, drill_report, memory_catalog

X = f"{EVENTS}/objects/x"
HOUR = timedelta(hours=1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The requests for documents and for lists, of which one gives a thousand names."""
    counted: Counter[str] = Counter()
    read, listed, lock = Bucket.read, Bucket.list, threading.Lock()

    def reading(bucket: Bucket, key: str) -> bytes:
        with lock:  # several documents are read at once
            counted["read"] += 1
        return read(bucket, key)

    def listing(bucket: Bucket, prefix: str = "", *, after: str | None = None) -> Iterator[StoredObject]:
        found = tuple(listed(bucket, prefix, after=after))
        with lock:
            counted["list"] += max(1, ceil(len(found) / 1000))
        return iter(found)

    monkeypatch.setattr(Bucket, "read", reading)
    monkeypatch.setattr(Bucket, "list", listing)
    return counted


def a_backup_of_events(catalog: Catalog, hours: float) -> Manifest:
    shared = [Entry(name="x", key=X, bytes=1, sha256="a")]
    return a_backup(catalog, EVENTS, days=hours / 24, objects={}, shared=shared)


def hourly(catalog: Catalog, hours: int) -> None:
    """Verifications of *hours* backups, each of which has read the one object that they share."""
    for hour in range(hours, 0, -1):
        found = Verification(
            target=EVENTS,
            backup=backup_id(NOW - hour * HOUR),
            at=NOW - hour * HOUR,
            objects=1,
            bytes=1,
            verdict=Verdict.PASS,
            read={X: ReadBack(sha256="a", modified=NOW)},
        )
        catalog.record_verification(found)


@pytest.mark.parametrize("hours", [24, 1500])
def test_the_last_word_of_a_backup_is_one_document_however_many_there_are(asked: Counter[str], hours: int) -> None:
    catalog = memory_catalog()
    hourly(catalog, hours)
    newest = a_backup_of_events(catalog, 1)
    asked.clear()
    last = LastWords(catalog).of(EVENTS, newest.id)
    assert last is not None
    assert last.verdict is Verdict.PASS
    assert asked == {"read": 1, "list": ceil(hours / 1000)}


@pytest.mark.parametrize("hours", [100, 1500])
def test_damage_of_long_ago_is_decided_by_the_newest_words_about_it(asked: Counter[str], hours: int) -> None:
    catalog = memory_catalog()
    hourly(catalog, hours)
    newest = a_backup_of_events(catalog, 1)
    first, last = catalog.read_back.noted(EVENTS)[0], LastWords(catalog).of(EVENTS, newest.id)
    assert last is not None
    wrong = msgspec.structs.replace(last, verdict=Verdict.FAIL, read={}, wrong={X: "a"})
    catalog.record_verification(msgspec.structs.replace(wrong, backup=first.backup, at=NOW - (hours + 1) * HOUR))
    for verdict in (Verdict.PASS, Verdict.FAIL):
        asked.clear()
        said = LastWords(catalog).of(EVENTS, newest.id)
        assert said is not None
        assert said.verdict is verdict
        assert asked["read"] < 25
        catalog.record_verification(msgspec.structs.replace(wrong, backup=first.backup, at=NOW))  # and again, just now


def test_a_sweep_reads_the_newest_backups_and_the_newest_set(asked: Counter[str]) -> None:
    pipeline = paper.pipeline(paper.Paper())
    for days in range(30, 0, -1):
        a_night(pipeline.catalog, days=days)

    def seen(which: int, *, whole: bool) -> dict[str, float]:
        probes = proofs.of_pipeline(lambda: pipeline) if whole else proofs.of_target(MAIN, lambda: pipeline)
        return {one.metric: one.value for one in probes[which].read(lambda: NOW, timeout=1)}

    asked.clear()
    assert seen(0, whole=True)["backups.sets"] == 30
    assert asked["read"] == 1
    asked.clear()
    assert seen(0, whole=False)["backups.count"] == 30
    assert asked["read"] == 8


def drilled(days: float, verdict: Verdict, target: Target | None = None) -> DrillReport:
    return drill_report(days_ago(days), verdict, target)


def test_a_sweep_reads_drills_back_to_the_newest_of_everything_that_passed(asked: Counter[str]) -> None:
    pipeline = paper.pipeline(paper.Paper())
    for days in range(40, 2, -1):
        pipeline.catalog.record_drill(drilled(days, Verdict.PASS))

    def seen() -> dict[str, float]:
        (probe,) = [one for one in proofs.of_pipeline(lambda: pipeline) if one.name == "drills"]
        return {one.metric: one.value for one in probe.read(lambda: NOW, timeout=1)}

    asked.clear()
    assert seen() == {"backups.drill.passed": 1, "backups.drill.age": 3 * 86400}
    assert asked["read"] == 8
    for days in (2, 1):
        pipeline.catalog.record_drill(drilled(days, Verdict.FAIL))
    assert seen() == {"backups.drill.passed": 0, "backups.drill.age": 3 * 86400}


def test_a_drill_that_has_gone_since_it_was_listed_keeps_nobody_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalog = memory_catalog()
    kept, gone = drilled(2, Verdict.PASS), drilled(1, Verdict.PASS)
    for one in (kept, gone):
        catalog.record_drill(one)
    listed = list(catalog.bucket.list("drills"))
    catalog.bucket.delete([f"drills/{gone.id}.json"])
    monkeypatch.setattr(catalog.bucket, "list", lambda _folder: listed)
    assert list(newest_first(catalog)) == [kept]


def test_a_backup_reads_the_newest_ones_and_what_the_newest_builds_on(asked: Counter[str]) -> None:
    pipeline = paper.pipeline(paper.Paper())
    full = a_backup(pipeline.catalog, days=40).id
    for days in range(30, 1, -1):
        a_backup(pipeline.catalog, days=days)
    newest = a_backup(pipeline.catalog, days=1, parent=full).id
    asked.clear()
    history = ancestry.known(pipeline, MAIN, Quiet())
    assert (history[0].id, history[-1].id, len(history)) == (full, newest, 9)
    assert asked["read"] == 9
    asked.clear()
    assert ancestry.doubted(pipeline, history) == frozenset()
    assert asked["read"] == 0


def test_the_check_of_the_catalog_reads_every_manifest_once(asked: Counter[str]) -> None:
    pipeline = paper.pipeline(paper.Paper())
    full = a_backup(pipeline.catalog, days=40).id
    for days in range(30, 0, -1):
        a_set(pipeline.catalog, a_backup(pipeline.catalog, days=days, parent=full), days=days)
    asked.clear()
    assert {check.verdict for check in upkeep.check_catalog(pipeline)} == {Verdict.PASS}
    assert asked["read"] == 30 + 31  # the sets, and the backups


def test_expiry_reads_no_manifest_of_a_backup_twice(asked: Counter[str]) -> None:
    pipeline = paper.pipeline(paper.Paper())
    for days in range(10, 0, -1):
        a_night(pipeline.catalog, days=days)
    asked.clear()
    assert retention.expire(pipeline, dry_run=True, clock=lambda: NOW).done is None
    planned = asked["read"]
    asked.clear()
    assert len(retention.expire(pipeline, dry_run=False, clock=lambda: NOW).done.backups) == 9  # type: ignore[union-attr]
    # Each set once more, and whether somebody keeps it; each backup when it goes.
    assert asked["read"] == planned + 9 * 3


def test_expiry_reads_again_only_what_decides_over_a_log_archive(
    asked: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = paper.pipeline(paper.Paper())
    kept, log = list[Manifest](), WalArchive(MAIN, pipeline.catalog.bucket)

    def expire(found: Sequence[Manifest], *, dry_run: bool) -> int:
        kept.extend(found)
        return len(found)

    monkeypatch.setattr(log, "expire", expire)
    for days in (3, 2, 1):
        a_night(pipeline.catalog, days=days)

    def reads() -> int:
        asked.clear()
        assert retention.expire(pipeline, dry_run=False, clock=lambda: NOW).done is not None
        return asked["read"]

    reads()  # all but the newest go
    without = reads()
    monkeypatch.setattr(pipeline.lookup, "archive", lambda _: log)
    assert reads() == without + 1
    assert [found.id for found in kept] == [backup_id(days_ago(1))]


def test_retention_reads_one_verification_to_know_the_newest_verified_backup(asked: Counter[str]) -> None:
    catalog = memory_catalog()
    hourly(catalog, 200)
    for hour in (3, 2, 1):
        a_backup_of_events(catalog, hour)
    asked.clear()
    plan = plan_expiry(catalog, Policy(redundancy=1), NOW)
    assert "the newest verified" in plan.backups[str(EVENTS)][backup_id(NOW - HOUR)]
    assert asked["read"] < 3 + 3  # the manifests, again the newest one, and its verification
