"""Log lines of the demo: sent to Kafka, and read from there by a service that commits how far it is.

Users and events are sent by :mod:`pour`; the streaming job takes them to Cassandra.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable

from include.engine.cli.clock import now
from include.engine.contracts import Connection
from include.engine.errors import MainstayError

TOPIC, GROUP = "logs_topic", "log-reader"
_LINES = 4  # each round
_AWAY = 2.0  # seconds until a server that is away is asked again


def send(stop: threading.Event, seconds: float, kafka: Connection) -> None:
    """Send log lines until *stop* is set; a cluster that is away is waited for."""
    from confluent_kafka import Producer

    from include.engine.systems.kafka.access import librdkafka_settings

    producer = Producer(librdkafka_settings(kafka) | {"enable.idempotence": True})
    sent = 0
    while not stop.is_set():
        for _ in range(_LINES):
            line = {"at": now().isoformat(), "level": "INFO", "message": f"line {sent}"}
            producer.produce(TOPIC, key=b"service-%d" % (sent % 12), value=json.dumps(line).encode())
            sent += 1
        producer.flush(seconds)
        stop.wait(seconds)
    producer.flush(_AWAY)


def read(stop: threading.Event, seconds: float, kafka: Connection) -> None:
    """Read the lines that arrive until *stop* is set, and commit."""
    _patiently(stop, lambda: _read_with(stop, seconds, kafka))


def _read_with(stop: threading.Event, seconds: float, kafka: Connection) -> None:
    from confluent_kafka import Consumer

    from include.engine.systems.kafka.access import librdkafka_settings

    own = {"group.id": GROUP, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = Consumer(librdkafka_settings(kafka) | own)
    consumer.subscribe([TOPIC])
    try:
        while not stop.is_set():
            if any(not message.error() for message in consumer.consume(500, seconds)):
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
