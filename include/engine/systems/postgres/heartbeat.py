"""The heartbeat: a row with the time, written to the source every few seconds.

After a restore the newest row that came back says how much of the newest data was lost: the achieved RPO, measured in the data
itself and on the source's own clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

Client = psycopg.Connection[Any]


def ensure(client: Client, table: str) -> None:
    """Create the heartbeat's schema and table where they are missing.

    :param table: ``schema.table``, as in the inventory
    :raises psycopg.Error: when the role may not
    """
    schema, _, _ = table.partition(".")
    # Looked up first: CREATE … IF NOT EXISTS asks for the right to create even when there is nothing to create.
    if not _exists(client, table):
        client.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        client.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (at timestamptz PRIMARY KEY DEFAULT clock_timestamp(), note text)"
            ).format(_named(table))
        )


def beat(client: Client, table: str, note: str | None = None) -> datetime:
    """Write one row and give its time.  The client is in autocommit mode, so the row is committed when this returns."""
    row = client.execute(sql.SQL("INSERT INTO {} (note) VALUES (%s) RETURNING at").format(_named(table)), (note,))
    written: datetime = row.fetchall()[0][0]
    return written.astimezone(UTC)


def trim(client: Client, table: str, keep: timedelta) -> int:
    """Remove rows that are older than *keep*, and give how many."""
    return client.execute(
        sql.SQL("DELETE FROM {} WHERE at < clock_timestamp() - %s").format(_named(table)), (keep,)
    ).rowcount


def newest(client: Client, table: str) -> datetime | None:
    """Give the time of the newest row; nothing when there is none, or no such table: then nothing was measured."""
    if not _exists(client, table):
        return None
    row = client.execute(sql.SQL("SELECT max(at) FROM {}").format(_named(table))).fetchone()
    return row[0].astimezone(UTC) if row and row[0] else None


def _exists(client: Client, table: str) -> bool:
    found = client.execute(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        table.split(".", 1),
    )
    return found.fetchone() is not None


def _named(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split(".", 1))
