"""Counts the dead letters of the last hour in their own topics: the sum of a long life says nothing about now."""

from __future__ import annotations

from collections.abc import Sequence

from include.engine.contracts import Clock, Connection, Connections
from include.engine.model import Reading
from include.engine.systems.spark.reconcile import consuming
from include.engine.systems.spark.stream import SparkStream

METRIC = "spark.flow.dead_letters_hour"
_HOUR = 3600.0


class Letters:
    """How many records each flow has set aside lately; from Kafka alone."""

    name = "dead letters"
    metrics: Sequence[str] = ()
    sometimes: Sequence[str] = (METRIC,)  # the topic is made when the job is launched first
    source = "the topics of dead letters: what came within an hour"

    def __init__(self, stream: SparkStream, connections: Connections) -> None:
        self._stream = stream
        self._connections = connections

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it.  A letter that was sent twice counts twice."""
        flows = self._stream.settings.flows
        at = clock()
        log = self._connections.get(self._stream.settings.kafka)
        counted = since(log, [flow.letters for flow in flows.values()], at.timestamp() - _HOUR, timeout=timeout)
        return [
            Reading(
                metric=METRIC,
                value=float(counted[flow.letters]),
                unit="records",
                at=at,
                labels={"flow": name, "topic": flow.letters},
            )
            for name, flow in flows.items()
            if flow.letters in counted
        ]


def since(log: Connection, topics: Sequence[str], moment: float, *, timeout: float) -> dict[str, int]:
    """Give how many records each of *topics* got since then; topics that are not there are left out.

    :param moment: in seconds since the epoch
    :raises Unreachable: when Kafka does not answer
    """
    from kafka import TopicPartition

    found: dict[str, int] = {}
    with consuming(log, timeout=timeout) as consumer:
        for topic in dict.fromkeys(topics):
            numbers = consumer.partitions_for_topic(topic)
            if numbers:
                partitions = [TopicPartition(topic, number) for number in numbers]
                first = consumer.offsets_for_times(dict.fromkeys(partitions, int(moment * 1000)))
                ends = consumer.end_offsets(partitions)
                found[topic] = sum(ends[tp] - first[tp].offset for tp in partitions if first.get(tp))
    return found
