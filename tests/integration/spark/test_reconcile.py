"""What became of records, on a real log and a real table, without a job: rows that end by themselves, and broken records."""

from __future__ import annotations

import json
import time
import uuid

import pytest
from confluent_kafka import Producer
from kafka.admin import ConfigResource, ConfigResourceType

from include.engine.model import Reconciled, Verdict
from include.engine.systems.kafka.client import open_admin
from include.engine.systems.spark import recount
from include.engine.systems.spark.reconcile import consuming, ends, reconcile
from include.engine.systems.spark.records import Key, compared_columns, key_columns
from include.engine.systems.spark.tables import Tables
from tests.integration.spark.brook import Brook
from tests.integration.spark.test_stream import person

pytestmark = pytest.mark.integration
HOUR = 3600


def send(brook: Brook, values: list[bytes], *, age: float = 0) -> None:
    producer = Producer({"bootstrap.servers": brook.kafka.bootstrap, "log_level": 0})
    for value in values:
        producer.produce(brook.users, value, timestamp=int((time.time() - age) * 1000))
    assert producer.flush(60) == 0


def look(brook: Brook, *, restored: bool = False) -> Reconciled:
    flow, connections = brook.settings().flows["users"], brook.connections
    with consuming(connections.get("kafka")) as consumer:
        upto = ends(consumer, brook.users)
    log, tables = connections.get("kafka"), connections.get("cassandra")
    return reconcile("users", flow, upto, log=log, tables=tables, restored=restored)


@pytest.mark.parametrize("shape", ["users", "events"])
def test_a_table_that_is_read_whole_gives_the_rows_that_are_found_by_their_keys(brook: Brook, shape: str) -> None:
    table = {"users": brook.users_table, "events": brook.events_table}[shape]
    columns, wanted = key_columns(shape), compared_columns(shape)[:1]
    write(brook, range(2_500))  # more than a page
    day = "2026-11-30"
    made = [(day, uuid.UUID(int=n, version=4), uuid.UUID(int=n, version=1), "seen") for n in range(20)]
    with brook.cassandra.connect() as cql:
        names = "event_date, user_id, event_id, event_type"
        cql.many(f"INSERT INTO {brook.events_table} ({names}) VALUES (?, ?, ?, ?)", made)
    keys: list[Key] = [(uuid.UUID(str(person(n)["id"])),) for n in range(300)]
    if shape == "events":
        keys = [one[:3] for one in made]
    absent = (*keys[0][:-1], uuid.uuid1())
    with Tables(brook.connections.get("cassandra")) as session:
        counted = session.count(table)
        by_key = session.rows(table, columns, [*keys, absent], wanted=wanted)
        whole = session.rows(table, columns, [*keys, absent], wanted=wanted, count=counted)
    assert by_key[-1] is None
    assert sum(row is not None for row in by_key) == len(keys)
    assert whole == by_key


def write(brook: Brook, numbers: range) -> None:
    with brook.cassandra.connect() as cql:
        for number in numbers:
            told = person(number)
            row = (uuid.UUID(str(told["id"])), told["first_name"], told["email"])
            cql.many(f"INSERT INTO {brook.users_table} (id, first_name, email) VALUES (?, ?, ?)", [row])


def test_rows_that_have_come_to_their_end_are_not_lost_and_rows_without_a_record_are_found(brook: Brook) -> None:
    flows, tables = brook.settings().flows, brook.connections.get("cassandra")
    users = {"users": flows["users"]}
    send(brook, [json.dumps(person(n)).encode() for n in range(10)], age=2 * HOUR)
    send(brook, [json.dumps(person(n)).encode() for n in range(10, 15)])
    write(brook, range(10, 14))
    lost = look(brook)
    assert (lost.records, lost.rows, lost.lost, lost.expired) == (15, 4, 11, 0)
    assert recount.lifetimes(users, 10 * HOUR, tables=tables) == []
    with brook.cassandra.connect(timeout=60) as cql:
        cql.rows(f"ALTER TABLE {brook.users_table} WITH default_time_to_live = {HOUR}")
    found = look(brook)
    assert (found.records, found.rows, found.lost, found.expired) == (5, 4, 1, 10)
    for age, verdict in ((HOUR - 10, Verdict.PASS), (HOUR + 10, Verdict.UNVERIFIED)):
        (check,) = recount.lifetimes(users, age, tables=tables)
        assert (check.verdict, f"live {HOUR} s" in check.detail) == (verdict, True)

    # A replay of the newest five records: it may add the one that is not there, and nothing else.
    log = brook.connections.get("kafka")
    with brook.cassandra.connect(timeout=60) as cql:
        cql.rows(f"ALTER TABLE {brook.users_table} WITH default_time_to_live = 0")
    with consuming(log) as consumer:
        upto = ends(consumer, brook.users)
    counted = recount.before(flows["users"], {}, upto, log=log, tables=tables)
    assert (counted.rows, len(counted.absent), counted.replay) == (4, 11, 15)
    write(brook, range(14, 15))
    write(brook, range(99, 100))
    sent = (uuid.UUID(str(person(99)["id"])),)
    assert recount.after("users", flows["users"], counted, sent, tables=tables).verdict is Verdict.PASS
    write(brook, range(100, 103))  # of no record
    check = recount.after("users", flows["users"], counted, sent, tables=tables)
    assert (check.verdict, "3 are of no record" in check.detail) == (Verdict.FAIL, True)
    with Tables(tables) as session:
        assert session.count(brook.users_table) == brook.count(brook.users_table) == 9


def test_a_broken_record_that_is_older_than_dead_letters_are_kept_is_not_lost(brook: Brook) -> None:
    """A topic of few letters loses them while the records that they are about lie in a segment that goes on being written."""
    send(brook, [b"{old"], age=2 * HOUR)
    send(brook, [b"{new"])
    for restored in (False, True):
        assert look(brook, restored=restored).lost == 2
    with open_admin(brook.kafka.connection()) as admin:
        change = {"retention.ms": str(1000 * HOUR)}
        admin.client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, f"{brook.users}.dead", configs=change)])
    for restored in (False, True):
        found = look(brook, restored=restored)
        assert (found.records, found.lost, found.expired) == (1, 1, 1)


def test_in_a_restored_log_a_broken_record_is_told_by_its_content_and_each_needs_a_letter(brook: Brook) -> None:
    send(brook, [b"{one", b"{one", b"{two"])
    producer = Producer({"bootstrap.servers": brook.kafka.bootstrap, "log_level": 0})
    where = [("source_topic", brook.users.encode()), ("source_partition", b"0"), ("source_offset", b"777")]
    for value in (b"{one", b"{two"):
        producer.produce(f"{brook.users}.dead", value, headers=[("reason", b"bad_json"), *where])
    assert producer.flush(60) == 0
    restored, source = look(brook, restored=True), look(brook)
    assert (restored.records, restored.dead_letters, restored.lost) == (3, 2, 1)
    assert restored.missing[0].startswith(f"{brook.users}-")
    assert (source.records, source.dead_letters, source.lost) == (
        3,
        0,
        3,
    )  # at the source, letters name the very records
