"""One node of a sandboxed ring: its configuration, its process, its nodetool."""

from __future__ import annotations

import signal
import socket
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from include.engine.errors import Contended
from include.engine.sandbox.accounts import own, private_directory
from include.engine.sandbox.ports import LOOPBACK, variable_of
from include.engine.sandbox.process import ServerProcess, ServerSpec, run_tool
from include.engine.systems.cassandra import program
from include.engine.systems.cassandra.certificates import CLIENT
from include.engine.systems.cassandra.node_configuration import NodeConfiguration, jolokia_policy, jolokia_properties

if TYPE_CHECKING:
    from include.engine.systems.cassandra.server import CassandraServer

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
    def staging(self) -> Path:
        """Where files of a restore lie until it takes them: on the disk of its data."""
        return self.directory / "staging"

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
            *program.options(self.ring.lib, top, heap=f"{self.ring.heap}m"),
            *agents,
            "-Xms128m",
            "-Xss256k",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:+PerfDisableSharedMem",
            f"-XX:MaxDirectMemorySize={self.ring.heap // 2}m",
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
