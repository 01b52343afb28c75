"""Talks to PostgreSQL by SQL: how to log in, how to end, what an error means."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator

import psycopg
from psycopg.conninfo import make_conninfo

from include.engine.contracts import Connection, Stop
from include.engine.errors import MainstayError
from include.engine.systems.postgres.diagnosis import diagnose

# What of a connection's extras goes to libpq.  The rest is Airflow's own (``cursor``, ``iam``, …).
_LIBPQ_EXTRAS = re.compile(
    r"ssl\w*|keepalives\w*|channel_binding|require_auth|gssencmode|krbsrvname|passfile|hostaddr|connect_timeout|"
    r"tcp_user_timeout|options"
)
# A dead peer is noticed in about 90 seconds, by both of a backup's connections.
_DEFAULTS = {"connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "6"}
# A role's own timeouts are meant for its queries, not for an hour of copying or for a slot that is held meanwhile.
_OPTIONS = "-c statement_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0"


def application_name(backup: str) -> str:
    """Name the connections of a backup, so that :meth:`BackupSource.release` finds what a dead worker left."""
    return f"mainstay {backup}"


def place(connection: Connection) -> str:
    """Say whom we talk to, for messages."""
    port = f":{connection.port}" if connection.port else ""
    return f"PostgreSQL at {connection.host or 'the local socket'}{port}"


def conninfo(connection: Connection, *, database: str | None, application: str, replication: bool = False) -> str:
    """Write the libpq connection string.  It holds the password: give it to libpq only."""
    extra = {key: value for key, value in connection.extra.items() if _LIBPQ_EXTRAS.fullmatch(key)}
    options = f"{_OPTIONS} {extra.pop('options', '')}".strip()
    parameters: dict[str, str | int | None] = {
        "host": connection.host or None,
        "port": connection.port,
        "user": connection.login or None,
        "password": connection.password or None,
        "dbname": database or connection.schema or "postgres",
        "application_name": application,
        "replication": "true" if replication else None,
        "options": options,
    }
    return make_conninfo("", **{key: value for key, value in (_DEFAULTS | extra | parameters).items() if value})


def diagnosed(connection: Connection, error: psycopg.Error | str, state: str | None = None) -> MainstayError:
    """Make a client's error ours.  The password is struck out of it, wherever it may have come from."""
    text = str(error)
    if isinstance(error, psycopg.Error):
        state = error.sqlstate
        text = error.diag.message_primary or text
        if error.diag.message_detail:
            text = f"{text}: {error.diag.message_detail}"
    if connection.password:
        text = text.replace(connection.password, "***")
    return diagnose(text, state=state, where=place(connection), role=connection.login or "the role")


@contextlib.contextmanager
def speaking(connection: Connection) -> Iterator[None]:
    """Turn psycopg's errors of the block into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise diagnosed(connection, error) from error


@contextlib.contextmanager
def sql(
    connection: Connection, *, database: str | None = None, application: str = "mainstay", stop: Stop | None = None
) -> Iterator[psycopg.Connection]:
    """Give a connection for SQL in autocommit mode, closed at the end; a stop cancels what it runs.

    :raises Unauthorized: when the server does not accept the login, or a right is missing
    :raises Unreachable: when it does not answer
    :raises NotFound: when there is no such database
    """
    with speaking(connection):
        client = psycopg.connect(conninfo(connection, database=database, application=application), autocommit=True)
    if stop is not None:
        stop.on_stop(lambda: in_background(client.cancel))
    with client:
        try:
            with speaking(connection):
                yield client
        except MainstayError:
            if stop is not None:
                stop.check()
            raise


def in_background(work: Callable[[], None]) -> None:
    """Do what may wait for the network outside of the thread that asks to stop; failing is no loss, closing follows."""

    def quietly() -> None:
        with contextlib.suppress(psycopg.Error):
            work()

    threading.Thread(target=quietly, name="cancel", daemon=True).start()
