"""A real Kafka Connect worker in a sandbox, on the cluster that gets the copy.

::

    worker = ConnectWorker(sandbox, dr).start()
    mirror = open_mirror(..., connect=worker.connection())
    worker.stop()                                   # before its cluster: without one it does not stop by itself
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Self

from include.engine.contracts import Connection
from include.engine.errors import NotFound
from include.engine.sandbox.accounts import own
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.systems.kafka.connect import Connect
from include.engine.systems.kafka.distribution import java, wait_released
from include.engine.systems.kafka.server import KafkaCluster

_BYTES = "org.apache.kafka.connect.converters.ByteArrayConverter"


class ConnectWorker:
    """One worker in distributed mode, exactly-once, started or not.

    :param cluster: where it keeps its state and writes: the target of mirrors
    :param port: of its REST interface; a free one that stays the same when not given
    """

    def __init__(self, sandbox: Sandbox, cluster: KafkaCluster, *, port: int | None = None) -> None:
        self.sandbox = sandbox
        self.cluster = cluster
        self.label = f"connect-{cluster.name}"
        self.port = sandbox.port(self.label, port)

    @property
    def url(self) -> str:
        """Of its REST interface."""
        return f"http://{LOOPBACK}:{self.port}"

    def connection(self) -> Connection:
        """How Mainstay connects to it."""
        return Connection(host=LOOPBACK, port=self.port, schema="http")

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._process.running

    @property
    def log(self) -> Path:
        """The file with what it says."""
        return self._process.log

    def start(self, *, timeout: float = 90.0) -> Self:
        """Start it unless it runs, and wait until it answers with its connectors.

        :raises Unreachable: it ended or did not answer in time; the hint shows its log
        """
        self._process.start(self._spec)
        connect = Connect(self.connection(), patience=0)

        def answers() -> bool:
            try:
                connect.names()
            except NotFound:  # what it says about every path until it has joined its group
                return False
            return True

        self._process.wait_ready(answers, timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop it.  Do so before its cluster is stopped."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL it."""
        self._process.kill()
        wait_released(self.port)

    @cached_property
    def _process(self) -> ServerProcess:
        return self.sandbox.server(self.label)

    def _spec(self) -> ServerSpec:
        directory = self.sandbox.directory(self.label)
        path = directory / "worker.properties"
        path.touch(mode=0o600)
        own(path, self.sandbox.account, mode=0o600)
        path.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        return ServerSpec(
            command=java(self.cluster.jars, main, path, quick=self.cluster.quick),
            directory=directory,
            ports={self.label: self.port},
            grace=10,
        )

    def _properties(self) -> dict[str, str]:
        factor = str(min(3, len(self.cluster.nodes)))
        return {
            "bootstrap.servers": self.cluster.bootstrap,
            "group.id": self.label,
            # Any other converter rewrites what it does not understand: SimpleHeaderConverter turns "1" into base64.
            "key.converter": _BYTES,
            "value.converter": _BYTES,
            "header.converter": _BYTES,
            "exactly.once.source.support": "enabled",
            "connector.client.config.override.policy": "All",
            "plugin.discovery": "service_load",
            "config.storage.topic": f"{self.label}-configs",
            "offset.storage.topic": f"{self.label}-offsets",
            "status.storage.topic": f"{self.label}-status",
            "config.storage.replication.factor": factor,
            "offset.storage.replication.factor": factor,
            "status.storage.replication.factor": factor,
            "offset.storage.partitions": "1",
            "status.storage.partitions": "1",
            "offset.flush.interval.ms": "5000",
            "scheduled.rebalance.max.delay.ms": "0",
            "listeners": f"http://{LOOPBACK}:{self.port}",
            "rest.advertised.host.name": LOOPBACK,
        }
