"""Looks whether rows are in the tables that the job writes to, by their keys."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.systems.spark import access
from include.engine.systems.spark.records import Key

_AT_ONCE = 64
_TIMEOUT = 30.0  # seconds
_RANGES = 64  # that a table is counted by, so that no question takes long
_PAGE = 2_000  # rows of an answer when a table is read whole
_WORTH_A_SCAN = 10  # rows that are read whole in the time that one takes to be looked for by its key
_COUNTS = "counts"
_COUNTED_WITHIN = 900.0  # seconds for one of them
_TOKENS = range(-(2**63), 2**63, 2**64 // _RANGES)


class Tables:
    """A session with Cassandra for as long as the context lasts.

    :raises Unreachable: when no node answers
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        from cassandra.auth import PlainTextAuthProvider
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        from cassandra.policies import DCAwareRoundRobinPolicy, RoundRobinPolicy

        told = access.cassandra(self._connection)
        login = told["options"]
        policy = DCAwareRoundRobinPolicy(login["datacenter"]) if login["datacenter"] else RoundRobinPolicy()
        authority = login["truststore"]
        self._cluster = Cluster(
            contact_points=told["hosts"],
            port=told["port"],
            auth_provider=PlainTextAuthProvider(login["login"], login["password"]) if login["login"] else None,
            ssl_context=ssl.create_default_context(cafile=authority) if authority else None,
            execution_profiles={
                EXEC_PROFILE_DEFAULT: ExecutionProfile(load_balancing_policy=policy, request_timeout=_TIMEOUT),
                _COUNTS: ExecutionProfile(load_balancing_policy=policy, request_timeout=_COUNTED_WITHIN),
            },
            protocol_version=5,
            connect_timeout=10.0,
        )
        try:
            self._session: Any = self._cluster.connect()
        except Exception as error:
            self._cluster.shutdown()
            raise Unreachable(
                f"Cassandra at {', '.join(told['hosts'])} does not answer: {type(error).__name__}",
                hint="check the connection that the stream's target names as `cassandra`",
            ) from error
        return self

    @property
    def version(self) -> str:
        """The version of the node that answers."""
        row = self._session.execute("SELECT release_version FROM system.local").one()
        return str(getattr(row, "release_version", ""))

    @property
    def session(self) -> Any:
        """The driver's own."""
        return self._session

    def rows(
        self,
        table: str,
        columns: Sequence[str],
        keys: Sequence[Key],
        *,
        wanted: Sequence[str] = (),
        count: int | None = None,
    ) -> list[dict[str, Any] | None]:
        """Give the row of each of *keys*, or nothing where there is none.

        :param columns: of the key
        :param wanted: the columns to give
        :param count: rows of the table, about, when that is known: a table of not many more than are asked for is read whole
        :raises Unreachable: when one of them could not be looked for
        """
        from cassandra import ConsistencyLevel
        from cassandra.concurrent import execute_concurrent_with_args

        chosen = ", ".join([*columns, *wanted])
        if count is not None and count <= _WORTH_A_SCAN * len(keys):
            return self._scanned(f"SELECT {chosen} FROM {table}", table, columns, keys)  # noqa: S608 - names of the inventory
        where = " AND ".join(f"{column} = ?" for column in columns)
        try:
            statement = self._session.prepare(f"SELECT {chosen} FROM {table} WHERE {where}")  # noqa: S608 - names of the inventory
            statement.consistency_level = ConsistencyLevel.LOCAL_QUORUM
            found = execute_concurrent_with_args(self._session, statement, keys, concurrency=_AT_ONCE)
            return [row._asdict() if (row := result.one()) is not None else None for _, result in found]
        except Exception as error:
            raise _unread(table, error) from error

    def _scanned(
        self, question: str, table: str, columns: Sequence[str], keys: Sequence[Key]
    ) -> list[dict[str, Any] | None]:
        from cassandra import ConsistencyLevel
        from cassandra.query import SimpleStatement

        asked = {_spelled(key) for key in keys}
        found: dict[tuple[str, ...], dict[str, Any]] = {}
        try:
            statement = SimpleStatement(question, fetch_size=_PAGE, consistency_level=ConsistencyLevel.LOCAL_QUORUM)
            for row in self._session.execute(statement):
                told = row._asdict()
                key = _spelled(tuple(told[column] for column in columns))
                if key in asked:
                    found[key] = told
        except Exception as error:
            raise _unread(table, error) from error
        return [found.get(_spelled(key)) for key in keys]

    def count(self, table: str) -> int:
        """Give the number of rows, range by range.

        :raises Unreachable: when one of the ranges could not be counted
        """
        from cassandra import ConsistencyLevel
        from cassandra.concurrent import execute_concurrent_with_args

        try:
            parts = sorted(
                (row for row in self._columns(table) if row.kind == "partition_key"), key=lambda row: int(row.position)
            )
            token = f"token({', '.join(row.column_name for row in parts)})"
            statement = self._session.prepare(f"SELECT count(*) FROM {table} WHERE {token} >= ? AND {token} <= ?")  # noqa: S608 - names of the inventory
            statement.consistency_level = ConsistencyLevel.LOCAL_QUORUM
            spans = [(first, first + _TOKENS.step - 1) for first in _TOKENS]
            found = execute_concurrent_with_args(
                self._session, statement, spans, concurrency=4, execution_profile=_COUNTS
            )
            return sum(int(result.one()[0]) for _, result in found)
        except Exception as error:
            raise _unread(table, error) from error

    def lifetime(self, table: str) -> int:
        """Give for how many seconds a row lives, as the table says; 0 for ever.

        :raises Unreachable: when nobody says
        """
        keyspace, _, name = table.partition(".")
        question = "SELECT default_time_to_live FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s"
        try:
            found = self._session.execute(question, (keyspace, name)).one()
        except Exception as error:
            raise _unread(table, error) from error
        return int(found[0] or 0) if found is not None else 0

    def _columns(self, table: str) -> list[Any]:
        keyspace, _, name = table.partition(".")
        question = (
            "SELECT column_name, kind, position FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s"
        )
        return list(self._session.execute(question, (keyspace, name)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.shutdown()


def _spelled(key: Key) -> tuple[str, ...]:
    """Spell a key so that the driver's own types for dates compare with ours."""
    return tuple(map(str, key))


def _unread(table: str, error: Exception) -> Unreachable:
    return Unreachable(
        f"the rows of {table} could not be looked for: {type(error).__name__}: {error}",
        hint="check that the table has the columns of the flow's shape, and that its nodes are up",
    )
