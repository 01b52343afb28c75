"""A transaction that was open at two cuts in a row hangs; one that is open at a cut alone is everyday."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from include.engine.systems.kafka.cut import KafkaCut, TopicCut
from include.engine.systems.kafka.detail import Saved
from include.engine.systems.kafka.held import hanging, held, reaches
from tests.systems.kafka.test_decisions import saved

AT = datetime(2026, 11, 23, tzinfo=UTC)


def cut(high: int, end: int, *, id_: str = "a") -> KafkaCut:
    return KafkaCut(cluster="c", topics={"t": TopicCut(id=id_, low=(0,), high=(high,), end=(end,))}, groups={})


def backup(of: KafkaCut, hours: int, previous: Saved | None) -> Saved:
    empty = saved()
    found = held(of, AT + timedelta(hours=hours), previous)
    return msgspec.structs.replace(empty, cut=of, detail=msgspec.structs.replace(empty.detail, held=found))


def test_it_is_told_since_the_first_cut_that_saw_it_and_over_when_the_partition_has_moved() -> None:
    first = backup(cut(5, 9), 0, None)
    assert hanging(first.detail.held, AT) == ()
    second = backup(cut(5, 12), 1, first)
    third = backup(cut(5, 15), 2, second)
    at = AT + timedelta(hours=2)
    (one,) = hanging(third.detail.held, at)
    assert (one.offset, one.waiting, one.since) == (5, 10, AT)
    assert reaches(third.detail.held, at) == AT
    later = AT + timedelta(hours=3)
    for moved in (cut(15, 15), cut(7, 15), cut(5, 15, id_="another topic of this name")):
        found = held(moved, later, third)
        assert hanging(found, later) == ()
        assert reaches(found, later) == later
