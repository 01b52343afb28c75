"""Digests of rows do not depend on their order, and nothing that was not compared is called equal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.model import Verdict
from include.engine.systems.cassandra.samples import RangeSample, Sampler, TableSamples, compare, digest

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Answers:
    """A cluster whose every range holds these rows."""

    def __init__(self, rows: list[str]) -> None:
        self._rows = rows

    def rows(self, statement: str, *_: Any, **__: Any) -> list[dict[str, Any]]:
        if "system_schema" in statement:
            return [{"kind": "partition_key", "column_name": "k", "position": 0}]
        return [{"json": row} for row in self._rows]


class Columns:
    """A cluster with one table of these columns, by name."""

    def __init__(self, types: dict[str, str]) -> None:
        self._types = types

    def rows(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return [
            {"table_name": "t", "kind": "regular", "column_name": name, "type": kind, "position": -1}
            for name, kind in self._types.items()
        ]


def test_only_columns_with_one_ttl_are_asked_when_they_expire() -> None:
    types = {
        "plain": "text",
        "frozen": "frozen<place>",
        "vector": "vector<float, 3>",
        "place": "place",
        "quoted": '"Place"',
        "list": "list<int>",
        "counter": "counter",
    }
    sampler = Sampler(Columns(types), consistency="ALL")  # type: ignore[arg-type]
    sampler.learn(["ks"])
    assert sampler.expiring("ks", "t") == ["plain", "frozen", "vector"]


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
