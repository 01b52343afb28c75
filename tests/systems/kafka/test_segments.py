"""Segments keep every byte, and their digest tells contents apart and nothing else."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.engine.errors import Corrupt
from include.engine.systems.kafka.segments import Columns, Draft, content_digest, decode, encode

headers = st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=3)
record = st.tuples(
    st.none() | st.binary(max_size=5), st.none() | st.binary(max_size=9), st.integers(-1, 2**62), headers
)
records = st.lists(record, min_size=1, max_size=20)


def columns(found: list[Any], first: int = 0) -> Columns:
    made = Columns()
    for offset, (key, value, time, pairs) in enumerate(found, start=first):
        made.offsets.append(offset)
        made.keys.append(key)
        made.values.append(value)
        made.times.append(time)
        made.types.append(0)
        made.headers.append(pairs)
    return made


def table(found: list[Any], first: int = 0) -> pa.Table:
    """All records as one table, in two batches when there are two."""
    half = (len(found) + 1) // 2
    parts = [(found[:half], first), (found[half:], first + half)]
    return pa.Table.from_batches([columns(part, start).batch() for part, start in parts if part])


def whole(found: list[Any]) -> str:
    draft = Draft()
    draft.add(columns(found))
    return draft.facts(topic="t", partition=0, start=0, stop=99).content


@settings(deadline=None)
@given(records)
def test_a_segment_gives_back_what_was_put_in(found: list[Any]) -> None:
    rows = decode(encode(table(found)), what="x").to_pylist()
    back = [(r["key"], r["value"], r["timestamp"], [(h["key"], h["value"]) for h in r["headers"]]) for r in rows]
    assert back == [(key, value, time, list(pairs)) for key, value, time, pairs in found]


@settings(deadline=None)
@given(records, records, st.integers(0, 1000))
def test_the_digest_depends_on_contents_alone(one: list[Any], other: list[Any], first: int) -> None:
    digest = content_digest(table(one))
    assert digest == whole(one)
    assert digest == content_digest(decode(encode(table(one, first)), what="x"))
    assert (digest == content_digest(table(other))) == (one == other)


@settings(deadline=None)
@given(st.lists(record, min_size=3, max_size=20), st.data())
def test_a_slice_has_the_digest_of_its_records_alone(found: list[Any], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(found) - 1))
    stop = data.draw(st.integers(start + 1, len(found)))
    part = table(found).slice(start, stop - start)
    assert content_digest(part) == content_digest(table(found[start:stop]))


def test_bytes_cannot_move_between_key_and_value_unseen() -> None:
    one = table([(b"ab", b"c", 1, [])])
    other = table([(b"a", b"bc", 1, [])])
    assert content_digest(one) != content_digest(other)
    assert content_digest(table([(None, b"", 1, [])])) != content_digest(table([(b"", None, 1, [])]))


@pytest.mark.parametrize("raw", [b"", b"PAR1", b"x" * 100])
def test_what_is_no_segment_is_corrupt(raw: bytes) -> None:
    with pytest.raises(Corrupt, match="the-key"):
        decode(raw, what="the-key")
