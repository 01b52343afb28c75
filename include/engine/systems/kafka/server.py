"""A real Kafka cluster in a sandbox: one or three combined KRaft nodes on loopback, throw-away.

::

    cluster = KafkaCluster(sandbox, "main").start()        # formats the first time; what runs already is reused
    cluster.create_topics(PIPELINE_TOPICS)
    with open_admin(cluster.connection()) as admin: ...    # client.py
    cluster.nodes[0].kill()                                # the death of one machine
    cluster.stop()                                         # all nodes at once
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Self

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Unreachable
from include.engine.sandbox.accounts import own
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK
from include.engine.sandbox.process import ServerProcess, ServerSpec, run_tool
from include.engine.systems.kafka.client import TopicPlan, open_admin
from include.engine.systems.kafka.declared import create_topics
from include.engine.systems.kafka.distribution import KafkaJars, java, wait_released

PIPELINE_TOPICS = ("users_created", "users_topic", "events_topic", "logs_topic")
PIPELINE_PARTITIONS = 3
PIPELINE_RETENTION = str(48 * 3600 * 1000)  # milliseconds
_LOGIN = "mainstay"


class KafkaCluster:
    """A cluster, started or not.

    Whoever constructs it again with the same sandbox and name, in this process or a later one, has the same cluster.

    :param name: unique among the sandbox's Kafka clusters
    :param size: nodes; each is broker and controller
    :param ports: client ports, one per node; free ones that stay the same when not given
    :param settings: broker properties, on top of small and quick ones
    :param quick: start fast at the price of peak speed; not for load tests
    """

    def __init__(
        self,
        sandbox: Sandbox,
        name: str = "main",
        *,
        size: int = 1,
        ports: Iterable[int] = (),
        settings: Mapping[str, str] | None = None,
        quick: bool = True,
    ) -> None:
        self.sandbox = sandbox
        self.name = name
        self.label = f"kafka-{name}"
        self.quick = quick
        self.settings = dict(settings or {})
        chosen = list(ports)
        labels = [self.label if size == 1 else f"{self.label}-{number}" for number in range(1, size + 1)]
        self.nodes = [
            KafkaNode(self, number, label, sandbox.port(label, chosen[number - 1] if chosen else None))
            for number, label in enumerate(labels, start=1)
        ]

    @property
    def bootstrap(self) -> str:
        """Where clients begin: every node."""
        return ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)

    @cached_property
    def cluster_id(self) -> str:
        """The id it is formatted with: the same for the same sandbox and name."""
        digest = hashlib.sha256(f"{self.sandbox.root}/{self.label}".encode()).digest()[:16]
        # Some ids begin with a dash, which Kafka's own command line takes for an option.
        return "M" + base64.urlsafe_b64encode(digest).decode().rstrip("=")[1:]

    @cached_property
    def jars(self) -> Path:
        """Where Kafka's programs are, fetched when they are not there."""
        return Shelf.of(self.sandbox.home).obtain(KafkaJars())

    @property
    def running(self) -> bool:
        """Whether all nodes run now."""
        return all(node.running for node in self.nodes)

    def connection(self, *, sasl: bool = False) -> Connection:
        """How Mainstay connects to it.

        :param sasl: through the listeners that ask for a password
        """
        if not sasl:
            return Connection(extra={"bootstrap.servers": self.bootstrap})
        hosts = ",".join(f"{LOOPBACK}:{node.sasl_port}" for node in self.nodes)
        extra = {"bootstrap.servers": hosts, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
        return Connection(login=_LOGIN, password=self.password, extra=extra)

    @property
    def password(self) -> str:
        """The password of its one account."""
        return self.sandbox.secret(self.label)

    def start(self, *, timeout: float = 90.0) -> Self:
        """Format the nodes that are new, start those that do not run, and wait until every broker is in the cluster.

        :raises Contended: somebody else holds a port
        :raises Unreachable: a node ended or the cluster did not form in time; the hint shows a log
        """
        for node in self.nodes:
            node.launch()
        self.nodes[0].wait(self._formed, timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop all nodes at once: a node that has lost its quorum would wait for a controlled shutdown for ever."""
        with ThreadPoolExecutor(len(self.nodes), thread_name_prefix="stop") as pool:
            list(pool.map(lambda node: node.stop(), self.nodes))

    def kill(self) -> None:
        """SIGKILL every node, as a power cut would."""
        for node in self.nodes:
            node.kill()

    def create_topics(
        self, names: Iterable[str] = PIPELINE_TOPICS, *, partitions: int = PIPELINE_PARTITIONS, **configs: str
    ) -> None:
        """Create the topics that are not there: by default the pipeline's, which keep their records for 48 hours."""
        wanted = {"retention.ms": PIPELINE_RETENTION} | {key.replace("_", "."): value for key, value in configs.items()}
        with open_admin(self.connection()) as admin:
            missing = set(names) - set(admin.topics())
            factor = min(3, len(self.nodes))
            create_topics(
                admin,
                [TopicPlan(name=n, partitions=partitions, factor=factor, configs=wanted) for n in sorted(missing)],
            )

    def run(self, main_class: str, *arguments: str | Path, timeout: float = 120.0) -> str:
        """Run one of Kafka's own tools and give what it prints.

        :raises PermanentError: it failed; the hint shows what it said
        """
        directory = self.sandbox.directory(self.label)
        return run_tool(
            java(self.jars, main_class, *arguments, heap="256m"),
            account=self.sandbox.account,
            directory=directory,
            timeout=timeout,
        )

    def properties(self, node: KafkaNode) -> dict[str, str]:
        """Give the whole configuration of one node."""
        size = len(self.nodes)
        factor, isr = str(min(3, size)), "2" if size >= 3 else "1"
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        login = f'username="{_LOGIN}" password="{self.password}" user_{_LOGIN}="{self.password}"'
        internal = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        addresses = f"PLAINTEXT://{LOOPBACK}:{node.port},SASL://{LOOPBACK}:{node.sasl_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": str(node.number),
            "controller.quorum.voters": ",".join(f"{n.number}@{LOOPBACK}:{n.controller_port}" for n in self.nodes),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{addresses},CONTROLLER://{LOOPBACK}:{node.controller_port}",
            "advertised.listeners": addresses,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": f"{plain} {login};",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{_LOGIN}",
            "allow.everyone.if.no.acl.found": "true",
            "log.dirs": str(node.data),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "default.replication.factor": factor,
            "min.insync.replicas": isr,
            **{f"{name}.replication.factor": factor for name in internal},
            **{f"{name}.min.isr": isr for name in internal[1:]},
            **{f"{name}.num.partitions": "5" for name in internal},
            "log.cleaner.dedupe.buffer.size": "16777216",
            "log.retention.check.interval.ms": "1000",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
        } | self.settings

    def _formed(self) -> bool:
        with open_admin(self.connection(), patience=2) as admin:
            return len(admin.brokers()) == len(self.nodes)


class KafkaNode:
    """One node of a :class:`KafkaCluster`."""

    def __init__(self, cluster: KafkaCluster, number: int, label: str, port: int) -> None:
        self.cluster = cluster
        self.number = number
        self.label = label
        self.port = port
        self.controller_port = cluster.sandbox.port(f"{label}-controller")
        self.sasl_port = cluster.sandbox.port(f"{label}-sasl")

    @cached_property
    def directory(self) -> Path:
        """Its place on the disk."""
        return self.cluster.sandbox.directory(self.label)

    @property
    def data(self) -> Path:
        """Its log directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """The file with what it says."""
        return self._process.log

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._process.running

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid

    def launch(self) -> None:
        """Format it when it is new and start it, without waiting for the cluster."""
        self._process.start(self._spec)

    def wait(self, answers: Callable[[], bool], *, timeout: float) -> None:
        """Wait until *answers*, a probe of the cluster, says yes.

        :raises Unreachable: this node ended, or the probe did not say yes in time
        """

        def probe() -> bool:
            try:
                return answers()
            except MainstayError as error:
                raise Unreachable(error.message, hint=error.hint) from error

        self._process.wait_ready(probe, timeout=timeout)

    def stop(self) -> None:
        """Stop it; its grace is what a controlled shutdown needs."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL it."""
        self._process.kill()
        wait_released(self.port, self.controller_port, self.sasl_port)

    @cached_property
    def _process(self) -> ServerProcess:
        return self.cluster.sandbox.server(self.label)

    def _spec(self) -> ServerSpec:
        cluster = self.cluster
        configuration = self._configure()
        if not (self.data / "meta.properties").exists():
            arguments = ("format", f"--cluster-id={cluster.cluster_id}", "-c", configuration, "--ignore-formatted")
            run_tool(
                java(cluster.jars, "kafka.tools.StorageTool", *arguments, heap="128m"),
                account=cluster.sandbox.account,
                directory=self.directory,
            )
        return ServerSpec(
            command=java(cluster.jars, "kafka.Kafka", configuration, quick=cluster.quick),
            directory=self.directory,
            ports={
                self.label: self.port,
                f"{self.label}-controller": self.controller_port,
                f"{self.label}-sasl": self.sasl_port,
            },
            grace=15,
        )

    def _configure(self) -> Path:
        path = self.directory / "server.properties"
        path.touch(mode=0o600)
        own(path, self.cluster.sandbox.account, mode=0o600)
        lines = (f"{key}={value}" for key, value in self.cluster.properties(self).items())
        path.write_text("\n".join(lines) + "\n")
        return path
