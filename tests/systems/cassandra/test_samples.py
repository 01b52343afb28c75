"""Digests of rows do not depend on their order, and nothing that was not compared is called equal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.model import Verdict
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.ranges import LARGEST, Rows, Sampler, digest
from include.engine.systems.cassandra.samples import RangeSample, TableSamples, compare, keep_quiet

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Answers:
    """A cluster whose every range holds these rows."""

    def __init__(self, rows: list[str]) -> None:
        self._rows = rows

    def rows(self, statement: str, *_: Any, **__: Any) -> list[dict[str, Any]]:
        if "system_schema" in statement:
            return [{"kind": "partition_key", "column_name": "k", "position": 0}]
        return [{"json": row} for row in self._rows]


class Table:
    """A cluster with one table, which has these columns and gives these rows."""

    def __init__(
        self,
        columns: list[tuple[str, str, str]],
        rows: list[str] | None = None,
        *,
        versions: tuple[str, ...] = ("5.0.9",),
        **table: Any,
    ) -> None:
        self._columns = columns
        self._versions = versions
        self._rows = rows or []
        self._table = {"table_name": "t", "flags": {"compound"}, "default_time_to_live": 0, **table}
        self.asked: list[str] = []

    def ring(self) -> list[Node]:
        return [
            Node(host_id=str(n), address="a", datacenter="dc1", rack="r", version=version, tokens=())
            for n, version in enumerate(self._versions)
        ]

    def rows(self, statement: str, *_: Any, **__: Any) -> list[dict[str, Any]]:
        self.asked.append(statement)
        if "system_schema.columns" in statement:
            return [
                {"table_name": "t", "kind": kind, "column_name": name, "type": type_, "position": -1}
                for name, kind, type_ in self._columns
            ]
        if "system_schema.tables" in statement:
            return [self._table]
        return [{"json": row} for row in self._rows]


def sampler_of(columns: list[tuple[str, str, str]], rows: list[str] | None = None, **table: Any) -> Sampler:
    sampler = Sampler(Table(columns, rows, **table), consistency="ALL")  # type: ignore[arg-type]
    sampler.learn(["ks"])
    return sampler


def test_only_columns_with_one_ttl_are_asked_when_they_expire() -> None:
    types = {
        "plain": "text",
        "frozen": "frozen<place>",
        "vector": "vector<float, 3>",
        "place": "place",
        "quoted": '"Place"',
        "list": "list<int>",
        "counter": "counter",
        "odd": "'org.example.Type'",
    }
    columns = [("k", "partition_key", "int"), *((name, "regular", kind) for name, kind in types.items())]
    sampler = sampler_of([*columns, ("of_all", "static", "int")])
    assert sampler.expiring("ks", "t") == ["of_all", "frozen", "plain", "vector"]
    assert sampler.parted("ks", "t") == ["list", "place", "quoted"]
    assert sampler_of(columns, versions=("5.0.9", "4.1.9")).parted("ks", "t") == []  # one node cannot be asked


def test_columns_are_named_in_the_servers_own_order() -> None:
    columns = [("b", "regular", "int"), ("Z", "regular", "int"), ("s", "static", "int"), ("k", "partition_key", "int")]
    assert sampler_of(columns).columns("ks", "t") == ("k", "s", "Z", "b")


def test_columns_that_compact_storage_hides_are_not_asked_for() -> None:
    shown = [("k", "partition_key", "int"), ("v", "static", "text")]
    hidden = [("column1", "clustering", "text"), ("value", "regular", "blob")]
    assert sampler_of(shown + hidden, flags=set()).columns("ks", "t") == ("k", "v")
    dense = [("k", "partition_key", "int"), ("c", "clustering", "int"), ("value", "regular", "empty")]
    assert sampler_of(dense, flags={"dense"}).columns("ks", "t") == ("k", "c")


def row(k: int, token: int, ttl: str = "null", v: str = "x") -> str:
    return f'{{"k": {k}, "v": "{v}", "mainstay_token": {token}, "mainstay_ttl_0": {ttl}}}'


COLUMNS = [("k", "partition_key", "int"), ("v", "regular", "text")]


def begun(rows: list[str], limit: int) -> Rows | None:
    return sampler_of(COLUMNS, rows).begin("ks", "t", 0, limit=limit, clock=lambda: NOW)


def test_rows_that_expire_while_they_are_read_are_no_difference() -> None:
    times = iter([NOW, NOW + timedelta(seconds=2)])
    wanted = sample(["a"], expires=NOW + timedelta(seconds=1))
    (check,) = compare(Answers([]), [wanted], clock=lambda: next(times))  # type: ignore[arg-type]
    assert check.verdict is Verdict.UNVERIFIED
    assert "1 more had rows that have expired since" in check.detail


def test_what_was_asked_besides_is_no_part_of_a_row() -> None:
    tricky = ', \\"mainstay_token\\": 7}'
    rows = begun([row(1, -5, v=tricky), row(2, 9)], 2)
    plain = [f'{{"k": 1, "v": "{tricky}"}}', '{"k": 2, "v": "x"}']
    assert rows == Rows(upto=LARGEST, count=2, digest=digest(plain), expires=None)


def test_a_range_ends_before_the_partition_that_does_not_fit() -> None:
    rows = begun([row(1, 3), row(2, 4), row(2, 4)], 2)
    assert rows == Rows(upto=3, count=1, digest=digest(['{"k": 1, "v": "x"}']), expires=None)
    assert begun([row(2, 4), row(2, 4), row(2, 4)], 2) is None


def test_rows_are_expected_until_the_first_of_them_expires() -> None:
    rows = begun([row(1, 3, "100"), row(2, 4, "60"), row(3, 5, "5")], 2)
    assert rows is not None
    assert rows.expires == NOW + timedelta(seconds=59)  # not the third's: it is beyond the end


def test_of_the_parts_of_a_collection_the_first_that_expires_is_asked_for() -> None:
    columns = [*COLUMNS, ("m", "regular", "map<text, text>")]
    cluster = Table(columns, [row(1, 3, "100").replace("}", ', "mainstay_ttl_1": 50}')])
    rows = Sampler(cluster, consistency="ALL").begin("ks", "t", 0, limit=2, clock=lambda: NOW)  # type: ignore[arg-type]
    assert 'TTL("v") AS mainstay_ttl_0, collection_min(TTL("m")) AS mainstay_ttl_1 FROM' in cluster.asked[-1]
    assert rows is not None
    assert rows.expires == NOW + timedelta(seconds=49)


@pytest.mark.parametrize(("version", "expires"), [("5.0.9", NOW + timedelta(seconds=49)), ("4.1.9", NOW)])
def test_a_table_of_collections_alone_whose_rows_expire_by_default_is_asked_when_where_it_can_be(
    version: str, expires: datetime
) -> None:
    columns = [("k", "partition_key", "int"), ("m", "regular", "map<text, text>")]
    rows = sampler_of(
        columns,
        ['{"k": 1, "m": {}, "mainstay_token": 3, "mainstay_ttl_0": 50}'],
        versions=(version,),
        default_time_to_live=60,
    ).begin("ks", "t", 0, limit=2, clock=lambda: NOW)
    assert rows is not None
    assert rows.expires == expires


def test_a_table_that_stood_still_is_not_read_again() -> None:
    cluster = Table(COLUMNS, ['{"k": 1, "v": "changed"}'])
    wanted = sample(['{"k": 1, "v": "x"}'], columns=("k", "v"))
    sampler = Sampler(cluster, consistency="ALL")  # type: ignore[arg-type]
    assert keep_quiet(sampler, [wanted], {("ks", "t")}) == (wanted,)
    assert cluster.asked == []
    (found,) = keep_quiet(sampler, [wanted])
    assert (found.ranges, found.restless) == ((), 1)
    assert 'SELECT JSON "k", "v" FROM' in cluster.asked[-1]


def sample(rows: list[str], **values: Any) -> TableSamples:
    one = RangeSample(
        keyspace="ks", table="t", after=0, upto=9, rows=len(rows), digest=digest(rows), expires=values.pop("expires", None)
    )  # fmt: skip
    return TableSamples(keyspace="ks", table="t", ranges=(one,), **values)


def judged(found: list[str], wanted: TableSamples) -> Verdict:
    (check,) = compare(Answers(found), [wanted], clock=lambda: NOW)  # type: ignore[arg-type]
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
