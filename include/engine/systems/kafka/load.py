"""Load on Kafka: records produced to a topic of the test's own, by librdkafka in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from include.engine.contracts import Clock, Connection
from include.engine.loading.contracts import LoadRun, Measured, ToolSaid, Worker
from include.engine.loading.permission import CANARY
from include.engine.loading.profiles import Profile
from include.engine.loading.schedule import Schedule
from include.engine.loading.workers import generate, limit_of
from include.engine.model import GeneratorLimit, Reading
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import TopicPlan, open_admin
from include.engine.systems.kafka.cross_check import BY, LONGEST, ask, records
from include.engine.systems.kafka.declared import create_topics, delete_topics
from include.engine.systems.kafka.workload import Workload

_MODULE = "include.engine.systems.kafka.produce_load"
_RETENTION_MS = str(3600 * 1000)  # should nobody ever remove it, the brokers do


class KafkaLoad:
    """Produces to one cluster.

    :param connection: of an account that may create topics, and write to them
    """

    cross_check_by = BY
    cross_check_seconds = LONGEST

    def __init__(self, connection: Connection, profile: Profile) -> None:
        assert isinstance(profile.workload, Workload)
        self._connection = connection
        self._profile = profile
        self._workload = profile.workload

    def environment(self) -> Mapping[str, str]:
        """Say how many brokers of which version there are."""
        with open_admin(self._connection) as admin:
            brokers = admin.brokers()
            return {
                "kafka": admin.version(),
                "brokers": str(len(brokers)),
                "replication factor": str(self._factor(len(brokers))),
                "client": _client_version(),
            }

    def limit(self, run: LoadRun, *, rate: float) -> GeneratorLimit:  # noqa: ARG002 - the target gets nothing of it
        """Produce to librdkafka's own broker in memory, which takes a part of the same processor: a lower bound."""
        settings = self._producer() | {"test.mock.num.brokers": 1, "allow.auto.create.topics": True}
        told = {key: settings[key] for key in sorted(settings) if not _is_place(key)}
        worker = self._worker("limit", told, partitions=1)
        how = "librdkafka's broker in memory, in the same process"
        return limit_of(worker, bound=self._profile.in_flight, processes=run.processes, stop=run.stop, how=how)

    def prepare(self, run: LoadRun) -> None:
        """Create the topic."""
        load = self._workload
        with open_admin(self._connection) as admin:
            plan = TopicPlan(
                name=run.name,
                partitions=load.partitions,
                factor=self._factor(len(admin.brokers())),
                configs={"retention.ms": _RETENTION_MS},
            )
            create_topics(admin, [plan])

    def measure(self, run: LoadRun, schedule: Schedule) -> Measured:
        """Produce."""
        return generate(
            self._worker(run.name, self._producer(), partitions=self._workload.partitions),
            schedule,
            processes=run.processes,
            bound=self._profile.in_flight,
            grace=self._profile.grace.total_seconds(),
            stop=run.stop,
            progress=run.progress,
            most=run.most,
        )

    def cross_check_operations(self, rate: float) -> int:
        """Give how many records Kafka's own tool sends at *rate*."""
        return records(rate)

    def cross_check(self, run: LoadRun, rate: float) -> ToolSaid:
        """Have Kafka's own tool produce to the same topic."""
        return ask(self._connection, run.name, self._workload, rate, run.stop)

    def canary(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Ask for the brokers, and say how long it took."""
        began = time.monotonic()
        with open_admin(self._connection, patience=timeout) as admin:
            admin.brokers()
        took = time.monotonic() - began
        return [Reading(metric=CANARY, value=took, unit="s", at=clock())]

    def leftovers(self, prefix: str) -> Sequence[str]:
        """Name topics of load tests."""
        with open_admin(self._connection) as admin:
            return sorted(name for name in admin.topics() if name.startswith(prefix))

    def remove(self, names: Sequence[str]) -> None:
        """Delete topics."""
        with open_admin(self._connection) as admin:
            there = set(admin.topics())
            delete_topics(admin, [name for name in names if name in there])

    def _factor(self, brokers: int) -> int:
        return min(self._workload.replication_factor or 3, brokers)

    def _producer(self) -> dict[str, Any]:
        load = self._workload
        return {
            **librdkafka_settings(self._connection),
            "acks": load.acks,
            "enable.idempotence": load.acks == "all",
            "compression.type": load.compression,
            "linger.ms": load.linger_ms,
            "batch.size": load.batch_bytes,
            "queue.buffering.max.messages": max(100_000, 2 * self._profile.in_flight),
            "queue.buffering.max.kbytes": 1 << 20,
            "message.timeout.ms": load.timeout_ms,
            "allow.auto.create.topics": False,
            "log_level": 2,
        }

    def _worker(self, topic: str, settings: dict[str, Any], *, partitions: int) -> Worker:
        load = self._workload
        payload = {"payload": load.payload, "payload_bytes": load.payload_bytes, "keys": load.keys}
        place = {"settings": settings, "topic": topic, "partitions": partitions}
        return Worker(module=_MODULE, parameters={**place, **payload})


def open_load(connection: Connection, profile: Profile) -> KafkaLoad:
    """Give the engine for one cluster.  Asks nothing of it yet."""
    return KafkaLoad(connection, profile)


def _is_place(key: str) -> bool:
    return key.startswith(("sasl.", "ssl.", "security.", "bootstrap."))


def _client_version() -> str:
    import confluent_kafka

    return f"librdkafka {confluent_kafka.libversion()[0]}"
