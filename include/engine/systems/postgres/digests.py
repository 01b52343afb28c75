"""Digests of rows: what they say, and the SQL that makes them, the same on the source and on what was restored.

A digest does not depend on the order of rows.  It is the sum, as a number without bounds, of a 64-bit hash of each row's text.
The text is made independent of the session: :data:`SESSION` fixes every setting that a type's output obeys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from msgspec import Struct
from psycopg import sql

Ranges = Sequence[tuple[int, int]]  # of blocks, [from, to)

SESSION = (
    "SET search_path = pg_catalog",  # regclass and the like print names as seen from here
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'postgres'",
    "SET timezone = 'UTC'",
    "SET extra_float_digits = 1",
    "SET bytea_output = 'hex'",
    "SET lc_monetary = 'C'",
    "SET row_security = off",  # rows that a policy hides would be missing silently; so the server raises instead
    "SET max_parallel_workers_per_gather = 0",
)


class Instant(Struct, frozen=True, kw_only=True, tag="instant", tag_field="kind"):
    """The point in the log that all digests of a backup stand for."""

    lsn: str
    timeline: int
    snapshot: str
    restore_point: str


class DatabaseSample(Struct, frozen=True, kw_only=True, tag="database", tag_field="kind"):
    """How many tables a database had, and which of the largest could not be digested, with the reason."""

    database: str
    tables: int
    skipped: dict[str, str] = {}


class TableSample(Struct, frozen=True, kw_only=True, tag="table", tag_field="kind"):
    """The digest of one table; with *ranges*, of these blocks of it only."""

    database: str
    schema: str
    table: str
    rows: int
    digest: str
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        """The table, for people."""
        return f"{self.database}.{self.schema}.{self.table}"


class Gap(Struct, frozen=True, kw_only=True, tag="gap", tag_field="kind"):
    """Why there are no digests.  A check that finds this is UNVERIFIED."""

    reason: str


Sample = Instant | DatabaseSample | TableSample | Gap


class Table(Struct, frozen=True):
    """A permanent table with rows of its own."""

    oid: int
    schema: str
    name: str
    blocks: int


_TABLES = """
    SELECT c.oid::int8, n.nspname, c.relname, pg_relation_size(c.oid) / current_setting('block_size')::int8
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND (c.relkind = 'r' OR c.relispopulated)
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    ORDER BY 4 DESC, 2, 3
"""


def tables(client: psycopg.Connection[Any]) -> list[Table]:
    """List the tables whose rows a physical copy must hold, the largest first.  Unlogged ones are empty after a restore."""
    return [Table(*row) for row in client.execute(_TABLES).fetchall() if row[3] is not None]


def settle(client: psycopg.Connection[Any]) -> None:
    """Make row texts independent of who asks."""
    for statement in SESSION:
        client.execute(statement.encode())


def digest(client: psycopg.Connection[Any], schema: str, table: str, ranges: Ranges = ()) -> tuple[int, str]:
    """Count and digest the rows that the transaction sees.

    :param ranges: only of these blocks; a physical copy keeps every row in its block.  Needs PostgreSQL 14 for speed
    :raises psycopg.Error: when the role may not read the table, or a row cannot be read
    """
    # The alias cannot be taken for a column, which would win over it in (alias.*).
    statement = sql.SQL(
        'SELECT count(*), coalesce(sum(hashtextextended(("mainstay row".*)::text COLLATE "C", 0)::numeric), 0)::text'
        ' FROM ONLY {table} AS "mainstay row"'
    ).format(table=sql.Identifier(schema, table))
    rows, total = 0, 0
    for where in [_within(*blocks) for blocks in ranges] or [sql.Composed([])]:
        found = client.execute(statement + where).fetchone()
        if found is not None:
            rows, total = rows + found[0], total + int(found[1])
    return rows, str(total)


def block_ranges(blocks: int, count: int, length: int) -> tuple[tuple[int, int], ...]:
    """Spread *count* ranges of *length* blocks over a table of *blocks*, from its first to its last one.  Pure.

    Empty when they would cover it all: then it is read whole.
    """
    if count * length >= blocks:
        return ()
    if count == 1:
        return ((0, length),)
    step = (blocks - length) / (count - 1)
    return tuple((start, start + length) for start in (round(step * number) for number in range(count)))


def _within(first: int, end: int) -> sql.Composed:
    return sql.SQL(" WHERE ctid >= {first}::tid AND ctid < {end}::tid").format(
        first=sql.Literal(f"({first},0)"), end=sql.Literal(f"({end},0)")
    )
