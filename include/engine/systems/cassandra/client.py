"""Talks CQL to a cluster: to any node, or to one node in particular.  The driver's errors become ours."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Misconfigured, PermanentError, Unauthorized, Unreachable

DEFAULT_PORT = 9042
_TIMEOUT = 30.0
_SETTLES = 15.0  # seconds in which a new session may still be connecting to some nodes
_POLL = 0.2
_WRITES_AT_ONCE = 32


class Node(Struct, frozen=True, kw_only=True):
    """One node of a ring, as the ring itself tells."""

    host_id: str
    address: str  # where it speaks CQL
    datacenter: str
    rack: str
    version: str
    tokens: tuple[str, ...]


class Cql:
    """A session with one cluster; a context manager that closes it.

    :param connection: host (several with commas), port, login and password; ``tls_ca_file`` in the extras for TLS
    """

    def __init__(self, connection: Connection, *, timeout: float = _TIMEOUT) -> None:
        load_driver()
        from cassandra.auth import PlainTextAuthProvider
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        from cassandra.policies import RoundRobinPolicy
        from cassandra.query import dict_factory

        # It logs, with a stack trace, what it raises as well.
        logging.getLogger("cassandra").setLevel(logging.CRITICAL)
        self.hosts = [host.strip() for host in connection.host.split(",") if host.strip()] or ["127.0.0.1"]
        self._timeout = timeout
        login = PlainTextAuthProvider(connection.login, connection.password) if connection.login else None
        profile = ExecutionProfile(
            load_balancing_policy=RoundRobinPolicy(), row_factory=dict_factory, request_timeout=timeout
        )
        context = _tls(connection)
        try:  # a name that does not resolve is an error of the first of these
            self._cluster = Cluster(
                self.hosts,
                port=connection.port or DEFAULT_PORT,
                auth_provider=login,
                ssl_context=context,
                execution_profiles={EXEC_PROFILE_DEFAULT: profile},
                connect_timeout=min(timeout, 10.0),
                control_connection_timeout=timeout,
                protocol_version=5,
                allow_beta_protocol_version=False,
                sockopts=[
                    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ],  # or a question waits for the answer to another one
                schema_metadata_enabled=False,  # the schema is asked for in CQL, which tells what the driver does not know
                token_metadata_enabled=False,
            )
            self._session: Any = self._connected()
        except Exception as error:
            raise translated(error, ",".join(self.hosts)) from error
        self._settled = time.monotonic() + _SETTLES

    def _connected(self) -> Any:
        try:
            return self._cluster.connect()
        except BaseException:
            self._cluster.shutdown()
            raise

    def rows(
        self,
        statement: str,
        parameters: Sequence[object] = (),
        *,
        at: Node | None = None,
        consistency: str = "LOCAL_ONE",
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """Run *statement* and give its rows.

        :param at: the node that must answer: virtual and local tables differ from node to node
        :raises Unreachable: no node, or not that node, answered, or too few replicas did
        :raises PermanentError: the statement was refused
        """
        from cassandra import ConsistencyLevel
        from cassandra.cluster import NoHostAvailable
        from cassandra.query import SimpleStatement

        query = SimpleStatement(statement, consistency_level=ConsistencyLevel.name_to_value[consistency])
        limit = timeout or self._timeout
        patient_until = min(self._settled, time.monotonic() + limit)
        while True:
            try:
                host = self._host(at) if at else None
                return list(self._session.execute(query, parameters or None, timeout=limit, host=host))
            except (NoHostAvailable, Unreachable) as error:
                # The driver connects to the other nodes behind our back: a young session does not know yet who is up.
                if at is None or time.monotonic() > patient_until:
                    raise translated(error, at.address if at else ",".join(self.hosts), statement) from error
                time.sleep(_POLL)
            except Exception as error:
                raise translated(error, at.address if at else ",".join(self.hosts), statement) from error

    @property
    def session(self) -> Any:
        """The driver's own session, for whoever sends without waiting."""
        return self._session

    def prepared(self, statement: str) -> Any:
        """Prepare *statement* for :meth:`many`."""
        try:
            return self._session.prepare(statement)
        except Exception as error:
            raise translated(error, ",".join(self.hosts), statement) from error

    def many(self, statement: str, rows: Sequence[Sequence[object]], *, consistency: str = "QUORUM") -> None:
        """Run *statement* once for each of *rows*, many at a time.

        :raises Unreachable: one of them was not acknowledged
        """
        from cassandra import ConsistencyLevel
        from cassandra.concurrent import execute_concurrent_with_args

        prepared = self.prepared(statement)
        prepared.consistency_level = ConsistencyLevel.name_to_value[consistency]
        try:
            execute_concurrent_with_args(self._session, prepared, rows, concurrency=_WRITES_AT_ONCE)
        except Exception as error:
            raise translated(error, ",".join(self.hosts), statement) from error

    def ring(self) -> tuple[Node, ...]:
        """All nodes that the ring consists of, up or down, by host id."""
        columns = "host_id, data_center, rack, release_version, tokens"
        local = self.rows(f"SELECT {columns}, rpc_address AS address FROM system.local")  # noqa: S608
        first = next(iter(local))
        me = Node(
            host_id=str(first["host_id"]),
            address=str(first["address"]),
            datacenter=first["data_center"],
            rack=first["rack"],
            version=first["release_version"],
            tokens=_tokens(first["tokens"]),
        )
        peers = self.rows(f"SELECT {columns}, native_address AS address FROM system.peers_v2", at=me)  # noqa: S608
        others = [
            Node(
                host_id=str(row["host_id"]),
                address=str(row["address"]),
                datacenter=row["data_center"],
                rack=row["rack"],
                version=row["release_version"],
                tokens=_tokens(row["tokens"]),
            )
            for row in peers
        ]
        return tuple(sorted((me, *others), key=lambda node: node.host_id))

    def close(self) -> None:
        """End the session."""
        self._cluster.shutdown()

    def _host(self, node: Node) -> Any:
        for host in self._cluster.metadata.all_hosts():
            if str(host.host_id) == node.host_id:
                return host
        raise Unreachable(f"the driver does not know the node {node.address}", hint="check `nodetool status`")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def quoted(name: str) -> str:
    """Quote an identifier, so that capitals and quotes survive."""
    return '"' + name.replace('"', '""') + '"'


