"""Reads how much of a topic's retention the oldest record that waits has used up: found before it is deleted, not after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from include.engine.contracts import Clock, Connection, Connections
from include.engine.errors import Unreachable
from include.engine.model import Reading
from include.engine.systems.spark import positions
from include.engine.systems.spark.access import python_settings
from include.engine.systems.spark.stream import SparkStream

METRIC = "spark.flow.retention_used"


class Retention:
    """Whether a flow gets through its backlog before retention does; from Kafka alone, so it is known of a dead job too.

    Limits in bytes (``retention.bytes``) may be quicker; they cannot be told in time.
    """

    name = "retention"
    metrics: Sequence[str] = ()
    sometimes: Sequence[str] = (METRIC,)  # a topic that is only compacted deletes nothing for its age
    source = "retention.ms of the topic, and the first record that waits, from Kafka"

    def __init__(self, stream: SparkStream, connections: Connections, places: positions.Places) -> None:
        self._stream = stream
        self._connections = connections
        self._places = places

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it; nothing waits is 0."""
        settings = self._stream.settings
        log = self._connections.get(settings.kafka)
        topics = [flow.topic for flow in settings.flows.values()]
        limits = retentions(log, topics, timeout=timeout)
        places = self._places.read(timeout)
        at = clock()
        found = []
        for name, flow in settings.flows.items():
            limit = limits.get(flow.topic)
            if limit is not None:
                age = positions.seen(name, flow.topic, places[flow.topic], at.timestamp()).seconds
                labels = {"flow": name, "topic": flow.topic}
                found.append(Reading(metric=METRIC, value=used(age, limit), unit="%", at=at, labels=labels))
        return found


def used(age: float, limit: float) -> float:
    """Give the share of *limit* that *age* is, in percent; both in seconds.  Pure."""
    return 100.0 * age / limit if limit > 0 else 100.0


def retentions(log: Connection, topics: Sequence[str], *, timeout: float = 30.0) -> Mapping[str, float]:
    """Give for how many seconds each topic keeps a record; those that keep it for ever are left out.

    :raises Unreachable: when Kafka does not answer
    """
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(**python_settings(log), request_timeout_ms=int(1000 * timeout))
        try:
            resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
            told = admin.describe_configs(resources, config_filter="all").get("topic", {})
        finally:
            admin.close()
    except (KafkaError, OSError) as error:
        raise Unreachable(
            f"Kafka does not tell how long its topics keep records: {type(error).__name__}: {error}",
            hint="check the brokers, and that the job's role may describe the topics' configuration",
        ) from error
    found = {}
    for topic, configs in told.items():
        values = {key: str(entry["value"] or "") for key, entry in configs.items()}
        limit = int(values.get("retention.ms") or -1)
        if "delete" in values.get("cleanup.policy", "delete") and limit >= 0:
            found[topic] = limit / 1000
    return found
