"""Digests of rows do not depend on their order, and nothing that was not compared is called equal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.model import Verdict
from include.engine.systems.cassandra.samples import RangeSample, TableSamples, compare, digest

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Answers:
    """A cluster whose every range holds these rows."""

    def __init__(self, rows: list[str]) -> None:
        self._rows = rows

    def rows(self, statement: str, *_: Any, **__: Any) -> list[dict[str, Any]]:
        if "system_schema" in statement:
            return [{"kind": "partition_key", "column_name": "k", "position": 0}]
        return [{"json": row} for row in self._rows]


def sample(rows: list[str], **values: Any) -> TableSamples:
    one = RangeSample(
        keyspace="ks", table="t", after=0, upto=9, rows=len(rows), digest=digest(rows), expires=values.pop("expires", None)
    )  # fmt: skip
    return TableSamples(keyspace="ks", table="t", ranges=(one,), **values)


def judged(found: list[str], wanted: TableSamples) -> Verdict:
    (check,) = compare(Answers(found), [wanted], now=NOW)  # type: ignore[arg-type]
    return check.verdict


@given(st.lists(st.text()), st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[str], dice: Any) -> None:
    shuffled = list(rows)
    dice.shuffle(shuffled)
    assert digest(rows) == digest(shuffled)


@pytest.mark.parametrize(
    ("found", "wanted", "verdict"),
    [
        (["a", "b"], sample(["b", "a"]), Verdict.PASS),
        (["a"], sample(["a", "b"]), Verdict.FAIL),
        (["a", "x"], sample(["a", "b"]), Verdict.FAIL),
        (["a", "a"], sample(["a"]), Verdict.FAIL),
        ([], sample([]), Verdict.PASS),
        (["a"], TableSamples(keyspace="ks", table="t"), Verdict.UNVERIFIED),
        (["a"], TableSamples(keyspace="ks", table="t", unread="too busy"), Verdict.UNVERIFIED),
        ([], sample(["a"], expires=NOW - timedelta(seconds=1)), Verdict.UNVERIFIED),
        ([], sample(["a"], expires=NOW + timedelta(hours=1)), Verdict.FAIL),
    ],
    ids=[
        "equal",
        "a row less",
        "a value changed",
        "a row twice",
        "empty",
        "nothing quiet",
        "not read",
        "expired",
        "not yet",
    ],
)
def test_verdicts(found: list[str], wanted: TableSamples, verdict: Verdict) -> None:
    assert judged(found, wanted) is verdict