def translated(error: Exception, where: str, statement: str = "") -> MainstayError:
    """Turn an error of the driver into ours."""
    if isinstance(error, MainstayError):
        return error
    from cassandra import AuthenticationFailed, InvalidRequest, RequestValidationException
    from cassandra import Unauthorized as Forbidden
    from cassandra.cluster import NoHostAvailable

    causes: list[object] = [error]
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict):
        causes += error.errors.values()
    for cause in causes:
        if isinstance(cause, AuthenticationFailed):
            return Unauthorized(
                f"Cassandra at {where} did not accept the login", hint="check the login and password of its connection"
            )
        if isinstance(cause, Forbidden):
            return Unauthorized(
                f"Cassandra at {where} refused: {_brief(cause)}",
                hint="grant the role SELECT ON ALL KEYSPACES; a restore also needs CREATE, ALTER and MODIFY",
            )
        if isinstance(cause, InvalidRequest | RequestValidationException):
            if "password" in statement.lower():  # nor what the server says of it: it quotes the statement
                what = " ".join(statement.split()[:2])
                return PermanentError(
                    f"Cassandra at {where} refused {what!r} (which names a password and is not shown): {type(cause).__name__}",
                    hint="look at the statement where it is written",
                )
            return PermanentError(
                f"Cassandra at {where} refused {statement[:160]!r}: {_brief(cause)}",
                hint="if the schema changed meanwhile, run it again",
            )
    return Unreachable(
        f"Cassandra at {where} did not answer: {_brief(error)}",
        hint="check that all nodes are up with `nodetool status`; the run can be repeated",
    )


class _Without:
    """A finder that hides modules from one thread."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._thread = threading.get_ident()

    def find_spec(self, name: str, *_: object) -> None:
        """Say that there is no such module; find no other."""
        if name in self._modules and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(name, name=name)


def load_driver() -> None:
    """Import the driver, which takes its time, without what it need not have."""
    if "cassandra.cluster" in sys.modules:
        return
    # The driver tries for these, for rows and for event loops that nobody asks for: more than half of the time that it takes.
    hidden: Any = _Without("numpy", "cassandra.io.twistedreactor")
    sys.meta_path.insert(0, hidden)
    try:
        import cassandra.cluster  # noqa: F401
    finally:
        sys.meta_path.remove(hidden)


def _brief(error: object) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:300]


def _tokens(tokens: Any) -> tuple[str, ...]:
    return tuple(sorted(map(str, tokens or ()), key=int))


def _tls(connection: Connection) -> ssl.SSLContext | None:
    authority = connection.extra.get("tls_ca_file")
    if not authority:
        return None
    try:
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = False  # nodes are addressed by the address that the ring gives, not by a name
        certificate = connection.extra.get("tls_cert_file")
        if certificate:
            context.load_cert_chain(certificate, connection.extra.get("tls_key_file"))
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"the certificates for Cassandra at {connection.host} cannot be read: {error}",
            hint="check tls_ca_file, tls_cert_file and tls_key_file in the extras of the connection",
        ) from error
    return context
