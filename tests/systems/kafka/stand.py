"""A Kafka cluster with a bucket, and an independent eye on what is in its topics, for tests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from include.engine.contracts import Connection, Stop
from include.engine.errors import NotFound
from include.engine.model import (
    DestinationKind,
    DrillReport,
    Manifest,
    Restored,
    RestorePlan,
    System,
    Target,
    backup_id,
)
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.systems.kafka.backup import KafkaSource, open_source
from include.engine.systems.kafka.client import TopicPlan, open_admin
from include.engine.systems.kafka.declared import create_topics, delete_topics
from include.engine.systems.kafka.restore import KafkaRestore, open_engine
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.settings import Settings
from include.engine.verbs import backup, drill, restore, verify
from include.engine.verbs.drill import Exercise
from include.engine.verbs.pipeline import Pipeline
from tests.alone import alone
from tests.estate import eventually
from tests.systems.kafka.hostile import Hostile

TARGET = Target(System.KAFKA, "main")
# Times from 1970 to 9999: taken, and not deleted by retention while a test looks at them.
LOADING = {
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "retention.ms": "-1",
}
Seen = tuple[bytes | None, bytes | None, int, tuple[tuple[str, bytes | None], ...]]


def clock() -> datetime:
    return datetime.now(UTC)


class Said:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.on_advance: Callable[[], None] = lambda: None

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self.lines.append(name)

    def advance(self, bytes_: int) -> None:
        self.on_advance()

    def say(self, text: str) -> None:
        self.lines.append(text)


class Servers:
    """Connections by name."""

    def __init__(self, **known: Connection) -> None:
        self.known = known

    def get(self, name: str) -> Connection:
        return self.known[name]


class Stand:
    """One cluster, its bucket, and topics of this test's own.

    :param prefix: of the topics and groups; others on the shared cluster are none of this test's business
    """

    def __init__(self, cluster: KafkaCluster, bucket: Bucket | None = None, **settings: Any) -> None:
        self.cluster = cluster
        self.prefix = f"t{uuid.uuid4().hex[:8]}_"
        self.bucket = bucket or Bucket.open(f"memory://{uuid.uuid4().hex}")
        mine = re_escape(self.prefix) + ".*"
        self.settings = Settings(**({"connection": "kafka", "topics": [mine], "groups": [mine]} | settings))
        self.catalog = Catalog(self.bucket)
        self.servers = Servers(here=cluster.connection())
        self.said = Said()
        self.stop = Stop()
        self._next = clock().replace(microsecond=0)
        self._topics: list[str] = []

    @property
    def pipeline(self) -> Pipeline:
        return alone(TARGET, self, self.catalog)

    def source(self, target: Target) -> KafkaSource:
        return open_source(target, self.settings, self.cluster.connection())

    def engine(self, target: Target) -> KafkaRestore:
        return open_engine(target, self.catalog, connections=self.servers)

    def archive(self, target: Target) -> None:
        return None

    # making ----------------------------------------------------------------------------------------------------------

    def topic(self, name: str, *, partitions: int = 3, given: Mapping[str, str] | None = None, **configs: str) -> str:
        full = self.prefix + name
        plan = TopicPlan(name=full, partitions=partitions, factor=1, configs=dict(given or {}) | dotted(configs))
        with open_admin(self.cluster.connection()) as admin:
            create_topics(admin, [plan])
        self._topics.append(full)
        return full

    def delete(self, *topics: str) -> None:
        with open_admin(self.cluster.connection()) as admin:
            delete_topics(admin, topics)

    def produce(self, topic: str, count: int, *, partitions: int = 3, size: int = 20, start: int = 0) -> None:
        producer = self.producer()
        for i in range(start, start + count):
            send(producer, topic, b"%d" % i + b"." * size, b"k%d" % i, i % partitions)
        assert producer.flush(30) == 0

    def produce_hostile(self, topic: str, found: Iterable[Hostile]) -> None:
        from include.engine.systems.kafka.client import TP
        from include.engine.systems.kafka.raw_produce import RawProducer

        producer = self.producer()
        connection = {"extra": self.cluster.connection().extra}
        with RawProducer(connection) as raw:
            for one in found:
                if one.timestamp == 0:
                    assert producer.flush(30) == 0
                    raw.produce(TP(topic, one.partition), 0, key=one.key, value=one.value, headers=list(one.headers))
                else:
                    send(producer, topic, one.value, one.key, one.partition, one.timestamp, list(one.headers))
        assert producer.flush(30) == 0

    def produce_unreadable(self, topic: str, count: int) -> None:
        """Produce records with a header's key that is no text."""
        from include.engine.systems.kafka.client import TP
        from include.engine.systems.kafka.raw_produce import RawProducer

        class Bytes(str):
            def encode(self, *_: object) -> bytes:
                return b"\xff\xfe"

        with RawProducer({"extra": self.cluster.connection().extra}) as raw:
            for _ in range(count):
                now = int(clock().timestamp() * 1000)
                raw.produce(TP(topic, 0), now, key=None, value=b"v", headers=[(Bytes("x"), b"v")])

    def producer(self, **settings: Any) -> Producer:
        # Zero records may be told as lost: a test that sends less than it believes proves nothing.
        return Producer(
            {
                "bootstrap.servers": self.cluster.bootstrap,
                "enable.idempotence": True,
                "message.max.bytes": 100_000_000,
                "batch.size": 500_000,
                "log_level": 0,
            }
            | settings
        )

    def hanging(self, topic: str, *at: int) -> Producer:
        """Send a record to the first partition in a transaction that stays open, and give whose it is to end.

        :param at: the record's time, in milliseconds; now when not given
        """
        # The broker itself aborts what stays open for longer; the minute of the default may be over before a test is.
        producer = self.producer(**{"transactional.id": self.prefix, "transaction.timeout.ms": 600_000})
        producer.init_transactions()
        producer.begin_transaction()
        send(producer, topic, b"open", None, 0, *at)
        producer.flush()
        return producer

    def commit(self, group: str, positions: Mapping[tuple[str, int], int]) -> str:
        name = self.prefix + group
        consumer = Consumer({"bootstrap.servers": self.cluster.bootstrap, "group.id": name, "log_level": 0})
        offsets = [TopicPartition(topic, p, offset, metadata="note") for (topic, p), offset in positions.items()]

        def committed() -> bool:
            try:
                consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException:  # the group's coordinator may be on its way
                return False
            return True

        eventually(committed, what=f"the group {name} has a position")
        consumer.close()
        return name

    # seeing ----------------------------------------------------------------------------------------------------------

    def seen(self, topic: str, *, cluster: KafkaCluster | None = None) -> dict[int, list[Seen]]:
        return seen((cluster or self.cluster).bootstrap, topic)

    def next_record(
        self, group: str, topic: str, partition: int, *, cluster: KafkaCluster | None = None
    ) -> Seen | None:
        """Give what a group reads next, by joining it as any consumer would."""
        bootstrap = (cluster or self.cluster).bootstrap
        consumer = Consumer(settings_of(bootstrap) | {"group.id": group, "auto.offset.reset": "error"})
        (at,) = consumer.committed([TopicPartition(topic, partition)], timeout=30)
        consumer.assign([at])
        found = read_one(consumer)
        consumer.close()
        return found

    # doing -----------------------------------------------------------------------------------------------------------

    def backup(self, *, full: bool = False) -> Manifest:
        set_id = self.freeze()
        return self.copy(set_id, full=full)

    def freeze(self) -> str:
        self._next += timedelta(seconds=1)
        set_id = backup_id(self._next)
        backup.freeze(self.pipeline, set_id, [TARGET], clock=clock)
        return set_id

    def copy(self, set_id: str, *, full: bool = False) -> Manifest:
        return backup.copy(self.pipeline, set_id, TARGET, progress=self.said, stop=self.stop, clock=clock, full=full)

    def plan(
        self,
        *,
        rename: Mapping[str, str] | None = None,
        point: str = "latest",
        server: str = "here",
        only: Sequence[str] = (),
        append: bool = False,
        backup_: str | None = None,
        access: bool | None = None,
        destination: DestinationKind = DestinationKind.SERVER,
    ) -> RestorePlan:
        return restore.plan(
            self.pipeline,
            TARGET,
            point=point,
            backup=backup_,
            destination=destination,
            server=server,
            confirm=str(TARGET),
            only=only,
            rename=rename,
            append=append,
            access=access,
            clock=clock,
        )

    def restore(self, **wishes: Any) -> Restored:
        return self.carry_out(self.plan(**wishes))

    def carry_out(self, plan: RestorePlan) -> Restored:
        return restore.restore(
            self.pipeline, plan, reason="a test of restores", by="test", progress=self.said, stop=self.stop, clock=clock
        )

    def drill(self, manifest: Manifest) -> DrillReport:
        return drill.drill(
            self.pipeline,
            Exercise(set_id=None, backups=((TARGET, manifest.id),)),
            drill_id=f"d-{uuid.uuid4().hex[:8]}",
            progress=self.said,
            stop=self.stop,
            clock=clock,
        )

    def verify(self, manifest: Manifest) -> Any:
        return verify.verify_part(self.pipeline, TARGET, manifest.id, progress=self.said, stop=self.stop, clock=clock)

    def clear(self) -> None:
        with open_admin(self.cluster.connection()) as admin:
            delete_topics(admin, [name for name in admin.topics() if name.startswith(self.prefix)])


