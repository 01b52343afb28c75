"""Records that nobody would send on purpose: the job makes rows of those that the checks expect, and dead letters of the others.

The job reads with Spark and the checks with Python; whatever one takes and the other does not is told as lost, or never missed.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter

import pytest

from include.engine.systems.spark.records import Key, key_of
from tests.estate import clock
from tests.integration.spark.brook import Brook

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

USER = str(uuid.UUID(int=7, version=4))
USERS = {
    "plain": b'{"id": "ID", "username": "NAME"}',
    "no utf-8": b'{"id": "ID", "username": "NAME", "first_name": "Zo\xff"}',
    "text after it": b'{"id": "ID", "username": "NAME"} and more',
    "another document after it": b'{"id": "ID", "username": "NAME"}{"id": "7"}',
    "blanks before it": b' \r\n\t{"id": "ID", "username": "NAME"}',
    "a byte order mark": b'\xef\xbb\xbf{"id": "ID", "username": "NAME"}',
    "single quotes": b"{'id': 'ID', 'username': 'NAME'}",
    "names without quotes": b'{id: "ID", username: "NAME"}',
    "no number": b'{"id": "ID", "username": "NAME", "x": NaN}',
    "a large number": b'{"id": "ID", "username": "NAME", "x": 1e400}',
    "a list": b'[{"id": "ID", "username": "NAME"}]',
    "a text": b'"ID"',
    "nothing": b"{}",
    "null": b"null",
    "cut off": b'{"id": "ID", "username": "NAME"',
    "a comment": b'/* x */{"id": "ID", "username": "NAME"}',
    "a comma too many": b'{"id": "ID", "username": "NAME",}',
    "a line break in a text": b'{"id": "ID", "username": "NAME", "x": "a\nb"}',
    "half of a pair": b'{"id": "ID", "username": "NAME", "x": "\\ud800"}',
    "the id twice, the last is good": b'{"id": "7", "username": "NAME", "id": "ID"}',
    "the id twice, the first is good": b'{"id": "ID", "username": "NAME", "id": "7"}',
    "an id with a line break": b'{"id": "ID\\n", "username": "NAME"}',
    "an id in capitals": b'{"id": "UPPER", "username": "NAME"}',
    "an id that is a number": b'{"id": 7, "username": "NAME"}',
    "an id that is null": b'{"id": null, "username": "NAME"}',
    "an object for a text": b'{"id": "ID", "username": "NAME", "first_name": {"a": 1}}',
    "far too deep": b'{"id": "ID", "username": "NAME", "x": ' + b"[" * 3000 + b"]" * 3000 + b"}",
}
TIMES = [
    "2026-11-24",
    "2026-11-24 10:00",
    "2026-11-24T10:00:00",
    "2026-11-24T10:00:00.123456789Z",
    "2026-11-24T23:30:00-02:00",
    "2026-11-24T00:30:00+05:30",
    "2026-11-24T10:00:00.1234567890Z",
    "2026-11-24T10:00:00 UTC",
    "2026-11-24T10:00:00+18:30",
    "2026-11-24T24:00:00",
    "2026-11-24T10:00:60",
    "2026-1-2",
    "2026-11",
    "2026",
    "10:00:00",
    "T10:00",
    " 2026-11-24 ",
    "2026-11-24\n",
    "2026-13-01",
    "2026-02-30",
    "0001-01-01",
    "9999-12-31T23:59:59Z",
    "soon",
    "",
    7,
    None,
]


def named(number: int, raw: bytes) -> bytes:
    identity = str(uuid.UUID(int=number + 1, version=4))
    filled = raw.replace(b"ID", identity.encode()).replace(b"UPPER", identity.upper().encode())
    return filled.replace(b"NAME", b"name-%d" % number)


def happened(number: int, at: object) -> bytes:
    made = uuid.UUID(int=(number << 64) | (1 << 60) | number, version=1)
    return json.dumps({"event_id": str(made), "user_id": USER, "created_at": at}).encode()


def test_the_job_and_the_checks_read_the_same_records_and_one_that_cassandra_refuses_stops_nothing(
    brook: Brook,
) -> None:
    people = f"{brook.prefix}.people"  # somebody's own table, whose key a record may lack
    columns = [
        "first_name",
        "last_name",
        "gender",
        "address",
        "post_code",
        "email",
        "registered_date",
        "phone",
        "picture",
    ]
    with brook.cassandra.connect() as cql:
        cql.rows(f"CREATE TABLE {people} (username text PRIMARY KEY, id uuid, {' text, '.join(columns)} text)")
    users = {f"users: {name}": named(n, raw) for n, (name, raw) in enumerate(USERS.items())}
    events = {f"events: {at!r}": happened(n, at) for n, at in enumerate(TIMES)}
    refused = [
        named(900, b'{"id": "ID"}'),
        named(901, b'{"id": "ID", "username": "%s"}' % (b"x" * 70_000)),
    ]
    brook.send(brook.users, [*users.values(), *refused])
    brook.send(brook.events, events.values())
    flows = {
        "users": {"shape": "users", "topic": brook.users, "table": people},
        "events": {"shape": "events", "topic": brook.events, "table": brook.events_table},
    }
    stream = brook.stream(flows=flows)
    stream.launch(reason="a test", clock=clock)
    sent = len(users) + len(refused) + len(events)
    brook.caught_up(stream, sent)

    with brook.cassandra.connect() as cql:
        there: set[Key] = {(row["id"],) for row in cql.rows(f"SELECT id FROM {people}")}
        rows = cql.rows(f"SELECT event_date, user_id, event_id FROM {brook.events_table}")
    there |= {(row["event_date"], row["user_id"], row["event_id"]) for row in rows}
    expected = {
        name: key_of(shape, value)
        for shape, values in (("users", users), ("events", events))
        for name, value in values.items()
    }
    wanted = {key for key in expected.values() if key is not None}
    assert {name: key for name, key in expected.items() if key is not None and key not in there} == {}
    assert there - wanted == set()
    assert len(wanted) > 15

    reasons = Counter(one["reason"] for topic in (brook.users, brook.events) for one in brook.letters(topic))
    assert reasons["refused_by_cassandra"] == len(refused)
    assert reasons.total() == sent - len(there)
