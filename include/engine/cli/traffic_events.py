"""Users and events of the demo: sent to Kafka, and loaded from there into Cassandra, as the pipeline's services do."""

from __future__ import annotations

import json
import random
import sys
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from include.engine.cli.clock import now
from include.engine.contracts import Connection
from include.engine.errors import MainstayError

if TYPE_CHECKING:
    from include.engine.systems.cassandra.client import Cql

GROUP = "user-loader"
_USERS, _EVENTS, _LOGS = 3, 5, 2  # each round
_AWAY = 2.0  # seconds until a server that is away is asked again
_NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Frances", "Niklaus", "Radia")
_INSERT = (
    "INSERT INTO spark_streams.created_users (id, first_name, last_name, gender, email, username, registered_date)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_FIELDS = ("first_name", "last_name", "gender", "email", "username", "registered_date")


def send(stop: threading.Event, seconds: float, kafka: Connection) -> None:
    """Send users, events and log lines until *stop* is set; a cluster that is away is waited for."""
    from confluent_kafka import Producer

    from include.engine.systems.kafka.access import librdkafka_settings

    producer = Producer(librdkafka_settings(kafka) | {"enable.idempotence": True})
    dice = random.SystemRandom()
    while not stop.is_set():
        for topic, key, value in _round(dice):
            producer.produce(topic, key=key, value=json.dumps(value).encode())
        producer.flush(seconds)
        stop.wait(seconds)
    producer.flush(_AWAY)


def load(stop: threading.Event, seconds: float, kafka: Connection, cassandra: Connection) -> None:
    """Write the users that arrive to Cassandra until *stop* is set, then commit: a row is never lost, and twice is the same."""
    from include.engine.systems.cassandra.client import Cql

    _patiently(stop, lambda: _load_with(stop, seconds, kafka, Cql(cassandra, timeout=10)))


def _load_with(stop: threading.Event, seconds: float, kafka: Connection, cql: Cql) -> None:
    from confluent_kafka import Consumer

    from include.engine.systems.kafka.access import librdkafka_settings

    own = {"group.id": GROUP, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = Consumer(librdkafka_settings(kafka) | own)
    consumer.subscribe(["users_created"])
    try:
        with cql:
            while not stop.is_set():
                arrived = [message.value() for message in consumer.consume(500, seconds) if not message.error()]
                users = [json.loads(value) for value in arrived if value is not None]
                if users:
                    cql.many(_INSERT, [(uuid.UUID(one["id"]), *(one[name] for name in _FIELDS)) for one in users])
                    consumer.commit(asynchronous=False)
    finally:
        consumer.close()


def _patiently(stop: threading.Event, work: Callable[[], None]) -> None:
    from confluent_kafka import KafkaException

    while not stop.is_set():
        try:
            work()
        except (MainstayError, KafkaException) as error:
            print(f"{type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            stop.wait(_AWAY)


def _round(dice: random.Random) -> list[tuple[str, bytes, dict[str, Any]]]:
    at = now().isoformat()
    users = [_user(dice, at) for _ in range(_USERS)]
    people = [one["id"] for one in users]
    events = [
        {"event_id": str(uuid.uuid1()), "user_id": dice.choice(people), "event_type": "view", "created_at": at}
        for _ in range(_EVENTS)
    ]
    lines = [{"at": at, "level": "INFO", "message": f"{len(users)} users"} for _ in range(_LOGS)]
    return [
        *(("users_created", one["id"].encode(), one) for one in users),
        *(("events_topic", one["user_id"].encode(), one) for one in events),
        *(("logs_topic", b"demo", line) for line in lines),
    ]


def _user(dice: random.Random, at: str) -> dict[str, str]:
    first, last = dice.choice(_NAMES), f"{dice.choice(_NAMES)}son"
    username = f"{first}.{last}.{dice.randrange(10_000)}".lower()
    return {
        "id": str(uuid.uuid4()),
        "first_name": first,
        "last_name": last,
        "gender": dice.choice(("female", "male", "other")),
        "email": f"{username}@example.org",
        "username": username,
        "registered_date": at,
    }
