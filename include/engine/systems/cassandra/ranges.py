"""Reads the rows of token ranges of one cluster, and sums them up so that their order does not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.systems.cassandra.client import Cql, quoted
from include.engine.systems.cassandra.ring import version_of
from include.engine.systems.cassandra.threads import side_by_side

SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1  # tokens
_TIMEOUT = 20.0
_MARK = "mainstay_token"
_AFTER_THE_ROW = f', "{_MARK}": '
_COLUMNS = "table_name, column_name, kind, position, type"
_TABLES = "table_name, flags, default_time_to_live"
_ONE_TABLE = "keyspace_name = %s AND table_name = %s"
_PARTS = (5, 0)  # the first release whose TTL() knows values of several cells
_ORDER = {"partition_key": 0, "clustering": 1, "static": 2, "regular": 3}
# The types whose values are written as one cell, and so have one TTL.
_SINGLE = frozenset(
    {
        "ascii",
        "bigint",
        "blob",
        "boolean",
        "date",
        "decimal",
        "double",
        "duration",
        "float",
        "inet",
        "int",
        "smallint",
        "text",
        "time",
        "timestamp",
        "timeuuid",
        "tinyint",
        "uuid",
        "varint",
    }
)


class Rows(Struct, frozen=True, kw_only=True):
    """The rows from a token on, in whole partitions.

    :param upto: the token that they end at, :data:`LARGEST` when there are no more
    :param expires: when the first of them vanishes by itself; None when none has a TTL
    """

    upto: int
    count: int
    digest: str
    expires: datetime | None


class Sampler:
    """Reads token ranges of one cluster.  Columns are asked for once a table: use a new one when the schema may have changed."""

    def __init__(self, cql: Cql, *, consistency: str, timeout: float = _TIMEOUT) -> None:
        self._cql = cql
        self._consistency = consistency
        self._timeout = timeout
        self._columns: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._tables: dict[tuple[str, str], dict[str, Any]] = {}

    def learn(self, keyspaces: Sequence[str]) -> None:
        """Ask for the columns of all tables of *keyspaces* at once, rather than for those of each when it is read."""

        def one(place: tuple[str, str, str]) -> list[dict[str, Any]]:
            what, columns, keyspace = place
            return self._schema(what, columns, "keyspace_name = %s", keyspace)

        places = [(*what, keyspace) for keyspace in keyspaces for what in (("columns", _COLUMNS), ("tables", _TABLES))]
        for (what, _, keyspace), rows in zip(places, side_by_side(one, places, at_once=8), strict=True):
            for row in rows:
                if what == "columns":
                    self._columns.setdefault((keyspace, row["table_name"]), []).append(row)
                else:
                    self._tables[keyspace, row["table_name"]] = row

    def key(self, keyspace: str, table: str) -> str:
        """Give the CQL of a row's token."""
        columns = self._columns_of(keyspace, table)
        parts = sorted((row["position"], row["column_name"]) for row in columns if row["kind"] == "partition_key")
        return f"token({', '.join(quoted(name) for _, name in parts)})"

    def columns(self, keyspace: str, table: str) -> tuple[str, ...]:
        """Name the columns that a row shows, in the order of ``SELECT *``."""
        return tuple(row["column_name"] for row in self._shown(keyspace, table))

    def expiring(self, keyspace: str, table: str) -> list[str] | None:
        """Name the columns that can be asked when they expire; None when there are none, but every row does by default."""
        simple = [name for name, type_ in self._values(keyspace, table) if _of_one_cell(type_)]
        asked = simple or self.parted(keyspace, table)
        return None if not asked and self._table_of(keyspace, table)["default_time_to_live"] else simple

    def parted(self, keyspace: str, table: str) -> list[str]:
        """Name the columns whose parts can be asked when each of them expires: collections, and types that are not frozen."""
        # Before 5.0 TTL() is refused for them: they expire with their row in most schemas.  It knows no counters.
        # Types of somebody's own making ('org.example.Type') are not asked.
        found = [
            name
            for name, type_ in self._values(keyspace, table)
            if not (_of_one_cell(type_) or type_ == "counter" or type_.startswith("'"))
        ]
        return found if found and self._tells_parts else []

    def begin(
        self, keyspace: str, table: str, after: int, *, upto: int = LARGEST, limit: int, clock: Clock
    ) -> Rows | None:
        """Read the first rows above the token *after*, to *upto* at most; None when their first partition has more than *limit*.

        One statement tells the rows, where they end and when they expire, so that nothing changes between these answers.
        """
        token, expiring = self.key(keyspace, table), self.expiring(keyspace, table)
        shown = [quoted(name) for name in self.columns(keyspace, table)]
        # Of the parts the least: in JSON the server fails on a list of TTLs in which one is null.
        asking = [f"TTL({quoted(name)})" for name in expiring or ()]
        asking += [f"collection_min(TTL({quoted(name)}))" for name in self.parted(keyspace, table)]
        ttls = [f"{one} AS mainstay_ttl_{n}" for n, one in enumerate(asking)]
        now = clock().astimezone(UTC)
        asked = ", ".join([*shown, f"{token} AS {_MARK}", *ttls])
        within = f"{token} > {after}" + ("" if upto == LARGEST else f" AND {token} <= {upto}")
        # No parameters: the driver would take a % in the name of a column for one.
        rows = [
            _split(text)
            for text in self._json(
                f"SELECT JSON {asked} FROM {quoted(keyspace)}.{quoted(table)} WHERE {within} LIMIT {limit + 1}"  # noqa: S608
            )
        ]
        if len(rows) > limit:
            last = rows[-1][1]
            rows = [row for row in rows if row[1] < last]
            if not rows:
                return None
            upto = rows[-1][1]
        left = [ttl for _, _, some in rows for ttl in some]
        # A second less: the server counts whole ones, and a drill must not ask while the row vanishes.
        expires = now + timedelta(seconds=min(left) - 1) if left else None
        return Rows(
            upto=upto,
            count=len(rows),
            digest=digest([text for text, _, _ in rows]),
            expires=now if expiring is None else expires,
        )

    def read(self, keyspace: str, table: str, after: int, upto: int, columns: Sequence[str] = ()) -> tuple[int, str]:
        """Give the number of rows of a range and the sum of their digests.

        :param columns: in the order in which they were read before; as ``*`` gives them when there are none
        """
        token = self.key(keyspace, table)
        shown = ", ".join(map(quoted, columns)) or "*"
        rows = self._json(
            f"SELECT JSON {shown} FROM {quoted(keyspace)}.{quoted(table)} WHERE {token} > {after} AND {token} <= {upto}"  # noqa: S608
        )
        return len(rows), digest(rows)

    @cached_property
    def _tells_parts(self) -> bool:
        """Whether every node can be asked when the parts of a collection expire."""
        return all(version_of(node.version) >= _PARTS for node in self._cql.ring())

    def _values(self, keyspace: str, table: str) -> list[tuple[str, str]]:
        """Name the columns that are no part of a key, with their types."""
        shown = self._shown(keyspace, table)
        return [(row["column_name"], str(row["type"])) for row in shown if row["kind"] in ("static", "regular")]

    def _shown(self, keyspace: str, table: str) -> list[dict[str, Any]]:
        # What was made WITH COMPACT STORAGE has columns that nobody made and no statement may name.
        flags = set(self._table_of(keyspace, table)["flags"] or ())
        hidden = () if flags & {"compound", "dense"} else ("clustering", "regular")
        found = self._columns_of(keyspace, table)
        return sorted(
            (row for row in found if row["kind"] not in hidden and row["type"] != "empty"),
            key=lambda row: (_ORDER[row["kind"]], row["position"], row["column_name"].encode()),
        )

    def _json(self, statement: str) -> list[str]:
        rows = self._cql.rows(statement, consistency=self._consistency, timeout=self._timeout)
        return [next(iter(row.values())) for row in rows]  # the driver's name of the one column depends on its version

    def _columns_of(self, keyspace: str, table: str) -> list[dict[str, Any]]:
        if (keyspace, table) not in self._columns:
            self._columns[keyspace, table] = self._schema("columns", _COLUMNS, _ONE_TABLE, keyspace, table)
        return self._columns[keyspace, table]

    def _table_of(self, keyspace: str, table: str) -> dict[str, Any]:
        if (keyspace, table) not in self._tables:
            (self._tables[keyspace, table],) = self._schema("tables", _TABLES, _ONE_TABLE, keyspace, table)
        return self._tables[keyspace, table]

    def _schema(self, what: str, columns: str, where: str, *names: str) -> list[dict[str, Any]]:
        return self._cql.rows(f"SELECT {columns} FROM system_schema.{what} WHERE {where}", names)  # noqa: S608


def _of_one_cell(type_: str) -> bool:
    return type_ in _SINGLE or type_.startswith(("frozen<", "vector<"))


def digest(rows: Sequence[str]) -> str:
    """Give a digest of rows that does not depend on their order: the sum of their SHA-256, modulo 2^256."""
    total = sum(int.from_bytes(hashlib.sha256(row.encode()).digest(), "big") for row in rows)
    return f"{total % (1 << 256):064x}"


def _split(text: str) -> tuple[str, int, list[int]]:
    """Give a row as it stands without what was asked besides: its token, and the seconds that its values have left."""
    # From the end: what follows the mark there are numbers only, whatever the row's own values are.
    end = text.rindex(_AFTER_THE_ROW)
    asked: dict[str, int | None] = msgspec.json.decode("{" + text[end + 2 :])
    token = asked.pop(_MARK)
    assert token is not None  # a row has a key
    return text[:end] + "}", token, [ttl for ttl in asked.values() if ttl is not None]
