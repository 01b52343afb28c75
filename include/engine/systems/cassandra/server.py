"""A real Cassandra in a sandbox: one node, or three with a rack each; on loopback, with passwords, throw-away.

::

    cassandra = CassandraServer(sandbox, "main").start()          # 6 to 12 s; what runs already is reused
    with cassandra.connect() as cql:                              # client.Cql, as the superuser
        cql.rows("SELECT * FROM user_events.user_events LIMIT 1")
    connection = cassandra.backup_connection()                    # what a production cluster grants to Mainstay
    cassandra.nodes[0].kill()
    cassandra.stop()
"""

from __future__ import annotations

import signal
import socket
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from include.engine.contracts import Connection
from include.engine.errors import Contended, Unauthorized, Unreachable
from include.engine.sandbox.accounts import own, private_directory
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK, variable_of
from include.engine.sandbox.process import ServerProcess, ServerSpec, run_tool
from include.engine.systems.cassandra import program
from include.engine.systems.cassandra.certificates import CLIENT, Authority
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.node_configuration import NodeConfiguration, jolokia_policy, jolokia_properties

SUPERUSER = "admin"
_FIRST_ROLE = "cassandra"  # what every new Cassandra has, with a password that everybody knows
BACKUP_ROLE = "mainstay"
_TOKENS = (-9223372036854775808, -3074457345618258603, 3074457345618258602)
_JOLOKIA = "jolokia"


