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

from functools import cached_property
from pathlib import Path
from typing import Any, Self

from include.engine.contracts import Connection
from include.engine.errors import Unauthorized, Unreachable
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK
from include.engine.systems.cassandra import program
from include.engine.systems.cassandra.certificates import CLIENT, Authority
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.node import CassandraNode

SUPERUSER = "admin"
_FIRST_ROLE = "cassandra"  # what every new Cassandra has, with a password that everybody knows
BACKUP_ROLE = "mainstay"


class CassandraServer:
    """A ring of one or three nodes, started or not.

    Whoever constructs it again with the same sandbox and name, in this process or a later one, has the same ring.

    :param name: unique among the sandbox's rings
    :param size: 1, or 3 with a rack each
    :param port: the CQL port of all nodes, on 127.0.0.1 and following; one that stays the same when not given
    :param settings: for ``cassandra.yaml``
    :param jolokia: whether its nodes answer on Jolokia
    :param heap: the largest of each node, in MiB; half as much again lies beside it
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
        heap: int = 512,
    ) -> None:
        self.sandbox = sandbox
        self.name = name
        self.size = size
        self.label = f"cassandra-{name}"
        self.native_port = sandbox.port(self.label, port)
        self.storage_port = sandbox.port(f"{self.label}-storage")
        self.settings = settings
        self.jolokia = jolokia
        self.heap = heap
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
                    "staging": str(node.staging),
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
            # It was there before the roles had copies: reading all of them gives each its own, or two of three know no such role.
            cql.rows(f"SELECT * FROM system_auth.roles WHERE role = '{_FIRST_ROLE}'", consistency="ALL")  # noqa: S608
            cql.rows(f"ALTER ROLE {_FIRST_ROLE} WITH LOGIN = false")
        return True

    def _create_roles(self, cql: Cql) -> None:
        if self.size > 1:
            replicas = f"{{'class': 'NetworkTopologyStrategy', 'dc1': {self.size}}}"
            cql.rows(f"ALTER KEYSPACE system_auth WITH replication = {replicas}")
        secret = self.sandbox.secret(f"{self.label}-{BACKUP_ROLE}")
        cql.rows(f"CREATE ROLE IF NOT EXISTS {BACKUP_ROLE} WITH LOGIN = true AND PASSWORD = '{secret}'")
        cql.rows(f"GRANT SELECT ON ALL KEYSPACES TO {BACKUP_ROLE}")
        for keyspace in ("system_views", "system_distributed"):  # the system's own are not among "all"
            cql.rows(f"GRANT SELECT ON KEYSPACE {keyspace} TO {BACKUP_ROLE}")
        # Last: whoever can log in as this role finds all of the above done.
        cql.rows(
            f"CREATE ROLE IF NOT EXISTS {SUPERUSER} WITH SUPERUSER = true AND LOGIN = true"
            f" AND PASSWORD = '{self.password}'"
        )
