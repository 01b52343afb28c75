"""A pipeline of three real systems with a bucket: how to fill it, back it up as a set, and look at what came back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from include.engine.connection_forms import as_variable
from include.engine.contracts import Connection, Stop
from include.engine.model import SetManifest, backup_id
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.client import TopicPlan, open_admin
from include.engine.systems.kafka.declared import create_topics, delete_topics
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.server import PostgresServer
from include.engine.verbs import backup
from include.engine.verbs.pipeline import Pipeline
from include.engine.wiring import load_inventory, open_pipeline
from tests.estate import Estate, Quiet, clock
from tests.integration.cassandra.estate import Named
from tests.systems.kafka.stand import Seen, seen, send

PROJECT = Path(__file__).resolve().parents[3]
KEYSPACE, TOPIC = "sets_events", "sets_events"


@dataclass
class Stage:
    """The pipeline, its servers and its bucket."""

    sandbox: Sandbox
    postgres: PostgresServer
    kafka: KafkaCluster
    cassandra: CassandraServer
    store: ObjectStoreServer
    bucket: str
    folder: Path
    estate: Estate = field(init=False)

    def __post_init__(self) -> None:
        self.estate = Estate(self.postgres, Bucket.open(self.url, self._store()), self.folder / "spool")
        self.spare = {
            "system": "postgres",
            "data_dir": str(self.sandbox.directory("sets-spare") / "data"),
            "port": self.sandbox.port("sets-spare"),
        }
        with open_admin(self.kafka.connection()) as admin:
            create_topics(admin, [TopicPlan(name=TOPIC, partitions=3, factor=1, configs={})])
        with self.cassandra.connect() as cql:
            cql.rows(f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}}")
            cql.rows(f"CREATE TABLE {KEYSPACE}.events (id int PRIMARY KEY, text text)")
        self.estate.sql("create table orders (n int primary key)")
        self.estate.sql("create schema mainstay")
        self.estate.sql("create table mainstay.heartbeat (at timestamptz not null)")

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/p"

    @property
    def connections(self) -> dict[str, Connection]:
        return {
            "store": self._store(),
            "postgres_main": self.estate.connection,
            "kafka_main": self.kafka.connection(),
            "cassandra_main": self.cassandra.backup_connection(),
            "cassandra_admin": self.cassandra.connection(),
        }

    def _store(self) -> Connection:
        return Connection(
            login=self.store.access_key,
            password=self.store.secret_key,
            extra={"endpoint_url": self.store.endpoint, "region_name": self.store.region},
        )

    def pipeline(self) -> Pipeline:
        """The pipeline, as whoever runs it sees it."""
        document = {
            "pipeline": "sets",
            "store": {"url": self.url, "connection": "store"},
            "postgres": {"main": {"connection": "postgres_main", "heartbeat": "mainstay.heartbeat"}},
            "kafka": {"main": {"connection": "kafka_main", "topics": [TOPIC], "groups": ["sets_.*"]}},
            "cassandra": {
                "main": {
                    "connection": "cassandra_main",
                    **self.cassandra.target_settings(),
                    "keyspaces": [KEYSPACE],
                }
            },
            "servers": {"spare": self.spare},
        }
        path = self.folder / "inventory.yaml"
        path.write_text(yaml.safe_dump(document))
        return open_pipeline(load_inventory(path), Named(self.connections))

    def fill(self, count: int) -> None:
        """Write *count* orders, records and rows, and a heartbeat."""
        (first,) = self.estate.sql("select coalesce(max(n), 0) + 1 from orders")[0]
        numbers = range(first, first + count)
        self.estate.sql("insert into orders select generate_series(%s::int, %s::int)", first, first + count - 1)
        self.estate.sql("insert into mainstay.heartbeat values (clock_timestamp())")
        producer = self.producer()
        for n in numbers:
            send(producer, TOPIC, b'{"id": %d}' % n, b"%d" % n, n % 3)
        assert producer.flush(30) == 0
        with self.cassandra.connect() as cql:
            cql.many(
                f"INSERT INTO {KEYSPACE}.events (id, text) VALUES (?, ?)",
                [(n, f"event {n}") for n in numbers],
                consistency="QUORUM",
            )

    def producer(self) -> Any:
        from confluent_kafka import Producer

        return Producer({"bootstrap.servers": self.kafka.bootstrap, "enable.idempotence": True, "log_level": 0})

    def backup(self) -> SetManifest:
        """Take a set over all targets."""
        pipeline, set_id = self.pipeline(), backup_id(clock())
        backup.freeze(pipeline, set_id, pipeline.targets, clock=clock)
        try:
            for target in pipeline.targets:
                backup.copy(pipeline, set_id, target, progress=Quiet(), stop=Stop(), clock=clock)
            return backup.seal(pipeline, set_id, clock=clock)
        finally:
            backup.release(pipeline, set_id, pipeline.targets)

    @contextmanager
    def archiving(self) -> Iterator[None]:
        """Ship PostgreSQL's log."""
        with self.estate.archiving():
            yield

    def records(self, topic: str) -> dict[int, list[Seen]]:
        """What is in a topic."""
        return seen(self.kafka.bootstrap, topic)

    def events(self, keyspace: str) -> list[tuple[int, str]]:
        """What is in Cassandra's table."""
        with self.cassandra.connect() as cql:
            return sorted((row["id"], row["text"]) for row in cql.rows(f"SELECT id, text FROM {keyspace}.events"))

    def forget(self, *, topics: list[str], keyspaces: list[str]) -> None:
        """Remove what a test has restored."""
        with open_admin(self.kafka.connection()) as admin:
            delete_topics(admin, topics)
        with self.cassandra.connect(timeout=60) as cql:
            for keyspace in keyspaces:
                cql.rows(f"DROP KEYSPACE IF EXISTS {keyspace}")

    def clear(self) -> None:
        """Leave the shared servers as they were."""
        self.forget(topics=[TOPIC], keyspaces=[KEYSPACE])

    def bare(self, *arguments: str, code: int = 0) -> Any:
        """Run the command line with the bucket's address and key pair alone, and give its JSON."""
        kept = {
            name: os.environ[name] for name in ("PATH", "HOME", "MAINSTAY_HOME", "MAINSTAY_CACHE") if name in os.environ
        }
        store = as_variable("store", self.connections["store"])
        options = ("--bucket", self.url, "--store-connection", "store", "--json")
        done = subprocess.run(
            [sys.executable, "-m", "include.engine.cli", *arguments, *options],
            cwd=PROJECT,
            env={**kept, "AIRFLOW_CONN_STORE": store},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)
