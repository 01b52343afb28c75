"""Expiry deletes what no reason keeps, manifests first, and nothing that anything else needs."""

from __future__ import annotations

import uuid
from datetime import datetime
from unittest.mock import patch

import msgspec
import pytest

from include.engine.errors import Corrupt, NotFound
from include.engine.model import Check, DrillReport, Entry, Target, Verdict, Verification, backup_id
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog, Keep
from include.engine.store.expiry import ExpiryPlan, apply, plan_expiry
from include.engine.store.lease import hold, reading
from include.engine.store.retention import Policy
from tests.store.making import (
    DAY,
    EVENTS,
    MAIN,
    NOW,
    a_backup,
    a_night,
    a_set,
    days_ago,
    keys,
    memory_catalog,
    overwrite,
    ticking,
    verified,
)

LAST_TWO = Policy(redundancy=2)


@pytest.fixture
def catalog() -> Catalog:
    return memory_catalog()


def night(days: float) -> str:
    return backup_id(days_ago(days))


def doomed(plan: ExpiryPlan) -> list[tuple[str, str]]:
    return [(str(one.target), one.backup) for one in plan.delete]


def test_old_sets_go_with_their_backups_and_their_bytes_are_told(catalog: Catalog) -> None:
    for days in (5, 4, 3, 2):
        a_night(catalog, days=days, targets=(MAIN, EVENTS))
    plan = plan_expiry(catalog, LAST_TWO, NOW)
    assert plan.delete_sets == (night(5), night(4))
    assert doomed(plan) == [(str(t), night(days)) for t in (EVENTS, MAIN) for days in (4, 5)]
    assert plan.bytes == 4 * 500
    assert plan.sets[night(2)] == ("the newest", "one of the last 2")
    assert plan.backups["postgres/main"][night(3)] == (f"kept by set {night(3)}", "one of the last 2")
    assert [m.id for m in plan.kept["cassandra/events"]] == [night(3), night(2)]
    done = apply(catalog, plan)
    assert (done.sets, done.bytes, done.refused, done.spared) == (plan.delete_sets, 2000, (), ())
    assert not {key for key in keys(catalog.bucket) if night(5) in key or night(4) in key}
    assert [found.id for found in catalog.sets()] == [night(3), night(2)]
    assert {str(target): tuple(catalog.backups(target)) for target in catalog.targets()} == plan.kept


def test_a_plan_changes_nothing(catalog: Catalog) -> None:
    for days in (5, 4, 3):
        a_night(catalog, days=days)
    before = keys(catalog.bucket)
    plan_expiry(catalog, LAST_TWO, NOW)
    assert keys(catalog.bucket) == before


def test_expiring_again_finds_nothing_more(catalog: Catalog) -> None:
    for days in (5, 4, 3):
        a_night(catalog, days=days)
    apply(catalog, plan_expiry(catalog, LAST_TWO, NOW))
    again = plan_expiry(catalog, LAST_TWO, NOW)
    assert (again.delete_sets, again.delete) == ((), ())


def test_a_policy_without_rules_deletes_nothing(catalog: Catalog) -> None:
    for days in (900, 4, 3):
        a_night(catalog, days=days)
    plan = plan_expiry(catalog, Policy(), NOW)
    assert (plan.delete_sets, plan.delete) == ((), ())


def test_the_parents_of_what_is_kept_stay_though_their_sets_go(catalog: Catalog) -> None:
    full = a_backup(catalog, days=6)
    middle = a_backup(catalog, days=5, parent=full.id)
    a_set(catalog, full, days=6)
    a_set(catalog, middle, days=5)
    a_set(catalog, a_backup(catalog, days=4, parent=middle.id), days=4)
    a_set(catalog, a_backup(catalog, days=3), days=3)
    plan = plan_expiry(catalog, LAST_TWO, NOW)
    assert plan.delete_sets == (night(6), night(5))
    assert plan.delete == ()
    assert plan.backups["postgres/main"][full.id] == (f"needed by {middle.id}",)


