"""The tables of the history, and how a database is opened for them: PostgreSQL by a connection, or a SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.engine import Connection as Session
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Unauthorized, Unreachable

_PATIENCE = 5  # seconds: the sweep goes on without a history that does not answer
_LOCK = 0x6D61696E  # one advisory lock for everything that changes findings

metadata = MetaData()
_number = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up INTEGER keys only

series = Table(
    "mainstay_series",
    metadata,
    Column("id", _number, primary_key=True, autoincrement=True),
    Column("subject", String(200), nullable=False),
    Column("metric", String(200), nullable=False),
    Column("labels", Text, nullable=False),
    Column("unit", String(40), nullable=False),
    UniqueConstraint("subject", "metric", "labels"),
)
points = Table(
    "mainstay_points",
    metadata,
    Column("series", _number, ForeignKey(series.c.id), primary_key=True),
    Column("at", Float(53), primary_key=True),  # seconds since 1970
    Column("value", Float(53), nullable=False),
)
findings = Table(
    "mainstay_findings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("seen", Float(53), nullable=False),
    Column("document", Text, nullable=False),
)
changes = Table(
    "mainstay_changes",
    metadata,
    Column("id", _number, primary_key=True, autoincrement=True),
    Column("at", Float(53), nullable=False),
    Column("document", Text, nullable=False),
)
tellings = Table(
    "mainstay_tellings",
    metadata,
    Column("change", _number, ForeignKey(changes.c.id), primary_key=True),
    Column("receiver", String(100), primary_key=True),
    Column("claimed", Float(53), nullable=False),
    Column("told", Float(53)),
)
Index("mainstay_changes_at", changes.c.at)
sweeps = Table(
    "mainstay_sweeps",
    metadata,
    Column("id", _number, primary_key=True, autoincrement=True),
    Column("at", Float(53), nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("readings", Integer, nullable=False),
    Column("troubles", Integer, nullable=False),
    Column("verdict", String(20), nullable=False),
)
Index("mainstay_sweeps_at", sweeps.c.at)
thinned = Table(
    "mainstay_thinned",
    metadata,
    Column("step", Integer, primary_key=True),  # seconds
    Column("until", Float(53), nullable=False),  # what is older was thinned to this step
)


def postgres(connection: Connection) -> Engine:
    """Give the database that *connection* leads to.  Asks no server yet."""
    url = URL.create(
        "postgresql+psycopg",
        username=connection.login or None,
        password=connection.password or None,
        host=connection.host or None,
        port=connection.port,
        database=connection.schema or None,
    )
    options = f"-c statement_timeout={_PATIENCE * 1000} -c lock_timeout={_PATIENCE * 1000}"
    arguments = {"connect_timeout": _PATIENCE, "application_name": "mainstay history", "options": options}
    return create_engine(url, poolclass=NullPool, connect_args=arguments, hide_parameters=True)


def sqlite(path: Path | None) -> Engine:
    """Give the database in the file *path*, which only we may read; one in memory when there is no path."""
    if path is None:
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(
            URL.create("sqlite", database=str(path)), poolclass=NullPool, connect_args={"timeout": _PATIENCE}
        )

    @event.listens_for(engine, "connect")
    def _connected(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # its own transactions would begin too late for the lock
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _began(session: Session) -> None:
        session.exec_driver_sql("BEGIN IMMEDIATE")  # one writer at a time: two sweeps at once tell nobody twice

    return engine


def prepare(engine: Engine, path: Path | None, where: str) -> None:
    """Make the tables when they are not there.

    :raises Unreachable: the database does not answer, or is full
    """
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise Unreachable(f"{where} cannot be written: {error}", hint="see that its directory can be") from error
    with transaction(engine, where) as session:
        metadata.create_all(session)


@contextmanager
def transaction(engine: Engine, where: str) -> Iterator[Session]:
    """Give a transaction of which only one runs at a time; what it did counts when the block ends without an error.

    :raises Unreachable: the database does not answer, or is full
    :raises Unauthorized: it does not let us in
    """
    try:
        with engine.begin() as session:
            if session.dialect.name == "postgresql":
                session.exec_driver_sql(f"select pg_advisory_xact_lock({_LOCK})")
            yield session
    except SQLAlchemyError as error:
        raise _ours(error, where) from None  # its own text may quote the address with the login


def _ours(error: SQLAlchemyError, where: str) -> MainstayError:
    cause = str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0][:300]
    if "authentication" in cause or "permission denied" in cause:
        return Unauthorized(f"{where}: {cause}", hint="check the login of its connection, and its rights")
    return Unreachable(f"{where}: {cause}", hint="see that it runs and that its disk is not full")
