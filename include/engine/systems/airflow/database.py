"""Makes the PostgreSQL role and the database of Airflow's metadata, and tells which revision its tables have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import psycopg

ROLE = DATABASE = "airflow"


class DatabaseHost(Protocol):
    """The PostgreSQL server that holds Airflow's metadata: the part of ``PostgresServer`` that is needed here."""

    @property
    def host(self) -> str:
        """Its address."""

    @property
    def port(self) -> int:
        """Its port."""

    def connect(self, dbname: str = "postgres") -> psycopg.Connection:
        """A connection of the superuser in autocommit mode."""


def prepare(host: DatabaseHost, password: str) -> None:
    """Make the role and the database when they are not there, and set the role's password."""
    from psycopg import sql

    with host.connect() as connection:
        # The server gets the verifier, never the password: it may log its statements.
        verifier = connection.pgconn.encrypt_password(password.encode(), ROLE.encode()).decode()
        exists = connection.execute("select 1 from pg_roles where rolname = %s", (ROLE,)).fetchone()
        connection.execute(
            sql.SQL("{verb} role {name} login password {verifier}").format(
                verb=sql.SQL("alter" if exists else "create"),
                name=sql.Identifier(ROLE),
                verifier=sql.Literal(verifier),
            )
        )
        if not connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone():
            connection.execute(
                sql.SQL("create database {} owner {}").format(sql.Identifier(DATABASE), sql.Identifier(ROLE))
            )


def revision(host: DatabaseHost) -> str:
    """Give the revision of the database's tables, which is empty when there are none."""
    with host.connect(DATABASE) as connection:
        found = connection.execute("select to_regclass('alembic_version')").fetchone()
        there = found is not None and found[0] is not None
        row = connection.execute("select version_num from alembic_version").fetchone() if there else None
    return str(row[0]) if row else ""
