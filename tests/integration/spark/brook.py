"""A streaming job over real servers, with topics, tables and a checkpoint of its own, and an independent eye on what it did."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, Producer

from include.engine.contracts import Stop
from include.engine.model import Freeze, Manifest, System, Target
from include.engine.sandbox.accounts import ourselves
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.streaming import Life, StreamSeen
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.client import TopicPlan, open_admin
from include.engine.systems.kafka.declared import create_topics, delete_topics
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.spark.backup import SparkSource, open_source
from include.engine.systems.spark.local import LocalEngine
from include.engine.systems.spark.restore import SparkRestore, open_engine
from include.engine.systems.spark.settings import Settings
from include.engine.systems.spark.stream import SparkStream
from include.engine.verbs import backup
from include.engine.verbs.pipeline import Pipeline
from tests.alone import alone
from tests.estate import Quiet, clock
from tests.integration.sweeping import Known, Sweeping

TARGET = Target(System.SPARK, "brook")
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
PATIENCE = 240.0  # seconds; under load a driver alone takes a minute


class Brook:
    """One job and what is around it."""

    def __init__(self, kafka: KafkaCluster, cassandra: CassandraServer) -> None:
        self.kafka = kafka
        self.cassandra = cassandra
        self.prefix = f"b{uuid.uuid4().hex[:8]}"
        self.users, self.events = f"{self.prefix}_users", f"{self.prefix}_events"
        self.users_table, self.events_table = f"{self.prefix}.created_users", f"{self.prefix}.user_events"
        self.directory = Path(kafka.sandbox.directory(self.prefix, account=ourselves()))
        self.connections = Known({"kafka": kafka.connection(), "cassandra": cassandra.connection()})
        self._producer = self._sender()
        self.streams: list[SparkStream] = []
        self.catalog = Catalog(Bucket.open(f"memory://{self.prefix}"))

    def __enter__(self) -> Self:
        topics = [name for topic in (self.users, self.events) for name in (topic, f"{topic}.dead")]
        self.make(*topics)
        with self.cassandra.connect() as cql:
            cql.rows(
                f"CREATE KEYSPACE {self.prefix} WITH replication ="
                f" {{'class': 'NetworkTopologyStrategy', 'dc1': {self.cassandra.size}}}"
            )
            cql.rows(f"CREATE TYPE {self.prefix}.device (kind text, version int)")
            cql.rows(
                f"CREATE TABLE {self.users_table} (id uuid PRIMARY KEY, first_name text, last_name text, gender text,"
                " address text, post_code text, email text, username text, registered_date text, phone text, picture text)"
            )
            cql.rows(
                f"CREATE TABLE {self.events_table} (event_date text, event_id timeuuid, user_id uuid, event_type text,"
                " properties map<text, text>, device frozen<device>, created_at timestamp,"
                " PRIMARY KEY ((event_date, user_id), event_id))"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self.streams:
            stream.end(kill=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    # the job ---------------------------------------------------------------------------------------------------------

    def settings(self, checkpoint: str = "checkpoint", **changed: Any) -> Settings:
        return Settings(**self.declared(checkpoint, **changed))

    def declared(self, checkpoint: str = "checkpoint", **changed: Any) -> dict[str, Any]:
        """What an inventory says of the job."""
        given: dict[str, Any] = {
            "checkpoint": checkpoint if "://" in checkpoint else f"file://{self.directory}/{checkpoint}",
            "directory": f"{self.directory}/engine",
            "kafka": "kafka",
            "cassandra": "cassandra",
            "flows": {
                "users": {"shape": "users", "topic": self.users, "table": self.users_table},
                "events": {"shape": "events", "topic": self.events, "table": self.events_table},
            },
            "profile": {"java_options": QUICK},
            "group": f"mainstay-{self.prefix}",
            "trigger": "1s",
        }
        return given | changed

    def sweeping(self, folder: Path, **settings: object) -> Sweeping:
        """Sweeps of the job, by the rules that ship."""
        watched: dict[str, object] = {"spark": {TARGET.name: self.declared()}, "sweep": {"timeout": "60s"}}
        return Sweeping(folder, self.connections.known, watched | settings)

    def stream(self, **changed: Any) -> SparkStream:
        stream = SparkStream(TARGET, self.settings(**changed), self.connections)
        self.streams.append(stream)
        return stream

    def source(self, target: Target = TARGET) -> SparkSource:
        return open_source(target, self.settings(), self.connections)

    @property
    def pipeline(self) -> Pipeline:
        return alone(TARGET, self, self.catalog)

    def engine(self, target: Target) -> SparkRestore:
        return open_engine(target, self.catalog, connections=self.connections)

    def archive(self, target: Target) -> None:
        return None

    def freeze(self, name: str) -> Freeze:
        return backup.freeze(self.pipeline, name, [TARGET], clock=clock)

    def copy(self, name: str) -> Manifest:
        return backup.copy(self.pipeline, name, TARGET, progress=Quiet(), stop=Stop(), clock=clock)

    def pid(self, stream: SparkStream) -> int:
        newest = stream.journal.newest()
        assert newest is not None
        assert isinstance(stream.engine, LocalEngine)
        pid = stream.engine.pid(newest.name)
        assert pid is not None
        return pid

    def until(self, stream: SparkStream, true: Callable[[StreamSeen], Any], what: str) -> StreamSeen:
        """Look until *true*; a driver that ends instead is the failure, with what it said."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = stream.look(clock)
            if true(seen):
                return seen
            assert time.monotonic() < deadline, f"not in time: {what}: {seen}\n{stream.logs()}"
            time.sleep(0.3)

    def caught_up(self, stream: SparkStream, records: int) -> StreamSeen:
        """Wait until the group says that *records* were done and none waits."""

        def done(seen: StreamSeen) -> bool:
            assert seen.life is not Life.ABSENT, f"{seen.end} {seen.end_reason}\n{stream.logs()}"
            return seen.position >= records and seen.behind == 0

        return self.until(stream, done, f"{records} records")

    # records ---------------------------------------------------------------------------------------------------------

    def send(self, topic: str, values: Iterable[dict[str, Any] | bytes | None]) -> None:
        for value in values:
            raw = json.dumps(value).encode() if isinstance(value, dict) else value
            key = str(value.get("id") or value.get("user_id")).encode() if isinstance(value, dict) else None
            self._producer.produce(topic, raw, key)
            self._producer.poll(0)
        assert self._producer.flush(60) == 0

    def make(self, *topics: str, partitions: int = 3) -> None:
        with open_admin(self.kafka.connection()) as admin:
            create_topics(admin, [TopicPlan(name=name, partitions=partitions, factor=1) for name in topics])

    def grow(self, topic: str, partitions: int) -> None:
        """Give *topic* more partitions, and send to all of them from now on."""
        with open_admin(self.kafka.connection()) as admin:
            admin.client.create_partitions({topic: partitions})
        self._producer = self._sender()  # the one before would learn of them after minutes

    def _sender(self) -> Producer:
        return Producer({"bootstrap.servers": self.kafka.bootstrap})

    def remake(self, topic: str) -> None:
        with open_admin(self.kafka.connection()) as admin:
            delete_topics(admin, [topic])
        self.make(topic)

    def rows(self, table: str) -> list[str]:
        """All rows, as the server writes them in JSON, sorted.

        Read at the level at which they were written: one replica alone may not have been told yet what it missed.
        """
        with self.cassandra.connect(timeout=60) as cql:
            found = cql.rows(f"SELECT JSON * FROM {table}", timeout=60, consistency="LOCAL_QUORUM")
        return sorted(str(next(iter(row.values()))) for row in found)

    def count(self, table: str) -> int:
        with self.cassandra.connect(timeout=60) as cql:
            found = cql.rows(f"SELECT count(*) AS n FROM {table}", timeout=60, consistency="LOCAL_QUORUM")
        return int(found[0]["n"])

    def letters(self, topic: str) -> list[dict[str, str]]:
        """The headers of all dead letters of *topic*."""
        consumer = Consumer(
            {"bootstrap.servers": self.kafka.bootstrap, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
            | {"enable.partition.eof": True, "enable.auto.commit": False}
        )
        found: list[dict[str, str]] = []
        ended: set[int | None] = set()
        consumer.subscribe([f"{topic}.dead"])
        deadline = time.monotonic() + 60
        while len(ended) < 3 and time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                ended.add(message.partition())
            else:
                headers: Any = message.headers() or []
                found.append({name: value.decode() for name, value in headers})
        consumer.close()
        assert len(ended) == 3
        return found
