"""The roles that servers give to Mainstay and to standbys."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    import psycopg

BACKUP_ROLE = "mainstay"
REPLICATOR_ROLE = "replicator"


def ensure_role(connection: psycopg.Connection, name: str, password: str, *, attributes: LiteralString = "") -> None:
    """Make the role *name*, which may log in, or set its password and attributes right when it is there.

    :param attributes: in SQL, such as ``replication createdb``
    """
    from psycopg import sql

    # The server gets the verifier, never the password: it may log its statements.
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    exists = connection.execute("select 1 from pg_roles where rolname = %s", (name,)).fetchone()
    statement = sql.SQL("{verb} role {name} login {attributes} password {verifier}").format(
        verb=sql.SQL("alter" if exists else "create"),
        name=sql.Identifier(name),
        attributes=sql.SQL(attributes),
        verifier=sql.Literal(verifier),
    )
    connection.execute(statement)


def grant_backup_rights(connection: psycopg.Connection, name: str = BACKUP_ROLE) -> None:
    """Grant the role *name*, which has LOGIN and REPLICATION for the backup, all else that Mainstay asks of a server.

    That is pg_monitor for the probes, pg_read_all_data for the checks, and EXECUTE on pg_create_restore_point for
    the cut, the last in the database of *connection* only: use ``postgres``.  It may not write.
    """
    from psycopg import sql

    role = sql.Identifier(name)
    connection.execute(sql.SQL("grant pg_monitor, pg_read_all_data to {}").format(role))
    connection.execute(sql.SQL("grant execute on function pg_create_restore_point(text) to {}").format(role))
