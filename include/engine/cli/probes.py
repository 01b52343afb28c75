"""Asks the demo's PostgreSQL how it is, and how those who write to it and read from it are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from include.engine.errors import Unreachable

if TYPE_CHECKING:
    from include.engine.systems.postgres.server import PostgresServer

SLOT = "mainstay_wal"  # the default of the inventory


def ask(server: PostgresServer, query: LiteralString, *values: object) -> tuple[Any, ...]:
    """Give the one row that *query* has.

    :raises Unreachable: the server did not answer, or not with a row
    """
    import psycopg

    try:
        with server.connect() as connection:
            row = connection.execute(query, values).fetchone()
    except psycopg.Error as error:
        told = str(error).strip().splitlines()
        raise Unreachable(told[0] if told else type(error).__name__, hint=f"Read {server.log}") from error
    if row is None:
        raise Unreachable("there was no row in its answer", hint=f"Read {server.log}")
    return tuple(row)


def archived(server: PostgresServer) -> tuple[bool, int]:
    """Say whether somebody reads the slot of the WAL archive, and how many bytes were not acknowledged yet."""
    active, behind = ask(
        server,
        "select coalesce(bool_or(active), false),"
        " coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::bigint"
        " from pg_replication_slots where slot_name = %s",
        SLOT,
    )
    return bool(active), int(behind)


def heartbeat_age(server: PostgresServer) -> float | None:
    """Give the seconds since the newest heartbeat; None when there was none."""
    (age,) = ask(server, "select extract(epoch from clock_timestamp() - max(at))::float8 from mainstay.heartbeat")
    return None if age is None else float(age)


def replay_lag(primary: PostgresServer, standby: str) -> int:
    """Give the bytes that *standby* has not replayed yet."""
    (behind,) = ask(
        primary,
        "select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint"
        " from pg_stat_replication where application_name = %s",
        standby,
    )
    return int(behind)


def size(server: PostgresServer) -> tuple[int, bool]:
    """Give the bytes of all databases, and whether the server is a standby."""
    bytes_, recovering = ask(
        server, "select sum(pg_database_size(oid))::bigint, pg_is_in_recovery() from pg_database where datallowconn"
    )
    return int(bytes_), bool(recovering)


def position(server: PostgresServer) -> int:
    """Give the position in the log up to which the server has written."""
    (written,) = ask(server, "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    return int(written)
