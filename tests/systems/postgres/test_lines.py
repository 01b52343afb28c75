"""The newest point is on the timeline that the server lives on, not on one that it has left."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include.engine.model import RecoveryPoint
from include.engine.store.bucket import StoredObject
from include.engine.systems.postgres import lines
from include.engine.systems.postgres.lsn import Fork, Segment, format_lsn
from include.engine.systems.postgres.selection import choose_chain
from include.engine.systems.postgres.wal_audit import Archive
from include.engine.systems.postgres.wal_objects import WalObject
from tests.systems.postgres.test_choose_chain import DAY, LATEST, SIZE, manifest

# Day 1 is in segment 10 and day 2 in segment 20.  Somebody went back to segment 15, and the server lives on timeline 2 since.
BACKUPS = [manifest(1), manifest(2)]
FORK = {2: (Fork(1, 15 * SIZE + 5),)}


def stored(*runs: tuple[int, range, int]) -> Archive:
    """Segments of timelines, each run stored on a day."""
    listed = [
        StoredObject(f"postgres/main/wal/{s.name[:8]}/{s.name}.zst", 9, DAY + timedelta(days=day))
        for timeline, numbers, day in runs
        for s in (Segment(timeline, number, SIZE) for number in numbers)
    ]
    return Archive([wal for wal in map(WalObject.parse, listed) if wal is not None], SIZE)


RETURNED = stored((1, range(10, 23), 2), (2, range(15, 17), 3))


def test_the_newest_point_is_reached_from_the_backup_that_leads_to_the_timeline_of_today() -> None:
    newest = choose_chain(BACKUPS, LATEST)
    assert newest.manifest.id == "day2"
    choice = lines.follow(newest, BACKUPS, LATEST, RETURNED, FORK)
    assert choice.manifest.id == "day1"
    (told,) = choice.warnings
    assert "day2 is newer than day1, but the server lives on timeline 2, which left timeline 1 at" in told
    assert format_lsn(15 * SIZE + 5) in told


@pytest.mark.parametrize(
    ("archive", "histories"),
    [
        (
            stored((1, range(10, 23), 3), (2, range(15, 17), 2)),
            FORK,
        ),  # a copy that archived here by mistake, for a while
        (stored((1, range(10, 23), 2)), FORK),  # nothing of it was archived yet
        (
            stored((1, range(10, 23), 2), (2, range(22, 24), 3)),
            {2: (Fork(1, 22 * SIZE + 5),)},
        ),  # a standby was promoted
        (stored((1, range(18, 23), 2), (2, range(15, 17), 3)), FORK),  # no backup leads there
        (RETURNED, {}),  # nobody knows where it left
    ],
)
def test_the_newest_backup_stays_the_choice_when_no_other_one_is_better(
    archive: Archive, histories: dict[int, tuple[Fork, ...]]
) -> None:
    newest = choose_chain(BACKUPS, LATEST)
    assert lines.follow(newest, BACKUPS, LATEST, archive, histories) == newest


def test_what_does_not_come_back_is_told() -> None:
    (beside,) = lines.warnings(manifest(2), 1, RETURNED, FORK)
    assert "the server lives on timeline 2, which left timeline 1" in beside
    (lost,) = lines.warnings(manifest(2), 1, RETURNED, {})
    assert "the archive lacks the history 00000002.history" in lost
    (passed,) = lines.warnings(manifest(1), 2, RETURNED, FORK)
    assert passed.startswith(f"timeline 1 was left at {format_lsn(15 * SIZE + 5)}")


def test_a_promotion_that_lost_nothing_is_told_nothing_of() -> None:
    promoted = stored((1, range(10, 15), 2), (2, range(15, 17), 3))
    assert list(lines.warnings(manifest(1), 2, promoted, FORK)) == []
    assert list(lines.warnings(manifest(1), 1, stored((1, range(10, 15), 2)), {})) == []


def test_a_point_that_was_asked_for_by_its_time_is_not_moved_to_another_line() -> None:
    point = RecoveryPoint.parse("2026-11-22T02:00:00Z")
    choice = choose_chain(BACKUPS, point)
    assert choice.manifest.id == "day2"
    assert list(lines.warnings(choice.manifest, 1, RETURNED, FORK))
