"""What two counts of a table around a replay say, and which records are old enough for their rows to have ended."""

from __future__ import annotations

import pytest

from include.engine.model import Verdict
from include.engine.systems.spark.reconcile import Read, living
from include.engine.systems.spark.recount import Counted, judged

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("new", "now", "lifetime", "verdict", "said"),
    [
        (3, 13, 0, Verdict.PASS, "it has 13"),
        (0, 10, 0, Verdict.PASS, "added 0"),
        (3, 14, 0, Verdict.FAIL, "1 are of no record"),
        (3, 16, 3600, Verdict.FAIL, "3 are of no record"),
        (3, 12, 0, Verdict.FAIL, "1 are gone"),
        (3, 12, 3600, Verdict.PASS, "it has 12"),
    ],
    ids=[
        "just the records",
        "all were there",
        "one too many",
        "too many, and some end",
        "one is gone",
        "one has ended",
    ],
)
def test_a_replay_adds_its_records_and_nothing_else(
    new: int, now: int, lifetime: int, verdict: Verdict, said: str
) -> None:
    check = judged("rows of users", "k.t", Counted(rows=10, replay=5, lifetime=lifetime), new, now)
    assert (check.verdict, said in check.detail) == (verdict, True), check.detail


def test_a_record_older_than_rows_live_is_not_looked_for() -> None:
    old, new = (Read((0, n), int((NOW - age) * 1000), b"{}", {}) for n, age in ((0, 3500.0), (1, 3400.0)))
    assert living([old, new], 0, NOW) == [old, new]
    assert living([old, new], 3600, NOW + 90) == [new]
    assert living([old, new], 3600, NOW + 900) == []
