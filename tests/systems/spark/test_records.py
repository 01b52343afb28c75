"""What a record is to whoever checks the job: a key, or broken, by the same rules as the job's and without its code."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from include.engine.errors import Unsupported
from include.engine.systems.spark.records import key_columns, key_of, marked, says

USER, MADE = uuid.UUID(int=7, version=4), uuid.UUID(int=9, version=1)
EVENT = {"event_id": str(MADE), "user_id": str(USER), "created_at": "2026-11-23T23:30:00-02:00"}


def written(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_a_key_comes_from_the_record_alone() -> None:
    assert key_of("users", written({"id": str(USER), "anything": {"new": 1}})) == (USER,)
    assert key_of("events", written(EVENT)) == ("2026-11-24", USER, MADE)
    assert key_of("events", written(EVENT | {"created_at": "2026-11-23T01:00:00"})) == ("2026-11-23", USER, MADE)


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ("users", None),
        ("users", b""),
        ("users", b"{broken"),
        ("users", b"\xff\xfe"),
        ("users", b"[1]"),
        ("users", written({})),
        ("users", b"{'id': '" + str(USER).encode() + b"'}"),
        ("users", b'{"id": "' + str(USER).encode() + b'", "x": NaN}'),
        ("users", b'{"id":' * 5000),
        ("events", written(EVENT | {"created_at": "2026-1-2"})),
        ("events", written(EVENT | {"created_at": "10:00:00"})),
        ("events", written(EVENT | {"created_at": "2026-13-02"})),
        ("users", written({"id": 7})),
        ("users", written({"id": "7"})),
        ("events", written(EVENT | {"event_id": str(USER)})),
        ("events", written(EVENT | {"created_at": "soon"})),
        ("events", written(EVENT | {"user_id": None})),
    ],
)
def test_a_broken_record_has_none(shape: str, value: bytes | None) -> None:
    assert key_of(shape, value) is None


def test_what_spark_makes_a_row_of_has_a_key_here_as_well() -> None:
    whole = written({"id": str(USER), "first_name": "Zoë"})
    assert key_of("users", whole.replace(b"\\u00eb", b"\xff")) == (USER,)  # no UTF-8
    assert key_of("users", b" \n" + whole + b" and more") == (USER,)
    for at in ("2026-11-24", "2026-11-24 10:00", "2026-11-24T10:00:00.123456789Z", "2026-11-24T10:00:00+05:30"):
        assert key_of("events", written(EVENT | {"created_at": at})) == ("2026-11-24", USER, MADE)


@pytest.mark.parametrize("shape", ["users", "events"])
def test_a_marked_record_becomes_the_row_that_is_looked_for(shape: str) -> None:
    record = marked(shape, datetime(2026, 11, 23, 23, 59, tzinfo=UTC), uuid.uuid4().int)
    assert key_of(shape, record.value) == record.row
    assert len(record.row) == len(key_columns(shape))


def test_a_shape_that_nobody_knows_is_told() -> None:
    with pytest.raises(Unsupported, match="orders"):
        key_of("orders", b"{}")


def test_what_a_record_says_is_compared_as_far_as_no_conversion_stands_between() -> None:
    assert says("users", written({"id": str(USER), "email": "a@b", "phone": 7, "gender": None})) == {"email": "a@b"}
    assert says("events", written(EVENT | {"properties": {"a": "b"}})) == {"properties": {"a": "b"}}
    assert says("events", written(EVENT | {"properties": {"a": 1}})) == {}
    assert says("users", b"{broken") == {}
