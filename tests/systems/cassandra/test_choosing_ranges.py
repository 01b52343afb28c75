"""Which token ranges of a table are sampled: each row of them once, and of many tables fewer."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.systems.cassandra.ranges import LARGEST, SMALLEST, Sampler, digest
from include.engine.systems.cassandra.samples import Effort, choose_ranges, deal

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Ring:
    """A cluster all of whose tables hold the same rows, by token: one partition a token."""

    def __init__(self, partitions: dict[int, int]) -> None:
        self.rows_of = partitions
        self.reads: list[str] = []  # from several threads

    def rows(self, statement: str, *_: Any, **__: Any) -> list[dict[str, Any]]:
        if "system_schema.columns" in statement:
            return [{"table_name": "any", "kind": "partition_key", "column_name": "k", "type": "int", "position": 0}]
        if "system_schema.tables" in statement:
            return [{"table_name": "any", "flags": {"compound"}, "default_time_to_live": 0}]
        self.reads.append(statement)
        after, upto, limit = (re.search(rf"{sign} (-?\d+)", statement) for sign in (">", "<=", "LIMIT"))
        assert after is not None
        assert limit is not None
        low, high = int(after[1]), int(upto[1]) if upto else LARGEST
        found = [
            (token, n) for token in sorted(self.rows_of) if low < token <= high for n in range(self.rows_of[token])
        ]
        return [{"json": f'{{"k": {n}, "mainstay_token": {token}}}'} for token, n in found[: int(limit[1])]]


def within(ring: Ring, after: int, upto: int) -> list[str]:
    """What the rows of a range look like."""
    return [f'{{"k": {n}}}' for token, count in ring.rows_of.items() if after < token <= upto for n in range(count)]


def effort(seed: str = "a", ranges: int | None = None, rows: int = 10) -> Effort:
    return Effort(ranges=ranges, rows=rows, seed=seed, clock=lambda: NOW)


TOKENS = st.one_of(st.integers(SMALLEST + 1, LARGEST), st.integers(-50, 50))


@given(
    st.dictionaries(TOKENS, st.integers(1, 4), max_size=30),
    st.text("ab", max_size=3),
    st.one_of(st.none(), st.integers(0, 3)),
    st.integers(1, 20),
    st.integers(1, 30),
)
def test_a_sample_is_of_just_the_rows_of_its_range_and_whole_only_when_these_are_all(
    partitions: dict[int, int], seed: str, ranges: int | None, rows: int, tables: int
) -> None:
    ring = Ring(partitions)
    sampler = Sampler(ring, consistency="ALL")  # type: ignore[arg-type]
    alike = [("ks", f"t{n}") for n in range(tables)]
    for found in choose_ranges(sampler, alike, effort(seed, ranges, rows)):
        for one in found.ranges:
            there = within(ring, one.after, one.upto)
            assert (one.rows, one.digest) == (len(there), digest(there))
            assert one.rows <= rows
        if found.whole:
            assert sum(one.rows for one in found.ranges) == sum(partitions.values())


@pytest.mark.parametrize("seed", ["a", "b", "c", "d"])
def test_a_small_table_among_many_is_covered_whole_by_two_readings(seed: str) -> None:
    """Its one range begins anywhere, and the rest before it is read as well."""
    many = [("ks", f"t{n}") for n in range(30)]
    ring = Ring(dict.fromkeys(range(-4 * 10**18, 4 * 10**18, 10**18), 1))
    found = choose_ranges(Sampler(ring, consistency="ALL"), many, effort(seed, rows=200))  # type: ignore[arg-type]
    assert all(one.whole for one in found)
    assert {sum(part.rows for part in one.ranges) for one in found} == {8}
    assert len(ring.reads) == 60


def test_an_empty_table_among_many_is_known_to_be_empty() -> None:
    many = [("ks", f"t{n}") for n in range(30)]
    found = choose_ranges(Sampler(Ring({}), consistency="ALL"), many, effort())  # type: ignore[arg-type]
    assert all(one.whole and one.ranges and not any(part.rows for part in one.ranges) for one in found)


def test_a_large_table_among_many_is_looked_at_elsewhere_by_another_backup() -> None:
    many = [("ks", f"t{n}") for n in range(30)]
    ring = Ring(dict.fromkeys(range(-9 * 10**18, 9 * 10**18, 10**16), 1))
    sampler = Sampler(ring, consistency="ALL")  # type: ignore[arg-type]
    seen = {choose_ranges(sampler, many, effort(seed))[0].ranges[0].after for seed in "abcdefgh"}
    assert len(seen) == 8
    again = [choose_ranges(sampler, many, effort("a")) for _ in range(2)]
    assert again[0] == again[1]  # a retry looks at the same rows


@pytest.mark.parametrize(
    ("tables", "ranges", "fewest", "most", "in_all"),
    [
        (1, None, 4, 4, 4),
        (6, None, 4, 4, 24),
        (7, None, 3, 4, 24),
        (20, None, 1, 2, 24),
        (24, None, 1, 1, 24),
        (500, None, 1, 1, 500),
        (20, 4, 4, 4, 80),
        (3, 64, 64, 64, 192),
        (3, 0, 0, 0, 0),
    ],
)
def test_of_many_tables_fewer_ranges_are_read_unless_the_inventory_says_how_many(
    tables: int, ranges: int | None, fewest: int, most: int, in_all: int
) -> None:
    dealt = deal([("ks", f"t{n}") for n in range(tables)], effort(ranges=ranges))
    assert (min(dealt.values()), max(dealt.values()), sum(dealt.values())) == (fewest, most, in_all)


def test_no_table_is_none_to_deal_to() -> None:
    assert deal([], effort()) == {}