def test_increments_go_before_what_they_are_based_on(catalog: Catalog) -> None:
    full = a_backup(catalog, days=9)
    a_backup(catalog, days=8, parent=full.id)
    a_night(catalog, days=2)
    assert doomed(plan_expiry(catalog, Policy(redundancy=1), NOW)) == [
        ("postgres/main", night(8)),
        ("postgres/main", night(9)),
    ]


def test_a_target_that_the_newest_sets_left_out_keeps_its_last_backups(catalog: Catalog) -> None:
    a_night(catalog, days=9, targets=(MAIN, EVENTS))
    a_night(catalog, days=2)
    a_night(catalog, days=1)
    plan = plan_expiry(catalog, LAST_TWO, NOW)
    assert plan.delete_sets == (night(9),)
    assert doomed(plan) == [("postgres/main", night(9))]


def test_backups_in_no_set_follow_the_policy_once_they_are_old_enough(catalog: Catalog) -> None:
    for days in (9, 8, 1.5):
        a_backup(catalog, days=days)
    for days in (1.2, 1):
        a_night(catalog, days=days)
    plan = plan_expiry(catalog, LAST_TWO, NOW)
    assert doomed(plan) == [("postgres/main", night(8)), ("postgres/main", night(9))]
    assert plan.backups["postgres/main"][night(1.5)] == ("kept by a set that may not be sealed yet",)


def test_what_a_person_pinned_stays_and_the_person_is_named(catalog: Catalog) -> None:
    for days in (9, 8, 2, 1):
        a_night(catalog, days=days)
    catalog.keep(night(9), Keep(by="ana", reason="the audit", at=NOW))
    plan = plan_expiry(catalog, LAST_TWO, NOW)
    assert plan.sets[night(9)] == ("kept by ana: the audit",)
    assert doomed(plan) == [("postgres/main", night(8))]


def test_the_newest_verified_set_stays_with_its_backups(catalog: Catalog) -> None:
    for days in (9, 8):
        verified(catalog, a_backup(catalog, days=days))
        a_set(catalog, catalog.backup(MAIN, night(days)), days=days)
    for days in (2, 1):
        a_night(catalog, days=days)
    verified(catalog, catalog.backup(MAIN, night(2)), Verdict.FAIL)
    plan = plan_expiry(catalog, Policy(redundancy=1), NOW)
    assert plan.delete_sets == (night(9), night(2))
    assert plan.sets[night(8)] == ("the newest verified",)
    assert night(8) in plan.backups["postgres/main"]


def drilled(
    catalog: Catalog, set_id: str, verdict: Verdict, *, of: Target | None = None, check: str = "c", days: float = 0
) -> None:
    """Record a drill of a set, or of one of its parts, whose one check ended with *verdict*."""
    catalog.record_drill(
        DrillReport(
            id=f"d{uuid.uuid4().hex}",
            started=days_ago(days),
            finished=days_ago(days),
            set_id=set_id,
            target=of,
            backup=set_id if of else None,
            stages=(),
            checks=(Check(name=check, verdict=verdict, detail=""),),
            verdict=verdict,
        )
    )


def test_a_drill_that_passed_verifies_a_set_too(catalog: Catalog) -> None:
    for days in (9, 8, 1):
        a_night(catalog, days=days)
    drilled(catalog, night(9), Verdict.PASS)
    assert plan_expiry(catalog, Policy(redundancy=1), NOW).delete_sets == (night(8),)


def test_a_drill_of_one_part_does_not_verify_the_set(catalog: Catalog) -> None:
    for days in (9, 8, 1):
        a_night(catalog, days=days, targets=(MAIN, EVENTS))
    drilled(catalog, night(9), Verdict.PASS)
    drilled(catalog, night(8), Verdict.PASS, of=MAIN)
    plan = plan_expiry(catalog, Policy(redundancy=1), NOW)
    assert plan.sets[night(9)] == ("the newest verified",)
    assert plan.delete_sets == (night(8),)
    drilled(catalog, night(8), Verdict.PASS, of=EVENTS)  # now each of its parts was
    assert plan_expiry(catalog, Policy(redundancy=1), NOW).delete_sets == (night(9),)


