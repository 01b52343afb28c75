"""A pipeline of one Cassandra target over real servers, and the verbs that tests call on it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from include.engine.contracts import Connection, Stop
from include.engine.errors import Misconfigured
from include.engine.inventory import load
from include.engine.model import DestinationKind, Manifest, Restored, System, Target
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.cut import BackupDetail, detail_of
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.verbs import backup, restore
from include.engine.verbs.pipeline import Pipeline
from include.engine.wiring import open_bucket, open_pipeline

TARGET = Target(System.CASSANDRA, "main")


def now() -> datetime:
    return datetime.now(UTC)


class Told:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.bytes = 0
        self.said: list[str] = []

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self.stages.append((name, total_bytes))

    def advance(self, bytes_: int) -> None:
        self.bytes += bytes_

    def say(self, text: str) -> None:
        self.said.append(text)


class Named:
    """Connections by name."""

    def __init__(self, known: dict[str, Connection]) -> None:
        self.known = known

    def get(self, name: str) -> Connection:
        if name not in self.known:
            raise Misconfigured(f"the connection {name} is not defined", hint="define it")
        return self.known[name]


class Estate:
    """The pipeline, and how to run its verbs."""

    def __init__(self, server: CassandraServer, store: ObjectStoreServer, bucket: str, directory: Path) -> None:
        self.server = server
        self.store = store
        self.bucket = bucket
        self.directory = directory
        self.connections = Named(
            {
                "store": Connection(
                    login=store.access_key, password=store.secret_key, extra={"endpoint_url": store.endpoint}
                ),
                "cassandra_main": server.backup_connection(),
                "cassandra_admin": server.connection(),
            }
        )
        self.told = Told()
        self._backups = 0

    def pipeline(self, **settings: Any) -> Pipeline:
        """The pipeline, with the target's settings changed as given."""
        document = {
            "pipeline": "test",
            "store": {"url": f"s3://{self.bucket}/p", "connection": "store"},
            "cassandra": {
                "main": {"connection": "cassandra_main", **self.server.target_settings(), **settings},
            },
        }
        path = self.directory / "inventory.yaml"
        path.write_text(yaml.safe_dump(document))
        return open_pipeline(load(path, {System.CASSANDRA: Settings}), self.connections)

    def name(self) -> str:
        """The name of the next backup: a second after the last one's."""
        self._backups += 1
        return (datetime(2026, 11, 23, 2, tzinfo=UTC) + timedelta(seconds=self._backups)).strftime("%Y%m%dT%H%M%SZ")

    def backup(self, name: str | None = None, *, release: bool = True, full: bool = False, **settings: Any) -> Manifest:
        """Freeze, copy, seal and release."""
        pipeline = self.pipeline(**settings)
        name = name or self.name()
        backup.freeze(pipeline, name, [TARGET], clock=now)
        try:
            self.told = Told()
            manifest = backup.copy(pipeline, name, TARGET, progress=self.told, stop=Stop(), clock=now, full=full)
            backup.seal(pipeline, name, clock=now)
            return manifest
        finally:
            if release:
                backup.release(pipeline, name, [TARGET])

    def restore(
        self,
        server: str = "cassandra_admin",
        *,
        pipeline: Pipeline | None = None,
        destination: DestinationKind = DestinationKind.SERVER,
        **wishes: Any,
    ) -> Restored:
        """Plan and restore, into the cluster of the connection *server* when nothing else is asked."""
        pipeline = pipeline or self.pipeline()
        plan = restore.plan(pipeline, TARGET, destination=destination, server=server, clock=now, **wishes)
        self.told = Told()
        return restore.restore(
            pipeline, plan, reason="a test asks for it", by="tests", progress=self.told, stop=Stop(), clock=now
        )

    def bare(self) -> Pipeline:
        """The pipeline as a bare machine sees it: from the bucket alone."""
        return open_bucket(f"s3://{self.bucket}/p", self.connections.get("store"))

    def objects(self) -> dict[str, int]:
        """Every shared object in the bucket, with its size."""
        pages = self.store.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        found = {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}
        return {key: size for key, size in found.items() if "/objects/" in key}


def saved_table(estate: Estate, keyspace: str, cql: Cql) -> str:
    """A table of 50 rows that was backed up."""
    name = f"{keyspace}.t"
    cql.rows(f"CREATE TABLE {name} (k int PRIMARY KEY, v text, w int)")
    cql.many(f"INSERT INTO {name} (k, v, w) VALUES (?, ?, ?)", [(n, f"value {n}", n) for n in range(50)])
    estate.backup(keyspaces=[keyspace])
    return name


def flushed_table(estate: Estate, keyspace: str, cql: Cql) -> str:
    """A table of 200 flushed rows."""
    make_table(cql, f"{keyspace}.t", count=200)
    estate.server.nodes[0].nodetool("flush", keyspace)
    return f"{keyspace}.t"


def make_table(cql: Cql, name: str, *, count: int, size: int = 20) -> None:
    cql.rows(f"CREATE TABLE {name} (k int PRIMARY KEY, v blob)")
    dice = random.Random(1)
    cql.many(f"INSERT INTO {name} (k, v) VALUES (?, ?)", [(n, dice.randbytes(size)) for n in range(count)])


def rows(cql: Cql, table: str, *, consistency: str = "QUORUM") -> list[str]:
    """All rows of a table, as the server writes them in JSON, sorted."""
    found = cql.rows(f"SELECT JSON * FROM {table}", consistency=consistency, timeout=120)
    return sorted(str(row["json"] if "json" in row else next(iter(row.values()))) for row in found)


def detail(manifest: Manifest) -> BackupDetail:
    return detail_of(manifest)
