"""Sends records of users and events to the topics of a job: a number of them, or so many a second until it is stopped."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

from include.engine.contracts import Clock, Connection, Stop
from include.engine.errors import Unreachable
from include.engine.systems.spark.access import librdkafka_settings
from include.engine.systems.spark.people import Record, event, from_random_user, user
from include.engine.systems.spark.settings import Settings

API = "https://randomuser.me/api/"
_FLUSH = 60.0  # seconds
_SLICE = 0.05  # seconds between two bursts


class Ingested(Struct, frozen=True, kw_only=True):
    """What was sent, and where the users came from."""

    users: int
    events: int
    source: str


class Ingest:
    """A producer of records; a context manager.

    :param connection: to Kafka
    :param topics: by shape, ``users`` and ``events``
    """

    def __init__(self, connection: Connection, topics: Mapping[str, str]) -> None:
        from confluent_kafka import Producer

        settings: dict[str, Any] = dict(librdkafka_settings(connection))
        self._producer = Producer(settings | {"enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4"})
        self._topics = dict(topics)
        self._failed: list[str] = []

    def send(self, shape: str, records: Iterable[Record]) -> int:
        """Hand over *records*, keyed by what their order matters for; give their number."""
        key = "id" if shape == "users" else "user_id"
        count = 0
        for record in records:
            raw = json.dumps(record, separators=(",", ":")).encode()
            while True:
                try:
                    self._producer.produce(self._topics[shape], raw, record[key], on_delivery=self._delivered)
                    break
                except BufferError:  # a broker is slow: its queue says when there is room
                    self._producer.poll(0.1)
            count += 1
        self._producer.poll(0)
        return count

    def break_off(self, shape: str) -> None:
        """Send a record that ends in the middle, as a producer's that was cut off: no job can read it."""
        self._producer.produce(self._topics[shape], b'{"id": "', on_delivery=self._delivered)

    def flush(self) -> None:
        """Wait until everything is acknowledged.

        :raises Unreachable: when something was not
        """
        left = self._producer.flush(_FLUSH)
        if left or self._failed:
            why = self._failed[0] if self._failed else f"{left} records were not acknowledged within {_FLUSH:.0f} s"
            raise Unreachable(
                f"Kafka did not take all records: {why}", hint="check the brokers; sending again is harmless"
            )

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failed.append(str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()


def topics_of(settings: Settings) -> dict[str, str]:
    """Give the topics of a job by shape."""
    return {flow.shape: flow.topic for flow in settings.flows.values()}


def ingest(
    connection: Connection,
    topics: Mapping[str, str],
    *,
    users: int,
    events: int,
    seed: int,
    api: str,
    clock: Clock,
) -> Ingested:
    """Send *users* and *events*; users come from *api* when it answers, else from the seed.

    :param api: URL of the Random User API; empty for never
    """
    people = _fetched(api, users) if api and users else None
    source = api if people else f"seed {seed}"
    at = clock()
    with Ingest(connection, topics) as to:
        sent = to.send("users", people or (user(seed, n) for n in range(users))) if "users" in topics else 0
        happened = to.send("events", (event(seed, n, at) for n in range(events))) if "events" in topics else 0
    return Ingested(users=sent, events=happened, source=source)


def pour(
    connection: Connection,
    topics: Mapping[str, str],
    *,
    rate: float,
    seed: int,
    stop: Stop,
    clock: Clock,
    broken: int = 0,
    most: int | None = None,
    on_sent: Callable[[int], None] = lambda _: None,
) -> int:
    """Send *rate* records a second, users and events in turn, until *stop*; give their number.

    :param broken: after so many records comes one more that is broken off in the middle; 0 for never
    :param most: end after so many
    """
    kinds = [shape for shape in ("users", "events") if shape in topics]
    began, number = time.monotonic(), 0
    with Ingest(connection, topics) as to:
        while not stop.stopped and (most is None or number < most):
            due = int((time.monotonic() - began) * rate)
            due = min(due, most) if most is not None else due
            at = clock()
            for n in range(number, due):
                shape, place = kinds[n % len(kinds)], n // len(kinds)
                to.send(shape, [user(seed, place) if shape == "users" else event(seed, place, at)])
                if broken and n % broken == broken - 1:
                    to.break_off(shape)
            if due > number:
                number = due
                on_sent(number)
            time.sleep(_SLICE)
    return number


def _fetched(api: str, count: int) -> list[Record] | None:
    """Ask the API; None when it does not answer or answers something else: there is a generator for that."""
    try:
        with urllib.request.urlopen(f"{api}?results={count}", timeout=10) as answer:  # noqa: S310 - the URL is a person's
            found = json.load(answer)
        return [from_random_user(one) for one in found["results"]][:count] or None
    except (OSError, ValueError, KeyError, TypeError):
        return None