@pytest.mark.parametrize("found_by", ["reading back", "a drill", "reading its parent back"])
def test_what_failed_after_it_was_proved_is_not_verified_any_more(catalog: Catalog, found_by: str) -> None:
    a_night(catalog, days=9)
    full = a_backup(catalog, days=8.5)
    a_set(catalog, a_backup(catalog, days=8, parent=full.id), days=8)
    a_night(catalog, days=1)
    drilled(catalog, night(9), Verdict.PASS, days=7)
    drilled(catalog, night(8), Verdict.PASS, days=7)
    if found_by == "a drill":
        drilled(catalog, night(8), Verdict.FAIL, check=f"{MAIN}: restore", days=6)
    else:
        verified(catalog, catalog.backup(MAIN, night(8)) if found_by == "reading back" else full, Verdict.FAIL)
    assert plan_expiry(catalog, Policy(redundancy=1), NOW).delete_sets == (night(8),)


def test_neither_an_absent_store_nor_a_slow_restore_takes_a_proof_back(catalog: Catalog) -> None:
    for days in (9, 8, 1):
        a_night(catalog, days=days)
    drilled(catalog, night(9), Verdict.PASS, days=7)
    main = catalog.backup(MAIN, night(8))
    verified(catalog, main)
    for verdict, days in ((Verdict.UNVERIFIED, 6), (Verdict.UNVERIFIED, 0)):
        drilled(catalog, night(8), verdict, days=days)
    drilled(catalog, night(8), Verdict.FAIL, check="rto")
    catalog.record_verification(
        Verification(target=MAIN, backup=main.id, at=NOW + DAY, objects=0, bytes=0, verdict=Verdict.UNVERIFIED)
    )
    assert plan_expiry(catalog, Policy(redundancy=1), NOW).delete_sets == (night(9),)


def test_a_locked_manifest_holds_its_set_and_its_chain_and_is_told(catalog: Catalog) -> None:
    full = a_backup(catalog, days=9)
    child = a_backup(catalog, days=8, parent=full.id)
    for days in (2, 1):
        a_night(catalog, days=days)

    def locked_until(key: str) -> datetime | None:
        return NOW + DAY if child.id in key else None

    plan = plan_expiry(catalog, Policy(redundancy=1), NOW, locked_until=locked_until)
    assert doomed(plan) == [("postgres/main", night(2))]
    assert plan.cannot == (f"postgres/main {child.id} is locked until 2015-11-24 12:00Z",)


def test_nothing_of_a_target_goes_while_its_backup_is_running(catalog: Catalog) -> None:
    for days in (9, 8, 7):
        a_night(catalog, days=days, targets=(MAIN, EVENTS))
    folder = f"{MAIN}/backups/{night(0)}/a1"
    with hold(catalog.bucket, folder, until=NOW + DAY, clock=ticking()):
        plan = plan_expiry(catalog, LAST_TWO, NOW)
    assert doomed(plan) == [("cassandra/events", night(9))]
    assert "postgres/main: nothing is deleted while a backup is taken or restored" in plan.cannot[0]
    assert [m.id for m in plan.kept["postgres/main"]] == [night(9), night(8), night(7)]


def test_a_set_stays_while_one_of_its_parts_is_restored(catalog: Catalog) -> None:
    for days in (9, 8, 7, 6):
        a_night(catalog, days=days, targets=(MAIN, EVENTS))
    with reading(catalog.bucket, MAIN, night(8), until=NOW + DAY, clock=ticking()):
        plan = plan_expiry(catalog, LAST_TWO, NOW)
        done = apply(catalog, plan)
    assert plan.sets[night(8)] == ("in use: a part of it is taken or restored",)
    assert f"set {night(8)} is in use: a part of it is taken or restored" in plan.cannot
    assert done.sets == (night(9),)
    assert catalog.set(night(8)).parts  # the next part's turn comes in an hour: what it needs of the set is there
    assert [m.id for m in catalog.backups(EVENTS)] == [night(8), night(7), night(6)]
    assert apply(catalog, plan_expiry(catalog, LAST_TWO, NOW)).sets == (night(8),)


