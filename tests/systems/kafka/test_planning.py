"""Which offsets a backup reads, and which segments it names again."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from include.engine.systems.kafka.cut import KafkaCut, TopicCut
from include.engine.systems.kafka.detail import Gap, SegmentRef, TopicDetail
from include.engine.systems.kafka.planning import Policy, Previous, ReadPlan, overlapping, plan_reads, runs, shares
from include.engine.systems.kafka.ranges import Range, SegmentFacts

AT = datetime(2026, 11, 23, tzinfo=UTC)


def cut(low: int, high: int, *, id_: str = "a", topic: str = "t") -> KafkaCut:
    return KafkaCut(cluster="c", topics={topic: TopicCut(id=id_, low=(low,), high=(high,))}, groups={})


def ref(first: int, last: int, topic: str = "t") -> SegmentRef:
    facts = SegmentFacts(
        topic=topic,
        partition=0,
        start=first,
        stop=last + 1,
        first=first,
        last=last,
        records=last - first + 1,
        raw_bytes=1,
        oldest=0,
        newest=1,
        content="",
    )
    return SegmentRef(entry=f"{topic}/0/{first}-{last}", facts=facts)


def previous(low: int, high: int, *segments: SegmentRef, id_: str = "a", gaps: tuple[Gap, ...] = ()) -> Previous:
    topics = {"t": TopicDetail(id=id_, partitions=1, factor=1, configs={})}
    return Previous(backup="b", at=AT, topics=topics, cut=cut(low, high, id_=id_), segments=segments, gaps=gaps)


def plan(
    now: KafkaCut, before: Previous | None, *, policy: Policy | None = None, since: float = 3600.0, keep: bool = False
) -> ReadPlan:
    policies = {"t": policy or Policy()}
    return plan_reads(now, before, policies=policies, seconds_since=since, keep_expired=keep)


def spans(found: ReadPlan) -> list[tuple[int, int]]:
    return [(wanted.start, wanted.stop) for wanted in found.ranges]


def test_a_first_backup_reads_what_is_there_and_calls_nothing_a_gap() -> None:
    found = plan(cut(100, 250), None)
    assert (spans(found), found.gaps) == ([(100, 250)], ())


def test_a_later_one_reads_from_the_last_cut() -> None:
    found = plan(cut(0, 250), previous(0, 100, ref(0, 99)))
    assert (spans(found), [s.entry for s in found.kept]) == ([(100, 250)], ["t/0/0-99"])


def test_nothing_new_is_nothing_to_read() -> None:
    assert spans(plan(cut(0, 100), previous(0, 100, ref(0, 99)))) == []


def test_what_retention_took_in_between_is_a_gap() -> None:
    found = plan(cut(150, 250), previous(0, 100, ref(0, 99)))
    assert (spans(found), found.gaps, found.kept) == (
        [(150, 250)],
        (Gap(topic="t", partition=0, start=100, stop=150),),
        (),
    )


def test_a_gap_is_told_until_all_around_it_has_expired() -> None:
    gap = Gap(topic="t", partition=0, start=40, stop=50)
    before = previous(0, 100, ref(0, 39), ref(50, 99), gaps=(gap,))
    assert plan(cut(45, 100), before).gaps == (gap,)
    assert plan(cut(60, 100), before).gaps == ()
    assert plan(cut(60, 100), before, keep=True).gaps == (gap,)


def test_expired_segments_are_dropped_unless_they_are_to_stay() -> None:
    before = previous(0, 100, ref(0, 49), ref(50, 99))
    assert [s.entry for s in plan(cut(60, 100), before).kept] == ["t/0/50-99"]
    assert [s.entry for s in plan(cut(60, 100), before, keep=True).kept] == ["t/0/0-49", "t/0/50-99"]


def test_another_topic_of_the_same_name_is_read_anew() -> None:
    found = plan(cut(0, 50, id_="b"), previous(0, 100, ref(0, 99)))
    assert (spans(found), found.kept) == ([(0, 50)], ())
    assert "created again" in found.notes[0]


def test_a_log_that_was_truncated_is_read_anew() -> None:
    found = plan(cut(0, 80), previous(0, 100, ref(0, 99)))
    assert (spans(found), found.kept) == ([(0, 80)], ())
    assert "truncated" in found.notes[0]


def test_a_compacted_topic_is_built_on_only_while_its_tombstones_live() -> None:
    policy = Policy(compacted=True, tombstones_live=7200)
    before = previous(0, 100, ref(0, 99))
    assert spans(plan(cut(0, 150), before, policy=policy, since=3600)) == [(100, 150)]
    assert spans(plan(cut(0, 150), before, policy=policy, since=7200)) == [(0, 150)]
    # They must live until they are read: the cuts of nightly backups may be some seconds less than a day apart.
    assert spans(plan(cut(0, 150), before, policy=policy, since=7190)) == [(0, 150)]


def test_of_a_damaged_backup_only_what_the_brokers_have_no_more_is_kept_and_only_where_it_is_wanted() -> None:
    gap = Gap(topic="t", partition=0, start=40, stop=50)
    before = previous(0, 100, ref(0, 39), ref(50, 99), gaps=(gap,))
    before = msgspec.structs.replace(before, damaged=True)
    found = plan(cut(0, 150), before)
    assert (spans(found), found.kept, found.gaps) == ([(0, 150)], (), (gap,))
    assert "b was found damaged" in found.notes[0]
    assert (spans(plan(cut(70, 150), before)), plan(cut(70, 150), before).kept) == ([(70, 150)], ())
    kept = plan(cut(70, 150), before, keep=True)
    assert (spans(kept), [s.entry for s in kept.kept]) == ([(100, 150)], ["t/0/0-39", "t/0/50-99"])
    kept = plan(cut(45, 150), before, keep=True)
    assert (spans(kept), [s.entry for s in kept.kept]) == ([(45, 150)], ["t/0/0-39"])
    assert plan(cut(120, 150), before).gaps == (Gap(topic="t", partition=0, start=100, stop=120),)


def test_a_thousand_partitions_are_planned_in_a_moment() -> None:
    topics = {f"t{i}": TopicCut(id="a", low=(0,) * 10, high=(5000,) * 10) for i in range(100)}
    now = KafkaCut(cluster="c", topics=topics, groups={})
    assert len(plan_reads(now, None, policies={}, seconds_since=0, keep_expired=False).ranges) == 1000


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10_000_000)), max_size=8), st.integers(1, 8))
def test_every_reader_gets_its_share_of_one_line_and_nothing_is_read_twice_or_left_out(
    sizes: list[tuple[int, int]], readers: int
) -> None:
    lows = tuple(low for low, _ in sizes)
    now = KafkaCut(cluster="c", topics={"t": TopicCut(id="a", low=lows, high=tuple(map(sum, sizes)))}, groups={})
    ranges = plan(now, None).ranges
    total = sum(more for _, more in sizes)
    hands = runs(ranges, readers)
    assert len(hands) <= readers
    line = [one for hand in hands for one in hand]
    assert line == sorted(line, key=_key)
    for partition, (low, more) in enumerate(sizes):
        mine = [(one.start, one.stop) for one in line if one.partition == partition]
        assert sum(stop - start for start, stop in mine) == more
        assert all(a[1] == b[0] for a, b in pairwise(mine))
        assert not mine or mine[0][0] == low
    # A cut that would leave a crumb is not made.
    assert all(sum(one.stop - one.start for one in hand) <= total / readers + 20_001 * readers for hand in hands)
    assert sorted(map(_key, ranges)) == sorted(_key(wanted) for hand in shares(ranges, readers) for wanted in hand)


def test_segments_that_overlap_are_named() -> None:
    assert overlapping([ref(0, 9), ref(10, 19)]) == []
    assert overlapping([ref(0, 10), ref(10, 19)]) == ["t-0 [10, 19]"]


def _key(wanted: Range) -> tuple[str, int, int]:
    return wanted.topic, wanted.partition, wanted.start
