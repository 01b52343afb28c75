"""The demo's clusters: Kafka with a copy elsewhere, Connect between the two, and Cassandra."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from include.engine.cli.steps import Steps
from include.engine.contracts import Connection
from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra import keyspaces
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.connect_server import ConnectWorker
from include.engine.systems.kafka.server import KafkaCluster

STREAM_ROLE = "stream"
_WRITTEN = ("spark_streams.created_users", "user_events.user_events")  # by the streaming job
PORTS = {"kafka-main": 19092, "kafka-dr": 19093, "connect-dr": 18083, "cassandra-main": 19042}


class Clusters:
    """They are started side by side with what else the demo starts: each takes seconds of one processor.

    :param cassandra_nodes: 1, or 3 with a rack each and three copies of every row
    :param kafka_brokers: of the cluster that is copied: 1, or 3 with three replicas of every topic
    """

    def __init__(self, sandbox: Sandbox, *, cassandra_nodes: int = 1, kafka_brokers: int = 1) -> None:
        self.sandbox = sandbox
        first = PORTS["kafka-main"]
        ports = [first, *(first + 10 * number for number in range(1, kafka_brokers))]
        self.kafka = KafkaCluster(sandbox, "main", size=kafka_brokers, ports=ports, quick=False)
        self.copy = KafkaCluster(sandbox, "dr", ports=[PORTS["kafka-dr"]])
        self.connect = ConnectWorker(sandbox, self.copy, port=PORTS["connect-dr"])
        self.cassandra = CassandraServer(sandbox, "main", size=cassandra_nodes, port=PORTS["cassandra-main"])

    @property
    def writer(self) -> tuple[str, str]:
        """Name and password of the role that the streaming job writes to Cassandra as."""
        return STREAM_ROLE, self.sandbox.secret(f"{self.cassandra.label}-{STREAM_ROLE}")

    def start(self, besides: Mapping[str, Callable[[], None]]) -> Starting:
        """Begin to start all of them, and give what can be waited for.  What runs already is left alone.

        :param besides: what else is done meanwhile, by what a person is told
        """
        return Starting(
            {
                f"Cassandra, port {self.cassandra.native_port}": self._start_cassandra,
                f"Kafka, port {self.kafka.nodes[0].port}": self._start_kafka,
                f"Its copy, port {self.copy.nodes[0].port}, and Kafka Connect, port {self.connect.port}": self._start_copy,
                **besides,
            }
        )

    def stop(self) -> None:
        """Stop Connect: before its cluster, or it does not stop by itself.  The others stop with the sandbox."""
        self.connect.stop()

    def connections(self) -> dict[str, Connection]:
        """What the inventory names, by name; with secrets."""
        return {
            "cassandra_events": self.cassandra.backup_connection(),
            "cassandra_stream": self.cassandra.connection(*self.writer),
            "cassandra_admin": self.cassandra.connection(),
            "kafka_main": self.kafka.connection(),
            "kafka_dr": self.copy.connection(),
            "kafka_connect": self.connect.connection(),
        }

    def settings(self) -> dict[str, dict[str, Any]]:
        """What the inventory has to say about where they are, besides the connections, by target."""
        return {"cassandra/events": self.cassandra.target_settings()}

    def _start_cassandra(self) -> None:
        self.cassandra.start()
        with self.cassandra.connect() as cql:
            keyspaces.create(cql, copies=self.cassandra.size)
            role, password = self.writer
            cql.rows(f"CREATE ROLE IF NOT EXISTS {role} WITH LOGIN = true AND PASSWORD = '{password}'")
            for table in _WRITTEN:
                for permission in ("SELECT", "MODIFY"):
                    cql.rows(f"GRANT {permission} ON TABLE {table} TO {role}")
            if not cql.rows("SELECT user_id FROM user_events.user_sessions LIMIT 1"):
                keyspaces.fill(cql, events=2_000, sessions=500, users=200)

    def _start_kafka(self) -> None:
        self.kafka.start().create_topics()

    def _start_copy(self) -> None:
        self.copy.start()
        self.connect.start()


class Starting:
    """Servers that are being started.

    :param works: what is done, by what a person is told
    """

    def __init__(self, works: dict[str, Callable[[], None]]) -> None:
        pool = ThreadPoolExecutor(len(works), thread_name_prefix="start")
        self._works: dict[str, Future[None]] = {name: pool.submit(work) for name, work in works.items()}
        pool.shutdown(wait=False)

    def wait(self, steps: Steps) -> None:
        """Wait until all run, and tell how long that took.

        :raises Contended: somebody else holds a port
        :raises Unreachable: a server ended or did not answer in time
        """
        for name, work in self._works.items():
            with steps.step(name):
                work.result()
