"""Which segments lead where, and that a gap is never taken for a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.errors import Incomplete
from include.engine.model import System, Target
from include.engine.systems.cassandra.commit_logs import (
    Newcomer,
    Segment,
    expired,
    key_of,
    needed,
    reach,
    reach_of_newcomer,
    reach_of_stranger,
    rounds,
    stored_segment,
    turns,
)
from include.engine.systems.cassandra.replay import archiving_properties

START = datetime(2026, 11, 23, 2, tzinfo=UTC)
BASE = int(START.timestamp() * 1000)
TARGET = Target(System.CASSANDRA, "main")


def segment(number: int, minutes: float, host: str = "h") -> Segment:
    return Segment(
        host_id=host,
        name=f"CommitLog-8-{number}.log",
        number=number,
        modified=START + timedelta(minutes=minutes),
        sha256=f"{number:064x}",
        bytes=10,
    )


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def log(*gone: int) -> list[Segment]:
    """Six segments of ten minutes, without those."""
    return [segment(BASE + n, 10 * (n + 1)) for n in range(6) if n not in gone]


def test_a_whole_log_leads_to_its_end_and_what_ended_well_before_is_not_needed() -> None:
    found = reach("h", log(), at(25))
    assert (found.until, found.missing) == (at(60), ())
    assert [one.number - BASE for one in needed([found], at(55))] == [1, 2, 3, 4, 5]
    assert [one.number - BASE for one in reach("h", log(), at(20.01)).segments] == [0, 1, 2, 3, 4, 5]
    assert [one.number - BASE for one in reach("h", log(), at(24)).segments] == [1, 2, 3, 4, 5]


def test_a_log_that_begins_after_the_backup_leads_nowhere() -> None:
    found = reach("h", log(0, 1), at(15))
    assert found.until is None
    with pytest.raises(Incomplete, match="does not begin before the backup"):
        needed([found], at(30))


def test_a_gap_ends_the_reach_and_is_named() -> None:
    found = reach("h", log(3), at(15))
    assert (found.until, found.missing) == (at(30), (BASE + 3,))
    assert len(needed([found], at(29))) == 3
    with pytest.raises(Incomplete, match=f"leads to .* only, because its segment {BASE + 3} is missing"):
        needed([found], at(31))


def test_a_restart_begins_anew_and_leaves_no_gap() -> None:
    again = int(at(61).timestamp() * 1000)
    found = reach("h", [*log(), segment(again, 70), segment(again + 1, 80)], at(15))
    assert (found.until, found.missing) == (at(80), ())
    assert reach("h", [*log(), segment(again, 70), segment(again + 2, 80)], at(15)).missing == (again + 1,)


def test_a_point_that_one_node_does_not_reach_is_refused() -> None:
    reaches = [reach("a", log(), at(15)), reach("b", log(5), at(15))]
    with pytest.raises(Incomplete, match="node b leads to"):
        needed(reaches, at(55))


def test_nodes_whose_segments_have_the_same_names_are_replayed_one_after_the_other() -> None:
    first, second = [segment(BASE + n, 10 * n, "a") for n in range(3)], [segment(BASE + n, 10 * n, "b") for n in (2, 3)]
    third = [segment(BASE + n, 10 * n, "c") for n in (0, 1)]
    found = rounds([*third, *second, *first])
    assert [[(one.host_id, one.number - BASE) for one in some] for some in found] == [
        [("c", 0), ("c", 1), ("b", 2), ("b", 3)],
        [("a", 0), ("a", 1), ("a", 2)],
    ]
    assert rounds([]) == []


def test_the_log_of_a_node_that_joined_after_the_backup_is_needed_and_that_of_one_that_had_gone_is_not() -> None:
    found = reach_of_stranger("new", log(0, 1), at(25))
    assert found is not None
    assert (found.until, len(found.segments), found.missing) == (at(60), 4, ())
    with pytest.raises(Incomplete, match="node new leads to"):
        needed([found], at(61))
    holed = reach_of_stranger("new", log(0, 1, 4), at(25))
    assert holed is not None
    assert holed.missing == (BASE + 4,)
    assert reach_of_stranger("gone", log(), at(61)) is None


def test_a_node_that_joined_and_of_which_nothing_is_archived_is_known_only_until_it_joined() -> None:
    joined = Newcomer(host_id="new", not_before=at(25))
    found = reach_of_newcomer(joined, [], at(15))
    assert found.until == at(25)
    assert needed([found], at(25)) == []
    with pytest.raises(
        Incomplete, match=r"the node new joined the ring after the backup, .* after 2026-11-23 02:25:00Z"
    ):
        needed([found], at(26))


@pytest.mark.parametrize(
    ("born", "until"),
    [(0.0, 60.0), (-10.0, 15.0), (40.0, 60.0)],
    ids=[
        "archived from its first start on",
        "archived later: unknown from the backup on",
        "born later than its name says",
    ],
)
def test_the_log_of_a_newcomer_begins_with_its_first_start(born: float, until: float) -> None:
    joined = Newcomer(host_id="new", not_before=at(15), born=at(born))
    assert reach_of_newcomer(joined, log(), at(15)).until == at(until)


def test_what_a_node_took_that_was_born_after_the_point_is_of_no_concern() -> None:
    joined = Newcomer(host_id="new", not_before=at(15), born=at(50))
    found = reach_of_newcomer(joined, [], at(15))
    assert needed([found], at(45)) == []
    with pytest.raises(Incomplete, match="joined the ring"):
        needed([found], at(46))  # its clock may differ from ours by five minutes


def names(some: list[list[Segment]]) -> list[list[int]]:
    return [[one.number - BASE for one in turn] for turn in some]


def test_the_next_life_of_a_server_waits_for_the_end_of_the_last_and_for_its_own_first_segment() -> None:
    hour = 3_600_000
    backlog = [segment(BASE + n, 1) for n in (hour + 2, 4, hour, 3, 5, hour + 1)]
    assert names(turns(backlog)) == [[3], [4, 5], [hour], [hour + 1, hour + 2]]
    assert turns([]) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), unique=True))
def test_whatever_is_stored_when_a_shipper_dies_no_reach_goes_beyond_what_it_has_not_sent(
    written: list[tuple[int, int]],
) -> None:
    """Lives of five segments, of which some are to be sent: those of a turn in any order, and a turn after the one before."""
    lives = [segment(BASE + life * 3_600_000 + n, 60 * life + 10 * (n + 1)) for life in range(4) for n in range(5)]
    backlog = [lives[5 * life + n] for life, n in written]
    stored = [one for one in lives if one not in backlog]
    order = turns(backlog)
    for done, turn in enumerate(order):
        for last in turn:  # the worst that a turn which failed can leave: its other segments
            there = [*stored, *(one for some in order[:done] for one in some), *(one for one in turn if one != last)]
            found = reach("h", sorted(there, key=lambda one: one.number), at(-100))
            if lives[0] in there and found.until is not None:
                assert found.until < last.modified


def test_a_clock_that_was_set_back_before_a_restart_is_told_and_leads_no_further() -> None:
    again = int(at(55).timestamp() * 1000)  # the last segment was written at 60 by the clock that stood before
    found = reach("h", [*log(), segment(again, 65)], at(15))
    assert (found.until, found.missing, found.set_back) == (at(60), (BASE + 6,), True)
    with pytest.raises(Incomplete, match="because its server was started again after its clock was set back"):
        needed([found], at(62))


def test_a_clock_that_is_set_back_while_a_server_runs_loses_nothing() -> None:
    """Numbers go on as they were; times were lived twice, and every segment of them is needed."""
    back = [segment(BASE + n, 10 * (n + 1) - (15 if n >= 3 else 0)) for n in range(6)]
    found = reach("h", back, at(28))
    assert (found.until, found.missing) == (at(45), ())
    assert [one.number - BASE for one in found.segments] == [2, 3, 4, 5]


def test_a_few_numbers_that_lack_are_never_taken_for_a_restart() -> None:
    """Also when what is there was full within two seconds, which is how exactly times are known."""
    found = reach("h", [segment(BASE - 1, -10), segment(BASE, 0), segment(BASE + 3, 1)], at(-5))
    assert found.missing == (BASE + 1, BASE + 2)


def test_keys_tell_all_that_is_needed() -> None:
    one = segment(BASE, 10)
    assert stored_segment(key_of(TARGET, one), 10) == Segment(
        host_id="h",
        name=one.name,
        number=BASE,
        modified=one.modified,
        sha256=one.sha256,
        bytes=10,
        key=key_of(TARGET, one),
    )
    assert stored_segment("cassandra/main/commitlog/h/notes.txt", 1) is None


@given(st.sets(st.integers(0, 5)), st.floats(0, 70), st.floats(0, 70))
def test_what_expires_is_never_needed_by_a_backup_that_is_kept(gone: set[int], oldest: float, later: float) -> None:
    some = log(*gone)
    kept = [at(min(oldest, later)), at(max(oldest, later))]
    removed = expired({"h": some}, kept[0], {"h"})
    left = [one for one in some if one not in removed]
    for moment in kept:
        before, after = reach("h", some, moment), reach("h", left, moment)
        assert before == after


def test_the_log_of_a_node_that_no_kept_backup_has_is_forgotten_to_the_last_segment() -> None:
    some = log()
    assert expired({"gone": some}, at(100_000), set()) == some
    assert expired({"h": some}, at(100_000), {"h"}) == some[:-1]
    living = at(40)  # a node that joined since goes on writing
    assert expired({"new": some}, living, set()) == expired({"new": some}, living, {"new"})


def test_the_point_is_written_to_the_microsecond_in_utc() -> None:
    point = datetime(2026, 11, 23, 4, 5, 6, 7, tzinfo=UTC)
    assert "restore_point_in_time=2026:11:23 04:05:06.000007\n" in archiving_properties(["/a", "/b"], point)
    assert "restore_directories=/a,/b\n" in archiving_properties(["/a", "/b"], point)
