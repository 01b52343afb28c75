"""The operation of Kafka's load: one record, answered when the brokers have acknowledged it.  Runs in the generator's processes."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from include.engine.loading.contracts import Done
from include.engine.loading.payloads import payloads

_SHORTEST_SLEEP = (
    0.0002  # seconds: less is not worth a processor that the target may need; it is the error of a latency
)


class Produce:
    """Produces to one topic.

    :param parameters: ``settings`` of librdkafka, ``topic``, ``payload``, ``payload_bytes``, ``keys``
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        from confluent_kafka import Producer

        self._producer = Producer(parameters["settings"])
        self._topic: str = parameters["topic"]
        self._values = payloads(parameters["payload_bytes"], shape=parameters["payload"])
        self._keys = [b"%d" % number for number in range(parameters["keys"])]

    def submit(self, index: int, done: Done) -> None:
        """Send one record."""
        values, keys = self._values, self._keys
        self._producer.produce(
            self._topic,
            values[index % len(values)],
            keys[index % len(keys)] if keys else None,
            on_delivery=partial(_delivered, done),
        )

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


def _delivered(done: Done, error: Any, _message: Any) -> None:
    done(error.name() if error is not None else None)
