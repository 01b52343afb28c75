"""The audit names every missing segment and nothing else, and never gives away what a kept backup needs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from include.engine.model import Verdict
from include.engine.store.bucket import StoredObject
from include.engine.systems.postgres.lsn import Fork, Segment
from include.engine.systems.postgres.reached import Reached
from include.engine.systems.postgres.wal_audit import BackupSpan, audit
from include.engine.systems.postgres.wal_expiry import expired_wal
from include.engine.systems.postgres.wal_objects import WalKind, WalObject, partial_name

SIZE = 16 << 20
BEGAN = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def at(number: int) -> datetime:
    return BEGAN + timedelta(minutes=number)


def stored(file: str, number: int, bytes_: int = 1000) -> StoredObject:
    return StoredObject(f"postgres/main/wal/{file[:8]}/{file}.zst", bytes_, at(number))


def segments(timeline: int, *numbers: int) -> list[StoredObject]:
    return [stored(Segment(timeline, number, SIZE).name, number) for number in numbers]


def part(timeline: int, number: int, valid: int) -> StoredObject:
    return stored(partial_name(Segment(timeline, number, SIZE).name, valid), number)


def backup(timeline: int, number: int, name: str = "") -> BackupSpan:
    start = number * SIZE + 0x28
    return BackupSpan(
        id=name or f"b{number}", timeline=timeline, start_lsn=start, stop_lsn=start + 0x100, consistent_at=at(number)
    )


def named(timeline: int, *numbers: int) -> tuple[str, ...]:
    return tuple(Segment(timeline, number, SIZE).name for number in numbers)


def parsed(listed: Sequence[StoredObject]) -> list[WalObject]:
    return [wal for wal in map(WalObject.parse, listed) if wal is not None]


def test_a_whole_archive_passes_and_gives_its_window() -> None:
    report = audit([*segments(1, 3, 4, 5), part(1, 6, 0x2000)], [backup(1, 3), backup(1, 5)], {}, size=SIZE)

    assert report.verdict is Verdict.PASS
    assert report.missing == ()
    (window,) = report.windows
    # When the last byte was stored says nothing of how old it is; the newest backup within reach was finished at 5.
    assert (window.backup, window.from_time, window.to_time) == ("b3", at(3), at(5))
    assert window.to_lsn == 6 * SIZE + 0x2000


def test_a_gap_ends_one_window_and_the_next_backup_begins_another() -> None:
    report = audit(segments(1, 3, 4, 6, 7), [backup(1, 3), backup(1, 6)], {}, size=SIZE)

    assert report.verdict is Verdict.FAIL
    assert report.missing == named(1, 5)
    assert [(w.backup, w.to_lsn) for w in report.windows] == [("b3", 5 * SIZE), ("b6", 8 * SIZE)]


@given(st.data())
def test_whatever_segment_is_removed_exactly_it_is_named(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1 << 20, 16 << 20, 1 << 30]))
    first = data.draw(st.integers(1, 600))
    count = data.draw(st.integers(3, 40))
    gone = data.draw(st.integers(first, first + count - 1))
    names = [Segment(1, number, size).name for number in range(first, first + count)]
    span = BackupSpan(id="b", timeline=1, start_lsn=first * size + 1, stop_lsn=first * size + 2, consistent_at=BEGAN)
    listed = [stored(name, 0) for name in names if name != Segment(1, gone, size).name]

    report = audit(listed, [span], {}, size=size, current=(1, (first + count) * size + 5))

    assert report.missing == (Segment(1, gone, size).name,)


def test_that_the_newest_never_arrived_is_known_from_the_live_server_only() -> None:
    listed = segments(1, 3, 4)
    assert audit(listed, [backup(1, 3)], {}, size=SIZE).missing == ()
    assert audit(listed, [backup(1, 3)], {}, size=SIZE, current=(1, 7 * SIZE + 9)).missing == named(1, 5, 6)
    assert audit(listed, [backup(1, 3)], {}, size=SIZE, current=(1, 5 * SIZE + 9)).missing == ()


def test_a_part_stands_for_the_last_segment_only() -> None:
    report = audit([*segments(1, 3), part(1, 4, 0x100), *segments(1, 5)], [backup(1, 3)], {}, size=SIZE)
    assert report.missing == named(1, 4)


def test_the_first_segment_of_a_backup_is_needed_too() -> None:
    assert audit(segments(1, 4, 5), [backup(1, 3)], {}, size=SIZE).missing == named(1, 3)
    assert audit([], [backup(1, 3)], {}, size=SIZE).missing == named(1, 3)


def said(timeline: int, stored_to: int, minute: int) -> Reached:
    return Reached(timeline=timeline, stored=stored_to, at=at(minute))


def test_an_idle_archive_reaches_to_when_it_was_last_found_to_have_everything() -> None:
    listed = [*segments(1, 3, 4), part(1, 5, 0x60)]
    end = 5 * SIZE + 0x60
    report = audit(listed, [backup(1, 3)], {}, size=SIZE, stated=[said(1, end, 50), said(1, end - 0x20, 40)])
    (window,) = report.windows
    assert (report.verdict, window.to_time, window.to_lsn, report.complete_at) == (Verdict.PASS, at(50), end, at(50))
    # A statement about a position that the archive has passed says nothing of the newer bytes: they may be older than it.
    older = audit(listed, [backup(1, 3)], {}, size=SIZE, stated=[said(1, 4 * SIZE, 4)])
    assert (older.windows[0].to_time, older.windows[0].to_lsn) == (at(4), end)


def test_log_that_was_stored_late_does_not_make_the_window_longer() -> None:
    # The store was away from minute 4 on; the archiver caught up with two segments in minute 60, and died.
    late = [stored(Segment(1, number, SIZE).name, 60) for number in (5, 6)]
    report = audit([*segments(1, 3, 4), *late], [backup(1, 3)], {}, size=SIZE, stated=[said(1, 5 * SIZE, 4)])
    assert (report.windows[0].to_time, report.windows[0].to_lsn, report.newest) == (at(4), 7 * SIZE, at(60))


def test_a_statement_that_the_bucket_does_not_bear_out_is_a_gap_at_the_end_and_moves_no_window() -> None:
    listed = [*segments(1, 3, 4), part(1, 5, 0x60)]
    for stored_to, lacking in ((5 * SIZE + 0x100, 5), (9 * SIZE, 5)):
        report = audit(listed, [backup(1, 3)], {}, size=SIZE, stated=[said(1, stored_to, 50)])
        assert (report.verdict, report.missing, report.windows[0].to_time) == (Verdict.FAIL, named(1, lacking), at(3))
    # What was stated before a backup began is none of that backup's business, nor is another timeline's.
    assert (
        audit(listed, [backup(1, 3)], {}, size=SIZE, stated=[said(1, 3 * SIZE, 50), said(2, 9 * SIZE, 9)]).missing == ()
    )
    gap = audit(segments(1, 3, 5), [backup(1, 3)], {}, size=SIZE, stated=[said(1, 6 * SIZE, 50)])
    assert (gap.missing, gap.windows[0].to_time) == (named(1, 4), at(3))


def test_a_statement_is_believed_no_further_than_either_clock() -> None:
    key = "postgres/main/wal/reached/00000001-0000000003000060-20261123T020500Z.json"
    late, early = (Reached.parse(StoredObject(key, 200, at(minute))) for minute in (9, 1))
    assert late == said(1, 0x3000060, 5)
    assert early == said(1, 0x3000060, 1)
    for broken in (key.replace("T02", "T99"), key.replace("0003", "03"), key.replace("reached", "00000001")):
        assert Reached.parse(StoredObject(broken, 200, at(9))) is None
    report = audit([*segments(1, 3), StoredObject(key, 200, at(9))], [backup(1, 3)], {}, size=SIZE)
    assert report.foreign == ()


def test_the_way_follows_a_timeline_switch() -> None:
    # Timeline 2 left timeline 1 in segment 5; its own segment 5 begins with what timeline 1 had of it.
    forks = {2: (Fork(1, 5 * SIZE + 0x400),)}
    history = stored("00000002.history", 5, 50)
    listed = [*segments(1, 3, 4), part(1, 5, 0x400), history, *segments(2, 5, 6), part(2, 7, 0x50)]

    report = audit(listed, [backup(1, 3)], forks, size=SIZE)

    assert report.verdict is Verdict.PASS
    assert {w.timeline: w.to_lsn for w in report.windows} == {1: 5 * SIZE + 0x400, 2: 7 * SIZE + 0x50}
    assert audit([o for o in listed if o not in segments(2, 5)], [backup(1, 3)], forks, size=SIZE).missing == named(
        2, 5
    )
    without = audit([o for o in listed if o != history], [backup(1, 3)], {}, size=SIZE)
    assert without.missing == ("00000002.history",)


def test_a_fork_at_the_edge_of_a_segment_needs_nothing_twice() -> None:
    forks = {2: (Fork(1, 5 * SIZE),)}
    listed = [*segments(1, 3, 4), stored("00000002.history", 5, 50), *segments(2, 5, 6)]
    assert audit(listed, [backup(1, 3)], forks, size=SIZE).missing == ()


def test_a_timeline_that_left_before_the_backup_is_not_its_way() -> None:
    forks = {2: (Fork(1, 2 * SIZE),)}
    listed = [*segments(1, 3, 4), stored("00000002.history", 2, 50), *segments(2, 2, 3)]
    report = audit(listed, [backup(1, 3)], forks, size=SIZE)
    assert report.missing == ()
    assert [window.timeline for window in report.windows] == [1]


def test_foreign_objects_and_wrong_names_are_told() -> None:
    strange = StoredObject("postgres/main/wal/00000001/notes.txt", 5, BEGAN)
    elsewhere = StoredObject("postgres/main/wal/00000002/000000010000000000000004.zst", 5, BEGAN)
    empty = stored(Segment(1, 5, SIZE).name, 5, 0)
    impossible = stored("000000010000000000000FFF", 6)  # no segment of 16 MiB
    identity = StoredObject("postgres/main/wal/identity.json", 100, BEGAN)

    report = audit([*segments(1, 3, 4), strange, elsewhere, empty, impossible, identity], [backup(1, 3)], {}, size=SIZE)

    assert report.verdict is Verdict.FAIL
    assert report.foreign == (strange.key, elsewhere.key)
    assert {text.split(":")[0] for text in report.misfits} == {empty.key, impossible.key}


def test_without_a_backup_nothing_is_proved() -> None:
    assert audit(segments(1, 3, 4), [], {}, size=SIZE).verdict is Verdict.UNVERIFIED


def test_expiry_keeps_what_the_oldest_kept_backup_needs_and_all_later_timelines() -> None:
    history = stored("00000002.history", 5, 50)
    objects = parsed([*segments(1, 1, 2, 3, 4), part(1, 3, 0x10), *segments(2, 2, 5), history])

    expired = expired_wal(objects, [backup(1, 3)], size=SIZE)

    assert {(w.timeline, w.name, w.kind) for w in expired} == {
        (1, named(1, 1)[0], WalKind.SEGMENT),
        (1, named(1, 2)[0], WalKind.SEGMENT),
        (1, named(1, 3)[0], WalKind.PARTIAL),  # the whole segment is there
        (2, named(2, 2)[0], WalKind.SEGMENT),  # before the backup, on whatever timeline
    }


def test_without_any_kept_backup_nothing_expires() -> None:
    assert expired_wal(parsed(segments(1, 1, 2)), [], size=SIZE) == ()


@given(st.sets(st.integers(0, 60), min_size=1), st.sets(st.integers(0, 60), min_size=1))
def test_expiry_never_makes_a_whole_archive_fail(numbers: set[int], starts: set[int]) -> None:
    listed = segments(1, *range(min(numbers), max(numbers) + 1))
    kept = [backup(1, start) for start in starts if start in range(min(numbers), max(numbers) + 1)]
    before = audit(listed, kept, {}, size=SIZE)
    gone = {wal.key for wal in expired_wal(parsed(listed), kept, size=SIZE)}

    after = audit([stored for stored in listed if stored.key not in gone], kept, {}, size=SIZE)

    assert after.missing == before.missing == ()
    assert after.windows == before.windows