def send(
    producer: Producer,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    partition: int,
    timestamp: int = 0,
    headers: Any = None,
) -> None:
    def told(error: KafkaError | None, _message: Any) -> None:
        assert error is None, error

    while True:
        try:
            producer.produce(topic, value, key, partition, None, told, timestamp, headers or [])
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)


def seen(bootstrap: str, topic: str) -> dict[int, list[Seen]]:
    """Read all committed records of a topic with a plain consumer."""
    consumer = Consumer(settings_of(bootstrap))
    partitions = sorted(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    found: dict[int, list[Seen]] = {p: [] for p in partitions}
    ended: set[int] = set()
    deadline = time.monotonic() + 60
    while len(ended) < len(partitions):
        assert time.monotonic() < deadline, f"{topic} was not read in a minute"
        message: Any
        for message in consumer.consume(1000, 0.1):
            if message.error() is None:
                found[message.partition()].append(as_seen(message))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
    consumer.close()
    return found


def read_one(consumer: Consumer) -> Seen | None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        message: Any = consumer.poll(0.5)
        if message is None:
            continue
        if message.error() is None:
            return as_seen(message)
        if message.error().code() == KafkaError._PARTITION_EOF:
            return None
        raise NotFound(str(message.error()), hint="")
    raise AssertionError("no record and no end")


def settings_of(bootstrap: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "group.id": f"eye-{uuid.uuid4().hex}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": 100_000_000,
        "fetch.wait.max.ms": 50,
        "log_level": 0,
    }


def as_seen(message: Any) -> Seen:
    return message.key(), message.value(), message.timestamp()[1], tuple(message.headers() or ())


def dotted(configs: Mapping[str, str]) -> dict[str, str]:
    return {key.replace("_", "."): value for key, value in configs.items()}


def re_escape(text: str) -> str:
    import re

    return re.escape(text)
