"""The operation of Kafka's load: one record, answered when the brokers have acknowledged it.  Runs in the generator's processes."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import Any

from include.engine.loading.contracts import Done, Note
from include.engine.loading.payloads import payloads

_SHORTEST_SLEEP = (
    0.0002  # seconds: less is not worth a processor that the target may need; it is the error of a latency
)


class Produce:
    """Produces to one topic.

    :param parameters: ``settings`` of librdkafka, ``topic``, ``partitions``, ``payload``, ``payload_bytes``, ``keys``
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        from confluent_kafka import Producer

        self._producer = Producer(parameters["settings"])
        self._topic: str = parameters["topic"]
        self._values = payloads(parameters["payload_bytes"], shape=parameters["payload"])
        # Without keys, what is sent together goes to one partition, and the next to the next: a producer does that by itself,
        # but takes a lock for each record.
        self._partitions = itertools.cycle([-1] if parameters["keys"] else range(parameters["partitions"]))
        self._keys: list[bytes | None] = [b"%d" % number for number in range(parameters["keys"])] or [None]

    def submit(self, index: int, done: Done) -> None:
        """Send one record."""
        self.submit_many(range(index, index + 1), partial(_told, self.cause, done))

    def submit_many(self, indexes: range, note: Note) -> None:
        """Send some records by one call of librdkafka, which calls *note* itself when one is acknowledged."""
        values, keys = self._values, self._keys
        count, kinds = len(values), len(keys)
        messages: list[dict[str, Any]] = [
            {"value": values[index % count], "key": keys[index % kinds], "callback": partial(note, index)}
            for index in indexes
        ]
        if self._producer.produce_batch(self._topic, messages, partition=next(self._partitions)) == len(messages):
            return
        for index, message in zip(indexes, messages, strict=True):
            if "_error" in message:  # it was not taken, and nobody will call
                note(index, message["_error"], None)

    def cause(self, error: Any) -> str:
        """Give librdkafka's name of an error."""
        return str(error.name())

    def poll(self, seconds: float) -> None:
        """Take acknowledgements."""
        if seconds >= 0.001:  # librdkafka counts in milliseconds
            self._producer.poll(seconds)
            return
        if seconds > 0:
            time.sleep(max(seconds, _SHORTEST_SLEEP))
        self._producer.poll(0)

    def close(self) -> None:
        """Forget what was not sent."""
        self._producer.purge()
        self._producer.poll(0)


def open_operation(parameters: dict[str, Any]) -> Produce:
    """Give one, connected when the first record is sent."""
    return Produce(parameters)


def _told(cause: Any, done: Done, _index: int, error: object, _message: object) -> None:
    done(None if error is None else cause(error))
