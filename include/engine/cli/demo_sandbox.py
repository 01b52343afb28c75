"""The demo's servers: object store, PostgreSQL with a standby and a WAL archive, Kafka, Cassandra, a streaming job, Airflow.

All listen on 127.0.0.1 only.  Ports are fixed, so that a bookmark stays good; each has a variable that moves it:

========================================  =======  ====================================
server                                    default  variable
========================================  =======  ====================================
Airflow                                      8080  ``MAINSTAY_PORT_AIRFLOW``
PostgreSQL primary                          15432  ``MAINSTAY_PORT_POSTGRES_MAIN``
PostgreSQL standby                          15433  ``MAINSTAY_PORT_POSTGRES_STANDBY``
object store (S3)                           17070  ``MAINSTAY_PORT_OBJECT_STORE_MAIN``
Kafka                                       19092  ``MAINSTAY_PORT_KAFKA_MAIN``
Kafka, the copy elsewhere                   19093  ``MAINSTAY_PORT_KAFKA_DR``
Kafka Connect                               18083  ``MAINSTAY_PORT_CONNECT_DR``
Cassandra (CQL)                             19042  ``MAINSTAY_PORT_CASSANDRA_MAIN``
========================================  =======  ====================================

Secrets are made on the first start, in files of mode 0600; processes get them through their environment.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from include.engine import wiring
from include.engine.cli import demo_clusters, demo_load, demo_stream, probes, shop
from include.engine.cli.companion import Companion
from include.engine.cli.demo_clusters import Clusters
from include.engine.cli.demo_inventory import DemoConnections, write_inventory
from include.engine.cli.demo_place import INVENTORY, NAME
from include.engine.cli.demo_stream import DemoStream
from include.engine.cli.steps import Steps
from include.engine.connection_forms import as_variable
from include.engine.contracts import Connection
from include.engine.lookout import HISTORY_VARIABLE
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Home, Sandbox
from include.engine.streaming import StreamJob
from include.engine.systems.airflow.server import AirflowServer
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.roles import BACKUP_ROLE
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.standby import StandbyServer
from include.engine.wiring import PROJECT

TARGET = "postgres/main"
BUCKET = "mainstay"
LOGS_VARIABLE = "MAINSTAY_LOGS"  # where the servers' logs are, for the evening's checklist
_FRESH_BEAT = 5.0  # seconds
PORTS = {
    "airflow": 8080,
    "postgres-main": 15432,
    "postgres-standby": 15433,
    "object-store-main": 17070,
    **demo_clusters.PORTS,
}


class DemoSandbox:
    """The demo, started or not.  Whoever constructs it, in this process or a later one, has the same demo.

    :param cassandra_nodes: 1 or 3, when it was not started yet; else it has what it was started with
    :param kafka_brokers: likewise
    """

    def __init__(self, sandbox: Sandbox | None = None, *, cassandra_nodes: int = 1, kafka_brokers: int = 1) -> None:
        self.sandbox = sandbox or Home.of(PROJECT).sandbox(NAME)
        self.store = ObjectStoreServer(self.sandbox, port=PORTS["object-store-main"])
        self.primary = PostgresServer(self.sandbox, port=PORTS["postgres-main"], durable=True)
        self.standby = StandbyServer(self.primary, port=PORTS["postgres-standby"])
        self.clusters = Clusters(
            self.sandbox,
            cassandra_nodes=self._marked.get("cassandra_nodes", cassandra_nodes),
            kafka_brokers=self._marked.get("kafka_brokers", 1 if self._marked else kafka_brokers),
        )
        self._spool = self.sandbox.directory("wal-archive-main", account=ourselves()) / "spool"
        command = ["-m", "include.engine.cli", "wal-archive", TARGET, "--spool", str(self._spool)]
        self.archiver = Companion(self.sandbox, "wal-archive-main", command)
        self.traffic = Companion(self.sandbox, "traffic", ["-m", "include.engine.cli.traffic"])
        self.stream = DemoStream(self.sandbox, self.clusters, self._open_stream)

    @cached_property
    def airflow(self) -> AirflowServer:
        """Its Airflow."""
        return AirflowServer(
            self.sandbox,
            self.primary,
            project=PROJECT,
            connections=self.connections(),
            port=PORTS["airflow"],
            environment=self.settings(),
        )

    @property
    def made(self) -> bool:
        """Whether it was ever started, and not wiped since."""
        return bool(self._marked)

    @property
    def wants_airflow(self) -> bool:
        """Whether it was last started with Airflow."""
        return bool(self._marked.get("airflow"))

    @property
    def inventory(self) -> Path:
        """Its inventory: the repository's, and where on this machine its servers are."""
        return self.sandbox.root / "inventory.yaml"

    @property
    def wants_stream(self) -> bool:
        """Whether it was last started with the streaming job."""
        return bool(self._marked.get("stream"))

    def up(self, steps: Steps, *, with_airflow: bool = True, with_stream: bool = True) -> None:
        """Start whatever does not run, and wait until it works.  Started twice, it does no harm.

        :param with_stream: run the streaming job; without it, its topics fill and nobody reads them
        :raises Contended: somebody else holds a port; the hint names the variable that moves the server
        :raises Unreachable: a server ended or did not answer in time; the hint shows its log
        """
        sizes = {"cassandra_nodes": self.clusters.cassandra.size, "kafka_brokers": len(self.clusters.kafka.nodes)}
        made = {"airflow": with_airflow, "stream": with_stream, **sizes}
        self._mark.write_text(json.dumps(made))
        self.declare(with_stream=with_stream)
        with steps.step(f"Object store, port {self.store.port}"):
            self.store.start()
            self.store.create_bucket(BUCKET)
            self.store.create_bucket(demo_stream.BUCKET)
        with steps.step(f"PostgreSQL primary, port {self.primary.port}"):
            self.primary.start()
            self.primary.create_backup_role()
        clusters = self.clusters.start({"Spark": self.stream.install} if with_stream else {})
        with steps.step("A shop with customers and orders"):
            password = shop.open_shop(self.primary)
        with steps.step(f"PostgreSQL standby, port {self.standby.port}"):
            self.standby.start()
            self.standby.wait_until_streaming()
        with steps.step("WAL archive"):
            self.archiver.start(self.environment(), ready=lambda: probes.archived(self.primary)[0])
        clusters.wait(steps)
        demo_load.create_roles(self)
        with steps.step("Traffic: orders, users, events, and a heartbeat every 2 s"):
            self.traffic.start(self._traffic_environment(password), ready=self._beats)
            self.stream.send()
        if with_stream:
            with steps.step("Launching the streaming job"):
                self.stream.start()
        else:
            self.stream.stop()
        if with_airflow:
            with steps.step(f"Airflow, port {self.airflow.port}"):
                self.airflow.start(say=steps.say)
        if with_stream:  # it has begun while Airflow started
            with steps.step("Its first batches"):
                self.stream.wait()

    def declare(self, *, with_stream: bool) -> None:
        """Write its inventory, with or without the streaming job among the targets."""
        write_inventory(
            self.inventory,
            INVENTORY,
            self.clusters.settings() | self.stream.settings(),
            () if with_stream else (demo_stream.TARGET,),
            sandbox=self.sandbox.root,
            cassandra_nodes=self.clusters.cassandra.size,
            kafka_brokers=len(self.clusters.kafka.nodes),
        )

    def wait_until_archived(self, *, timeout: float = 60.0) -> None:
        """Wait until all that the primary has written until now is in the bucket: a crash from now on loses none of it.

        :raises Unreachable: it was not in time, or the archiver ended; the hint shows its log
        """
        from include.engine.systems.postgres.lsn import parse_lsn
        from include.engine.systems.postgres.wal_archive import read_status

        written = probes.position(self.primary)

        def shipped() -> bool:
            last = read_status(self._spool).last_shipped_lsn
            return bool(last) and parse_lsn(last) >= written

        self.archiver.server.wait_ready(shipped, timeout=timeout)

    def down(self, *, wipe: bool = False) -> list[str]:
        """Stop all its servers, and with *wipe* delete what they wrote; give the names of those that ran."""
        running = [record.name for record in self.sandbox.running()]
        if any(name.startswith("airflow-") for name in running):
            self.airflow.stop()  # its parts side by side: each takes some seconds
        running += self.stream.stop()
        self.clusters.stop()
        if wipe:
            self.sandbox.destroy()
        else:
            self.sandbox.stop()
        return running

    @property
    def history(self) -> Path:
        """The file in which sweeps are remembered."""
        return self.sandbox.directory("history", account=ourselves()) / "history.sqlite"

    def connections(self) -> dict[str, Connection]:
        """What the inventory names, by name; with secrets."""
        return {
            "postgres_main": Connection(
                host=self.primary.host,
                port=self.primary.port,
                login=BACKUP_ROLE,
                password=self.sandbox.secret(f"{self.primary.label}-{BACKUP_ROLE}"),
                schema="postgres",
            ),
            "mainstay_store": Connection(
                login=self.store.access_key,
                password=self.store.secret_key,
                extra={"endpoint_url": self.store.endpoint, "region_name": self.store.region},
            ),
            "airflow_api": self.airflow_connection("viewer"),
            **self.clusters.connections(),
            **demo_load.connections(self),
        }

    def airflow_connection(self, user: str) -> Connection:
        """How to reach its Airflow as *user*; Airflow itself need not be there yet."""
        return Connection(
            host="http://127.0.0.1",
            port=self.sandbox.port("airflow", PORTS["airflow"]),
            login=user,
            password=self.sandbox.secret(f"airflow-{user}"),
        )

    def settings(self) -> dict[str, str]:
        """Variables without secrets that everything of the demo runs with."""
        return {
            "MAINSTAY_INVENTORY": str(self.inventory),
            "MAINSTAY_HOME": str(self.sandbox.home.root),
            # Its servers have other homes than a person: their tasks would fetch all programs again.
            "MAINSTAY_CACHE": str(Shelf.of(self.sandbox.home).cache.parent),
            HISTORY_VARIABLE: str(self.history),
            LOGS_VARIABLE: str(self.sandbox.root / "log"),
        }

    def environment(self) -> dict[str, str]:
        """The variables with which a process finds the demo, secrets included: for a subprocess or a person's shell."""
        return self.settings() | {
            f"AIRFLOW_CONN_{name.upper()}": as_variable(name, one) for name, one in self.connections().items()
        }

    def _traffic_environment(self, password: str) -> dict[str, str]:
        from include.engine.cli import traffic

        return {
            traffic.HEARTBEAT_CONNINFO: self.primary.conninfo("postgres", user=shop.ROLE, password=password),
            traffic.SHOP_CONNINFO: self.primary.conninfo(shop.DATABASE, user=shop.ROLE, password=password),
            traffic.KAFKA: as_variable("kafka_main", self.clusters.kafka.connection()),
        }

    def _open_stream(self) -> StreamJob:
        return wiring.open_stream(
            wiring.load_inventory(self.inventory),
            DemoConnections(self.connections(), self.inventory),
            demo_stream.TARGET,
        )

    def _beats(self) -> bool:
        age = probes.heartbeat_age(self.primary)
        return age is not None and age < _FRESH_BEAT

    @property
    def _mark(self) -> Path:
        return self.sandbox.root / "made"

    @property
    def _marked(self) -> dict[str, Any]:
        return json.loads(self._mark.read_text()) if self._mark.exists() else {}


def existing() -> DemoSandbox | None:
    """Give the demo when it was made on this machine, and leave no trace when it was not."""
    home = Home.of(PROJECT)
    return DemoSandbox() if (home.root / "sandboxes" / NAME / "made").exists() else None


def existing_connections() -> dict[str, str]:
    """Give the demo's connections in the form of the environment, by name; empty when there is no demo."""
    demo = existing()
    return {} if demo is None else {name: as_variable(name, one) for name, one in demo.connections().items()}
