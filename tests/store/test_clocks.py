"""What was written by a clock that is ahead is neither the last word nor fresh until that day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.engine.errors import Incomplete
from include.engine.model import Verdict, Verification, backup_id
from include.engine.store import drills
from include.engine.store.bucket import StoredObject
from include.engine.store.clocks import believed, in_order
from include.engine.store.proven import LastWords, Proven
from include.engine.verbs import proofs
from include.engine.verbs.checklist import within
from tests.cli import paper
from tests.store.making import DAY, MAIN, NOW, a_backup, a_night, drill_report, memory_catalog

AHEAD = 30 * DAY


def now() -> datetime:
    return datetime.now(UTC)


def test_what_a_document_says_counts_unless_the_store_had_it_before() -> None:
    def taken(days: float, name: str = "x") -> StoredObject:
        return StoredObject(f"drills/{name}.json", 1, NOW + days * DAY)

    assert believed(NOW, taken(0).modified) == NOW
    assert believed(NOW, taken(3).modified) == NOW  # copied into another bucket since
    assert believed(NOW + timedelta(minutes=5), taken(0).modified) == NOW + timedelta(minutes=5)  # clocks differ
    assert believed(NOW + DAY, taken(0).modified) == NOW
    wrong, right, other = taken(0, backup_id(NOW + AHEAD)), taken(1, backup_id(NOW + DAY)), taken(0.5, "by-hand")
    assert sorted([right, other, wrong], key=in_order) == [wrong, other, right]


def test_damage_that_was_found_later_is_not_hidden_by_a_verification_of_a_clock_that_is_ahead() -> None:
    catalog = memory_catalog()
    backup = a_backup(catalog, MAIN)

    def found(at: datetime, verdict: Verdict) -> None:
        one = Verification(target=MAIN, backup=backup.id, at=at, objects=1, bytes=1, verdict=verdict)
        catalog.record_verification(one)

    found(now() + AHEAD, Verdict.PASS)
    first = LastWords(catalog).of(MAIN, backup.id)
    assert first is not None
    assert first.verdict is Verdict.PASS
    assert first.at <= now()
    found(now(), Verdict.FAIL)
    last = LastWords(catalog).of(MAIN, backup.id)
    assert last is not None
    assert last.verdict is Verdict.FAIL
    assert not Proven(catalog).is_backup(MAIN, backup.id)
    found(now(), Verdict.PASS)
    assert Proven(catalog).is_backup(MAIN, backup.id)


def test_a_drill_of_a_clock_that_is_ahead_is_as_old_as_it_is_and_hides_no_later_one() -> None:
    made = paper.pipeline(paper.Paper())
    catalog = made.catalog
    catalog.record_drill(drill_report(now() + AHEAD, Verdict.PASS))
    (probe,) = [one for one in proofs.of_pipeline(lambda: made) if one.name == "drills"]

    def read() -> dict[str, float]:
        return {one.metric: one.value for one in probe.read(now, timeout=1)}

    assert 0 <= read()["backups.drill.age"] < 60
    catalog.record_drill(drill_report(now() + timedelta(seconds=1), Verdict.FAIL))  # names are of whole seconds
    assert [one.verdict for one in catalog.drills()] == [Verdict.PASS, Verdict.FAIL]
    assert next(drills.newest_first(catalog)).verdict is Verdict.FAIL
    assert read()["backups.drill.passed"] == 0


def test_the_age_of_a_set_or_backup_that_is_to_come_is_not_read() -> None:
    made = paper.pipeline(paper.Paper())
    a_night(made.catalog, days=1)
    probes = [proofs.of_pipeline(lambda: made)[0], proofs.of_target(MAIN, lambda: made)[0]]
    for probe in probes:
        assert {one.value for one in probe.read(lambda: NOW, timeout=1) if one.metric.endswith(".age")} == {86400}
    for probe in (proofs.of_pipeline(lambda: made)[0], proofs.of_target(MAIN, lambda: made)[0]):
        with pytest.raises(Incomplete, match="which is to come: nobody knows how old it is"):
            probe.read(lambda: NOW - 2 * DAY, timeout=1)


def test_what_is_to_come_did_not_happen_lately() -> None:
    assert within(NOW - DAY, 2 * DAY, NOW)
    assert within(NOW + timedelta(minutes=5), DAY, NOW)
    assert not within(NOW + DAY, 2 * DAY, NOW)