def test_what_is_taken_or_restored_by_the_time_of_the_deed_is_spared(catalog: Catalog) -> None:
    for days in (9, 8, 7):
        a_night(catalog, days=days, targets=(MAIN, EVENTS))
    plan = plan_expiry(catalog, LAST_TWO, NOW)
    with reading(catalog.bucket, MAIN, night(9), until=NOW + DAY, clock=ticking()):
        done = apply(catalog, plan)
    assert done.spared == (f"set {night(9)}", f"cassandra/events {night(9)}", f"postgres/main {night(9)}")
    assert (done.sets, done.backups) == ((), ())
    with hold(catalog.bucket, f"{MAIN}/backups/{night(0)}/a1", until=NOW + DAY, clock=ticking()):
        done = apply(catalog, plan)
    assert (done.sets, [str(one.target) for one in done.backups]) == ((night(9),), ["cassandra/events"])
    assert done.spared == (f"postgres/main {night(9)}",)
    assert catalog.find(MAIN, night(9)) is not None


class _Quick(Catalog):
    """A catalog in which a person pins a set while retention is at its first deletion."""

    def delete_set(self, set_id: str) -> tuple[str, ...]:
        self.keep(night(8), Keep(by="ana", reason="wait!", at=NOW))
        return super().delete_set(set_id)


def test_a_set_that_is_pinned_while_others_are_deleted_stays_with_its_parts(catalog: Catalog) -> None:
    full = a_backup(catalog, days=10)
    a_night(catalog, days=9)
    a_set(catalog, a_backup(catalog, days=8, parent=full.id), days=8)
    for days in (2, 1):
        a_night(catalog, days=days)
    quick = _Quick(catalog.bucket)
    done = apply(quick, plan_expiry(quick, LAST_TWO, NOW))
    assert done.sets == (night(9),)
    assert done.spared == (f"set {night(8)}", f"postgres/main {night(8)}")
    assert [m.id for m in catalog.backups(MAIN)] == [night(10), night(8), night(2), night(1)]
    assert catalog.kept(night(8)) is not None


def test_whoever_pins_a_set_that_has_just_gone_is_told(catalog: Catalog) -> None:
    a_night(catalog, days=1)
    found = iter([catalog.find_set(night(1)), None])
    with patch.object(catalog, "find_set", lambda _: next(found)), pytest.raises(NotFound, match="there is no set"):
        catalog.keep(night(1), Keep(by="ana", reason="wait!", at=NOW))
    assert catalog.kept(night(1)) is None


def test_a_manifest_that_cannot_be_read_stops_everything(catalog: Catalog) -> None:
    for days in (9, 8, 7):
        a_night(catalog, days=days)
    overwrite(catalog.bucket, catalog.manifest_key(MAIN, night(8)), b"{")
    with pytest.raises(Corrupt, match=night(8)):
        plan_expiry(catalog, LAST_TWO, NOW)


def test_what_was_wanted_again_by_the_time_of_the_deed_is_spared(catalog: Catalog) -> None:
    for days in (9, 8, 2, 1):
        a_night(catalog, days=days)
    plan = plan_expiry(catalog, LAST_TWO, NOW)
    catalog.keep(night(9), Keep(by="ana", reason="wait!", at=NOW))
    done = apply(catalog, plan)
    assert done.sets == (night(8),)
    assert done.spared == (f"set {night(9)}", f"postgres/main {night(9)}")
    assert catalog.find(MAIN, night(9)) is not None


