"""Whether the parts of a set fit together, judged on paper: every way in which they do not is told, and none is green."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.model import (
    Check,
    Consistency,
    Coverage,
    Cut,
    Flow,
    Frozen,
    Reconciled,
    SetManifest,
    Target,
    Verdict,
    decode,
    encode,
    worst,
)
from include.engine.verbs.consistency import (
    judge_consistency,
    judge_coverage,
    judge_reconciliation,
    nothing_to_look_at,
    without_records,
)

SPARK, CASSANDRA, KAFKA, POSTGRES = map(Target.parse, ("spark/users", "cassandra/main", "kafka/main", "postgres/main"))
START = datetime(2026, 11, 23, 2, tzinfo=UTC)
FLOW = Flow(name="users", topic="users_created", table="spark_streams.created_users", idempotent=True, why="by id")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def cuts(
    reads: Mapping[int, int], ends: Mapping[int, int], *, begins: Mapping[int, int] | None = None
) -> dict[Target, Cut]:
    return {
        SPARK: Cut(at=at(0.5), position="batch 7", offsets={"users_created": dict(reads)}, flows=(FLOW,)),
        CASSANDRA: Cut(at=at(1.5), position="tag"),
        KAFKA: Cut(
            at=at(2.5),
            position="offsets",
            offsets={"users_created": dict(ends), "other": {0: 5}},
            begins={"users_created": dict(begins or dict.fromkeys(ends, 0)), "other": {0: 0}},
        ),
        POSTGRES: Cut(at=at(3.5), position="0/3000060"),
    }


ORDER = [Frozen(target=t, began=at(i), ended=at(i + 0.9)) for i, t in enumerate((SPARK, CASSANDRA, KAFKA, POSTGRES))]


def judged(order: Sequence[Frozen], whole: Mapping[Target, Cut]) -> Consistency:
    return judge_consistency(order, whole, without_records(whole))


def verdicts(found: Consistency) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in found.checks}


def test_a_set_frozen_in_order_fits_together() -> None:
    found = judged(ORDER, cuts({0: 10, 1: 20}, {0: 12, 1: 20}))
    assert set(verdicts(found).values()) == {Verdict.PASS}
    assert (found.replay_records, found.skew_seconds) == (2, 3.0)
    assert found.freeze_seconds == pytest.approx(3.9)


def test_a_topic_that_is_the_same_one_fits_and_so_does_one_of_which_a_backup_of_before_tells_no_id() -> None:
    for told in ({"users_created": "1"}, {}):
        whole = changed(spark={"identities": told}, kafka={"identities": {"users_created": "1"}})
        assert set(verdicts(judged(orders(whole), whole)).values()) == {Verdict.PASS}


def changed(**parts: Any) -> dict[Target, Cut]:
    whole = cuts({0: 10}, {0: 12})
    for name, what in parts.items():
        target = {"spark": SPARK, "cassandra": CASSANDRA, "kafka": KAFKA}[name]
        if what is None:
            del whole[target]
        else:
            whole[target] = msgspec.structs.replace(whole[target], **what)
    return whole


def orders(whole: Mapping[Target, Cut]) -> list[Frozen]:
    return [one for one in ORDER if one.target in whole]


@pytest.mark.parametrize(
    ("parts", "check", "verdict"),
    [
        ({"spark": {"offsets": {"users_created": {0: 13}}}}, "spark/users: read up to", Verdict.FAIL),
        ({"spark": {"offsets": {"users_created": {0: 1, 1: 1}}}}, "spark/users: read up to", Verdict.FAIL),
        ({"spark": {"offsets": {"gone": {0: 1}}}}, "spark/users: read up to", Verdict.FAIL),
        ({"spark": {"offsets": {}}}, "spark/users: read up to", Verdict.UNVERIFIED),
        ({"kafka": {"begins": {"users_created": {0: 11}}}}, "spark/users: read up to", Verdict.FAIL),
        (
            {"spark": {"identities": {"users_created": "1"}}, "kafka": {"identities": {"users_created": "2"}}},
            "spark/users: read up to",
            Verdict.FAIL,
        ),
        ({"kafka": None}, "spark/users: read up to", Verdict.UNVERIFIED),
        ({"cassandra": None}, "spark/users: tables after the checkpoint", Verdict.UNVERIFIED),
        ({"cassandra": {"at": at(0.2)}}, "spark/users: tables after the checkpoint", Verdict.FAIL),
        (
            {"spark": {"flows": (msgspec.structs.replace(FLOW, idempotent=False, why="uuid() in the key"),)}},
            "spark/users: replay of users writes the same rows",
            Verdict.FAIL,
        ),
        (
            {"spark": {"flows": (msgspec.structs.replace(FLOW, idempotent=None),)}},
            "spark/users: replay of users writes the same rows",
            Verdict.UNVERIFIED,
        ),
        ({"spark": {"flows": ()}}, "spark/users: replay writes the same rows", Verdict.UNVERIFIED),
    ],
    ids=[
        "read further than the log goes", "a partition that is gone", "a topic in no log", "no offsets",
        "retention was faster", "a topic made anew", "no log", "no tables", "tables before the checkpoint", "a key from the clock",
        "nobody knows the key", "no flow is told",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_and_is_not_green(parts: dict[str, Any], check: str, verdict: Verdict) -> None:
    whole = changed(**parts)
    found = judged(orders(whole), whole)
    assert verdicts(found)[check] is verdict
    assert [name for name, one in verdicts(found).items() if one is not Verdict.PASS] == [check]


def test_a_partition_that_the_stream_has_not_seen_is_replayed_whole() -> None:
    found = judged(ORDER, cuts({0: 10}, {0: 10, 1: 7}, begins={0: 0, 1: 3}))
    assert set(verdicts(found).values()) == {Verdict.PASS}
    assert found.replay_records == 4


@pytest.mark.parametrize(
    ("order", "verdict"),
    [
        ([], Verdict.UNVERIFIED),
        (ORDER[:3], Verdict.UNVERIFIED),
        ([ORDER[1], ORDER[0], *ORDER[2:]], Verdict.FAIL),
        ([ORDER[0], msgspec.structs.replace(ORDER[1], began=at(0.1)), *ORDER[2:]], Verdict.FAIL),
    ],
    ids=["not noted", "not of all", "wrong way round", "at the same time"],
)
def test_the_order_of_the_freeze_is_part_of_the_proof(order: Sequence[Frozen], verdict: Verdict) -> None:
    found = judged(order, cuts({0: 10}, {0: 12}))
    assert verdicts(found)["order of the freeze"] is verdict
    assert worst(list(verdicts(found).values())) is not Verdict.PASS


def test_a_set_without_a_stream_is_judged_by_its_order_alone() -> None:
    whole = {target: cut for target, cut in cuts({0: 1}, {0: 1}).items() if target is not SPARK}
    found = judged(ORDER[1:], whole)
    assert verdicts(found) == {"order of the freeze": Verdict.PASS}
    assert found.replay_records is None


class Model:
    """A stream, a log and a table, step by step, frozen at the given steps: what the claim is about."""

    def __init__(self, steps: Sequence[str]) -> None:
        self.steps, self.log, self.table, self.read = steps, list[int](), set[int](), 0

    def states(self) -> Iterator[tuple[int, frozenset[int], tuple[int, ...]]]:
        yield self.read, frozenset(self.table), tuple(self.log)
        for step in self.steps:
            if step == "produce":
                self.log.append(len(self.log))
            elif step == "write" and self.read < len(self.log):  # rows first, the checkpoint after: at least once
                self.table |= set(self.log[self.read : self.read + 2])
            elif step == "commit":
                while self.read < len(self.log) and self.log[self.read] in self.table:
                    self.read += 1
            yield self.read, frozenset(self.table), tuple(self.log)


@given(st.lists(st.sampled_from(["produce", "write", "commit"]), max_size=60), st.data())
def test_whenever_a_set_is_frozen_a_replay_gives_the_rows_of_the_log(steps: list[str], data: st.DataObject) -> None:
    """The claim itself: checkpoint, then tables, then log, at any three moments, and the replay is whole and no more."""
    states = list(Model(steps).states())
    first, second, third = sorted(data.draw(st.integers(0, len(states) - 1)) for _ in range(3))
    read, table, log = states[first][0], states[second][1], states[third][2]
    assert table | set(log[read:]) == set(log)
    # The other way round, tables before the checkpoint, rows would be missing: that is why the order is checked.


def test_gaps_are_failures_and_silence_is_not_green() -> None:
    assert judge_coverage(Coverage(gaps={"kafka/main": ()})).verdict is Verdict.PASS
    found = judge_coverage(Coverage(gaps={"kafka/main": ("topic orders",)}, unread={"cassandra/main": "down"}))
    assert (found.verdict, "topic orders" in found.detail) == (Verdict.FAIL, True)
    assert judge_coverage(Coverage(gaps={}, unread={"cassandra/main": "down"})).verdict is Verdict.UNVERIFIED


def test_what_is_left_out_on_purpose_is_told_and_is_no_failure() -> None:
    excluded: dict[str, tuple[str, ...]] = {"kafka/main": ("topic debug_1",)}
    found = judge_coverage(Coverage(gaps={"kafka/main": ()}, excluded=excluded))
    assert (found.verdict, found.detail) == (
        Verdict.PASS,
        "nothing on kafka/main is left out but, on purpose, kafka/main: topic debug_1",
    )
    worse = judge_coverage(Coverage(gaps={"kafka/main": ("topic orders",)}, excluded=excluded))
    assert (worse.verdict, "debug_1" in worse.detail) == (Verdict.FAIL, False)


def test_records_are_rows_or_dead_letters_or_lost() -> None:
    found = Reconciled(flow="users", since=None, until=None, records=10, rows=8, dead_letters=2)
    assert judge_reconciliation(found, {}).verdict is Verdict.PASS
    nothing = msgspec.structs.replace(found, records=0, rows=0, dead_letters=0)
    assert judge_reconciliation(nothing, {}).verdict is Verdict.UNVERIFIED  # nobody looked at anything
    lost = judge_reconciliation(msgspec.structs.replace(found, rows=7, missing=("4711",)), {})
    assert lost.verdict is Verdict.FAIL
    assert "4711" in lost.detail


def sealed(whole: Mapping[Target, Cut], *more: Check) -> SetManifest:
    """A set of *whole*, in which nothing was found to reconcile."""
    silent = without_records(whole)
    nothing = Reconciled(flow="users", since=None, until=None, records=0, rows=0, dead_letters=0)
    checks = (
        *judge_consistency(orders(whole), whole, silent).checks,
        judge_reconciliation(nothing, silent),
        *more,
    )
    return SetManifest(
        id="x",
        pipeline="p",
        started=START,
        frozen=START,
        finished=START,
        parts=(),
        checks=checks,
        nothing_to_look_at=nothing_to_look_at(whole, silent),
    )


def silent(reads: Mapping[int, int], ends: Mapping[int, int], begins: Mapping[int, int]) -> dict[Target, Cut]:
    whole = cuts(reads, ends, begins=begins)
    return whole if reads else whole | {SPARK: msgspec.structs.replace(whole[SPARK], offsets={})}


NONE_YET = "users has had no record yet: users_created ends at offset 0 in 2 of 2 partitions"


@pytest.mark.parametrize("reads", [{}, {0: 0, 1: 0}], ids=["before its first batch", "after it"])
def test_on_the_first_day_of_a_pipeline_the_ends_of_its_log_prove_that_no_record_is_missing(
    reads: dict[int, int],
) -> None:
    found = sealed(silent(reads, {0: 0, 1: 0}, {0: 0, 1: 0}))
    assert found.verdict is Verdict.PASS
    told = {check.name: check.detail for check in found.checks}
    assert told["reconciliation of users"] == NONE_YET
    assert told["spark/users: read up to"] == (
        NONE_YET if not reads else "users_created 0 (sums of offsets); 0 to replay"
    )
    assert (found.waits, found.nothing_to_look_at) == ((), ())


def test_a_log_whose_records_have_all_expired_proves_nothing_and_waits_for_a_record() -> None:
    expired = sealed(silent({0: 7, 1: 9}, {0: 7, 1: 9}, {0: 7, 1: 9}))
    empty = "the log of users is empty: its records have expired, and nobody can look what became of them"
    assert (expired.verdict, expired.waits) == (Verdict.UNVERIFIED, (f"reconciliation of users: {empty}",))
    unread = sealed(silent({}, {0: 7, 1: 9}, {0: 7, 1: 9}))
    assert unread.waits == (f"spark/users: read up to: {empty}", f"reconciliation of users: {empty}")


def test_a_topic_that_was_made_anew_has_no_first_day() -> None:
    whole = silent({0: 0}, {0: 0}, {0: 0})
    whole[SPARK] = msgspec.structs.replace(whole[SPARK], identities={"users_created": "1"})
    whole[KAFKA] = msgspec.structs.replace(whole[KAFKA], identities={"users_created": "2"})
    found = sealed(whole)
    assert found.verdict is Verdict.FAIL
    assert "made anew" in {check.name: check.detail for check in found.checks}["spark/users: read up to"]
    assert without_records(whole) == {}


def test_a_flow_that_has_read_nothing_is_told_apart_from_one_that_had_nothing_to_read() -> None:
    other = msgspec.structs.replace(FLOW, name="events", topic="other")
    whole = silent({}, {0: 0}, {0: 0})
    whole[SPARK] = msgspec.structs.replace(whole[SPARK], flows=(FLOW, other))
    (check,) = [check for check in judged(ORDER, whole).checks if check.name == "spark/users: read up to"]
    assert check.verdict is Verdict.UNVERIFIED
    assert check.detail == (
        "users has had no record yet: users_created ends at offset 0 in 1 of 1 partitions; "
        "events has read nothing of other, which has records: its checkpoint tells no offsets"
    )
    assert nothing_to_look_at(whole, without_records(whole)) == ()


@pytest.mark.parametrize(
    "whole",
    [
        silent({}, {0: 3}, {0: 0}),
        silent({0: 3}, {0: 3}, {0: 0}),
        silent({0: 2}, {0: 3}, {0: 3}),
        {target: cut for target, cut in silent({}, {0: 0}, {0: 0}).items() if target is not KAFKA},
    ],
    ids=[
        "a job that reads nothing",
        "records that nobody found",
        "records that expired unread",
        "a log that is in no set",
    ],
)
def test_a_set_that_could_be_proved_and_was_not_waits_for_nothing(whole: dict[Target, Cut]) -> None:
    found = sealed(whole)
    assert found.verdict is not Verdict.PASS
    assert found.waits == ()


def test_whatever_else_is_not_proved_or_wrong_is_no_waiting() -> None:
    whole = silent({0: 7}, {0: 7}, {0: 7})
    assert sealed(whole).waits
    for verdict in (Verdict.FAIL, Verdict.UNVERIFIED):
        assert sealed(whole, Check(name="coverage", verdict=verdict, detail="x")).waits == ()


def test_of_two_flows_of_one_name_both_have_to_be_without_records() -> None:
    other = Target.parse("spark/twin")
    flow = msgspec.structs.replace(FLOW, topic="other")
    whole = silent({}, {0: 0}, {0: 0})
    assert set(without_records(whole)) == {"users"}
    assert without_records(whole | {other: msgspec.structs.replace(whole[SPARK], flows=(flow,))}) == {}


def test_a_set_of_an_older_mainstay_is_read_and_is_not_green() -> None:
    times = {name: START.isoformat() for name in ("started", "frozen", "finished")}
    old = json.dumps({"version": 1, "id": "20261123T020000Z", "pipeline": "p", "parts": [], **times})
    found = decode(old.encode(), SetManifest, where="sets/x")
    assert (found.consistency, found.verdict) == (None, Verdict.UNVERIFIED)
    again = msgspec.structs.replace(found, consistency=judged(ORDER, cuts({0: 10}, {0: 12})), order=tuple(ORDER))
    assert decode(encode(again), SetManifest, where="sets/x") == again