class CassandraNode:
    """One node of a sandboxed ring; get it from :attr:`CassandraServer.nodes`."""

    def __init__(self, ring: CassandraServer, number: int) -> None:
        self.ring = ring
        self.number = number
        self.address = f"127.0.0.{number + 1}"
        self.label = f"{ring.label}-{number + 1}" if ring.size > 1 else ring.label
        sandbox = ring.sandbox
        self.jmx_port = sandbox.port(f"{self.label}-jmx")
        self.jolokia_port = sandbox.port(f"{self.label}-{_JOLOKIA}")

    @cached_property
    def directory(self) -> Path:
        """What belongs to the node."""
        return self.ring.sandbox.directory(self.label)

    @property
    def data_directory(self) -> Path:
        """Where its keyspaces lie."""
        return self.directory / "data"

    @property
    def nodetool_path(self) -> Path:
        """A ``nodetool`` that asks this node, as it lies on the PATH of a production node."""
        return self.directory / "bin" / "nodetool"

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.process.running

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self.process.pid

    @property
    def log(self) -> Path:
        """The file with its log."""
        return self.process.log

    def nodetool(self, *arguments: str, timeout: float = 120.0) -> str:
        """Run ``nodetool`` against this node and give what it prints.

        :raises PermanentError: it failed; the hint shows what it said
        """
        return run_tool(
            [self.nodetool_path, *arguments],
            account=self.ring.sandbox.account,
            directory=self.directory,
            timeout=timeout,
        )

    def spawn(self) -> None:
        """Start its process and do not wait.

        :raises Contended: somebody else holds one of its ports
        """
        self.process.start(self._spec)

    def wait(self, *, timeout: float) -> None:
        """Wait until it takes CQL connections.

        :raises Unreachable: it ended, or did not answer in time; the hint shows its log
        """
        self.process.wait_ready(lambda: _listens(self.address, self.ring.native_port), timeout=timeout)

    def start(self, *, timeout: float = 120.0) -> Self:
        """Start it unless it runs, and wait until it takes CQL connections."""
        self.spawn()
        self.wait(timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop it in good order: it drains first."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL it, as the death of its machine would."""
        self.process.kill()

    @cached_property
    def process(self) -> ServerProcess:
        """Its process, started or not."""
        return self.ring.sandbox.server(self.label)

    def _spec(self) -> ServerSpec:
        """Make what the node needs, and say how to run it."""
        for name, port in (("cassandra", self.ring.native_port), ("cassandra-storage", self.ring.storage_port)):
            _require_free(self.address, port, f"{self.label} ({name})", name)
        self._prepare()
        return ServerSpec(
            command=[program.java(), f"@{self.directory}/conf/server.arguments"],
            directory=self.directory,
            ports={f"{self.label}-jmx": self.jmx_port},
            stop_signal=signal.SIGTERM,
            grace=60,
        )

    def _prepare(self) -> None:
        """Write its configuration anew: ports and settings may have changed, data stay."""
        account = self.ring.sandbox.account
        for name in ("conf", "bin", "tmp", "data"):
            private_directory(self.directory / name, owner=account, mode=0o700)
        conf = self.directory / "conf"
        texts = {
            "cassandra.yaml": self._configuration().cassandra_yaml(),
            "cassandra-rackdc.properties": self._configuration().rackdc(),
            "logback.xml": self._configuration().logback(),
            "commitlog_archiving.properties": self.ring.commitlog_archiving,
        }
        if self.ring.jolokia:
            texts |= self._jolokia(conf)
        for name, text in texts.items():
            (conf / name).write_text(text)
        program.argument_file(conf / "server.arguments", self._server_arguments(conf))
        tool = program.options(self.ring.lib, self.directory, heap="96m")
        program.argument_file(conf / "nodetool.arguments", [*tool, program.NODETOOL])
        self.nodetool_path.write_text(
            f'#!/bin/sh\nexec {program.java()} "@{conf}/nodetool.arguments" -h {LOOPBACK} -p {self.jmx_port} "$@"\n'
        )
        for path in (*conf.iterdir(), self.nodetool_path):
            own(path, account, mode=0o700 if path == self.nodetool_path else 0o600)

    def _configuration(self) -> NodeConfiguration:
        return NodeConfiguration(
            cluster=f"mainstay {self.ring.sandbox.name} {self.ring.name}",
            directory=self.directory,
            address=self.address,
            rack=f"rack{self.number + 1}",
            native_port=self.ring.native_port,
            storage_port=self.ring.storage_port,
            seeds=[f"127.0.0.{n + 1}" for n in range(self.ring.size)],
            token=_TOKENS[self.number] if self.ring.size > 1 else None,
            extra=self.ring.settings,
        )

    def _server_arguments(self, conf: Path) -> list[str]:
        top = self.directory
        agents = [f"-javaagent:{self.ring.lib}/jamm-0.4.0.jar"]
        if self.ring.jolokia:
            agents.append(f"-javaagent:{self.ring.lib}/{program.JOLOKIA_JAR}=config={conf}/jolokia.properties")
        return [
            *program.options(self.ring.lib, top, heap="512m"),
            *agents,
            "-Xms128m",
            "-Xss256k",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:+PerfDisableSharedMem",
            "-XX:MaxDirectMemorySize=256m",
            "-Djdk.attach.allowAttachSelf=true",
            "-Dio.netty.tryReflectionSetAccessible=true",
            "-Dio.netty.allocator.useCacheForAllThreads=true",
            "-Dio.netty.allocator.maxOrder=11",
            "-Dcassandra-foreground=yes",
            f"-Dcassandra.config={(conf / 'cassandra.yaml').as_uri()}",
            f"-Dcassandra.storagedir={top}",
            f"-Dcassandra-rackdc.properties={(conf / 'cassandra-rackdc.properties').as_uri()}",
            f"-Dlogback.configurationFile={conf}/logback.xml",
            f"-Dcassandra.logdir={top}/logs",
            f"-Dcassandra.jmx.local.port={self.jmx_port}",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Dcassandra.ring_delay_ms=1000",
            "-Dcassandra.superuser_setup_delay_ms=0",
            "-Dcassandra.consistent.rangemovement=false",
            *self.ring.java_options,
            program.DAEMON,
        ]

    def _jolokia(self, conf: Path) -> dict[str, str]:
        certificate, key = self.ring.authority.issue(self.label, address=self.address)
        texts = {"ca.pem": self.ring.authority.certificate, "server.pem": certificate, "server.key": key}
        properties = jolokia_properties(
            address=self.address,
            port=self.jolokia_port,
            authority=conf / "ca.pem",
            certificate=conf / "server.pem",
            key=conf / "server.key",
            client=CLIENT,
            policy=conf / "policy.xml",
        )
        return {name: path.read_text() for name, path in texts.items()} | {
            "jolokia.properties": properties,
            "policy.xml": jolokia_policy(),
        }


class CassandraServer:
    """A ring of one or three nodes, started or not.

    Whoever constructs it again with the same sandbox and name, in this process or a later one, has the same ring.

    :param name: unique among the sandbox's rings
    :param size: 1, or 3 with a rack each
    :param port: the CQL port of all nodes, on 127.0.0.1 and following; one that stays the same when not given
    :param settings: for ``cassandra.yaml``
    :param jolokia: whether its nodes answer on Jolokia
    """

    host = LOOPBACK

    def __init__(
        self,
        sandbox: Sandbox,
        name: str = "main",
        *,
        size: int = 1,
        port: int | None = None,
        settings: dict[str, object] | None = None,
        jolokia: bool = True,
    ) -> None:
        self.sandbox = sandbox
        self.name = name
        self.size = size
        self.label = f"cassandra-{name}"
        self.native_port = port or sandbox.port(self.label)
        self.storage_port = sandbox.port(f"{self.label}-storage")
        self.settings = settings
        self.jolokia = jolokia
        self.java_options: tuple[str, ...] = ()
        self.commitlog_archiving = ""
        self.nodes = tuple(CassandraNode(self, number) for number in range(size))

    @cached_property
    def lib(self) -> Path:
        """Its jars, fetched when they are not there."""
        return Shelf.of(self.sandbox.home).obtain(program.CASSANDRA)

    @cached_property
    def authority(self) -> Authority:
        """Who signs Jolokia's certificates; its directory belongs to us, not to the servers' account."""
        directory = self.sandbox.root / "secrets" / f"{self.label}-certificates"
        directory.mkdir(mode=0o700, exist_ok=True)
        return Authority(directory)

    @property
    def password(self) -> str:
        """The superuser's password."""
        return self.sandbox.secret(self.label)

    @property
    def running(self) -> bool:
        """Whether all nodes run now."""
        return all(node.running for node in self.nodes)

    def connection(self, login: str = SUPERUSER, password: str | None = None) -> Connection:
        """How to reach it, as the inventory's connections tell it; by default as the superuser."""
        certificate, key = self.authority.issue(CLIENT)
        extra = {
            "jolokia_ca_file": str(self.authority.certificate),
            "jolokia_cert_file": str(certificate),
            "jolokia_key_file": str(key),
        }
        return Connection(
            host=",".join(node.address for node in self.nodes),
            port=self.native_port,
            login=login,
            password=password or self.password,
            extra=extra,
        )

    def backup_connection(self) -> Connection:
        """How Mainstay reaches it, with the least that a production cluster must grant: reading."""
        return self.connection(BACKUP_ROLE, self.sandbox.secret(f"{self.label}-{BACKUP_ROLE}"))

    def target_settings(self) -> dict[str, Any]:
        """What its target in an inventory says besides ``connection``."""
        return {
            "jolokia": self.jolokia,
            "run_as": self.sandbox.account.name,
            "nodes": {
                node.address: {
                    "jolokia_port": node.jolokia_port,
                    "nodetool": [str(node.nodetool_path)],
                    "staging": str(node.directory / "staging"),
                }
                for node in self.nodes
            },
        }

    def connect(self, *, timeout: float = 30.0) -> Cql:
        """A session of the superuser.

        :raises Unreachable: no node answers
        """
        return Cql(self.connection(), timeout=timeout)

    def start(self, *, timeout: float = 180.0) -> Self:
        """Start all nodes at once unless they run, wait until they answer, and give the roles their passwords.

        :raises Contended: somebody else holds a port
        :raises Unreachable: a node ended or did not answer in time; the hint shows its log
        """
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.wait(timeout=timeout)
        self.nodes[0].process.wait_ready(self._roles_exist, timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop all nodes; what they wrote stays."""
        for node in reversed(self.nodes):
            node.stop()

    def kill(self) -> None:
        """SIGKILL all nodes."""
        for node in self.nodes:
            node.kill()

    def restart(self) -> Self:
        """Stop and start it."""
        self.stop()
        return self.start()

    def _roles_exist(self) -> bool:
        """Whether both roles can log in; makes them so on the first start."""
        try:
            with self.connect() as cql:
                return bool(cql.ring())
        except Unauthorized:
            pass
        try:
            with Cql(Connection(host=self.host, port=self.native_port, login=_FIRST_ROLE, password=_FIRST_ROLE)) as cql:
                self._create_roles(cql)
        except Unauthorized as error:  # the node makes its first role a moment after it opens the port
            raise Unreachable(error.message, hint=error.hint) from error
        with self.connect() as cql:
            cql.rows(f"ALTER ROLE {_FIRST_ROLE} WITH LOGIN = false")
        return True

    def _create_roles(self, cql: Cql) -> None:
        if self.size > 1:
            replicas = f"{{'class': 'NetworkTopologyStrategy', 'dc1': {self.size}}}"
            cql.rows(f"ALTER KEYSPACE system_auth WITH replication = {replicas}")
        secret = self.sandbox.secret(f"{self.label}-{BACKUP_ROLE}")
        cql.rows(f"CREATE ROLE IF NOT EXISTS {BACKUP_ROLE} WITH LOGIN = true AND PASSWORD = '{secret}'")
        cql.rows(f"GRANT SELECT ON ALL KEYSPACES TO {BACKUP_ROLE}")
        cql.rows(f"GRANT SELECT ON KEYSPACE system_views TO {BACKUP_ROLE}")  # virtual ones are not among "all"
        # Last: whoever can log in as this role finds all of the above done.
        cql.rows(
            f"CREATE ROLE IF NOT EXISTS {SUPERUSER} WITH SUPERUSER = true AND LOGIN = true"
            f" AND PASSWORD = '{self.password}'"
        )


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def _require_free(address: str, port: int, what: str, name: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise Contended(
                f"Port {port} on {address}, which {what} needs, is held by another process",
                hint=f"Stop it, or choose another port with {variable_of(name)}",
            ) from error