def test_what_came_to_be_unwanted_after_the_plan_is_not_touched(catalog: Catalog) -> None:
    for days in (9, 8, 7):
        a_night(catalog, days=days)
    plan = plan_expiry(catalog, LAST_TWO, NOW)
    a_night(catalog, days=6)
    assert apply(catalog, plan).sets == (night(9),)
    assert catalog.find_set(night(8)) is not None


def test_shared_objects_are_left_to_the_sweep(catalog: Catalog) -> None:
    catalog.bucket.create(f"{EVENTS}/objects/abc", b"sstable")
    shared = Entry(name="x.db", key=f"{EVENTS}/objects/abc", bytes=7, sha256="0")
    for days in (9, 8):
        a_backup(catalog, EVENTS, days=days, shared=[shared])
    plan = plan_expiry(catalog, Policy(redundancy=1), NOW)
    assert plan.bytes == 500
    apply(catalog, plan)
    assert catalog.bucket.exists(f"{EVENTS}/objects/abc")


def test_an_object_in_an_old_folder_that_a_kept_backup_names_stays(catalog: Catalog) -> None:
    old = a_backup(catalog, days=9)
    a_backup(catalog, days=8, shared=old.entries)
    plan = plan_expiry(catalog, Policy(redundancy=1), NOW)
    assert (doomed(plan), plan.bytes) == ([("postgres/main", old.id)], 0)
    apply(catalog, plan)
    assert catalog.bucket.exists(old.entries[0].key)


class _Worm(Bucket):
    """A store that refuses to delete some objects."""

    refuses = ""

    def _delete(self, key: str) -> tuple[str, bool]:
        return (key, False) if self.refuses in key else super()._delete(key)


def worm(catalog: Catalog, refuses: str) -> Catalog:
    bucket = _Worm.open(catalog.bucket.url)
    bucket.refuses = refuses  # type: ignore[attr-defined]
    return Catalog(bucket)


def test_a_set_that_the_store_will_not_delete_keeps_its_parts_and_their_parents(catalog: Catalog) -> None:
    full = a_backup(catalog, days=9)
    a_set(catalog, a_backup(catalog, days=8, parent=full.id), days=8)
    a_night(catalog, days=1)
    strict = worm(catalog, f"sets/{night(8)}/manifest.json")
    done = apply(strict, plan_expiry(strict, Policy(redundancy=1), NOW))
    assert done.refused == (f"sets/{night(8)}/manifest.json",)
    assert (done.sets, done.backups) == ((), ())
    assert [m.id for m in strict.backups(MAIN)] == [night(9), night(8), night(1)]


def test_a_backup_that_the_store_will_not_delete_keeps_its_objects_and_its_parent(catalog: Catalog) -> None:
    full = a_backup(catalog, days=9)
    child = a_backup(catalog, days=8, parent=full.id)
    a_backup(catalog, days=7)
    a_night(catalog, days=1)
    strict = worm(catalog, catalog.manifest_key(MAIN, child.id))
    done = apply(strict, plan_expiry(strict, Policy(redundancy=1), NOW))
    assert [one.backup for one in done.backups] == [night(7)]
    assert catalog.bucket.exists(child.entries[0].key)
    assert catalog.find(MAIN, full.id) is not None


def test_objects_that_the_store_will_not_delete_are_named(catalog: Catalog) -> None:
    old = a_backup(catalog, days=9)
    a_night(catalog, days=1)
    strict = worm(catalog, "base.tar")
    done = apply(strict, plan_expiry(strict, Policy(redundancy=1), NOW))
    assert done.refused == (old.entries[0].key,)
    assert catalog.find(MAIN, old.id) is None


def test_the_plan_can_be_shown_as_json(catalog: Catalog) -> None:
    for days in (9, 8, 7):
        a_night(catalog, days=days)
    plan = plan_expiry(catalog, Policy(redundancy=1, recovery_window=DAY), NOW)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=ExpiryPlan) == plan
