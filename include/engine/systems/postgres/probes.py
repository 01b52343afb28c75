"""Reads a PostgreSQL: connections, transactions, replication, slots, archiver, databases, checkpoints.

All probes of a target share one connection: a server with few slots left must not be finished off by whoever watches it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from msgspec import structs
from psycopg.rows import dict_row

from include.engine.contracts import Clock, Connection, Connections
from include.engine.errors import MainstayError, Unreachable
from include.engine.model import Reading, Target
from include.engine.probing import Probe, Recall
from include.engine.systems.postgres import questions, replays
from include.engine.systems.postgres.client import conninfo, diagnosed, place, sql
from include.engine.systems.postgres.settings import PostgresSettings

_FEW_ROWS = 10_000  # below, a share of dead rows says nothing

Row = dict[str, Any]
Take = Callable[["Asking", "Pen"], None]


class Pen:
    """Writes the readings of one probe."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.at: datetime = clock()
        self.readings: list[Reading] = []

    def write(self, metric: str, value: float | None, unit: str, **labels: str) -> None:
        """Note one number, unless the server does not know it: None is no reading."""
        if value is not None:
            made = Reading(metric=f"postgres.{metric}", value=float(value), unit=unit, at=self.at, labels=labels)
            self.readings.append(made)


class Session:
    """The one connection of a sweep to a target; opened by the first probe, closed by the last, for one probe at a time.

    Whoever reads again, as a load test's guards do every second, has it opened again.  A login that failed is not tried again: the
    other probes fail at once, with the same error.
    """

    def __init__(self, connection: Connection, database: str | None, users: int) -> None:
        self._connection, self._database = connection, database
        self._users = self._left = users
        self._lock = threading.Lock()
        self._client: psycopg.Connection | None = None
        self._failed: MainstayError | None = None

    @contextmanager
    def turn(self, timeout: float) -> Iterator[None]:
        """Wait for this probe's turn.

        :raises Unreachable: when the probe before it does not end
        """
        if not self._lock.acquire(timeout=timeout):
            raise Unreachable(
                f"{place(self._connection)} did not answer another probe within {timeout:g} s",
                hint="see whether it hangs: pg_stat_activity, its log, its disk",
            )
        try:
            yield
        finally:
            self._left -= 1
            if self._left == 0:
                if self._client is not None:
                    self._client.close()
                self._client, self._left = None, self._users
            self._lock.release()

    def rows(self, query: LiteralString, timeout: float) -> list[Row]:
        """Ask in the target's own database."""
        if self._failed is not None:
            raise self._failed
        try:
            if self._client is None:
                self._client = self._open(timeout)
            with self._client.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(query).fetchall()
        except psycopg.Error as error:
            failed = diagnosed(self._connection, error)
            if self._client is None or self._client.closed:
                self._failed = failed
            raise failed from error

    def elsewhere(self, database: str, query: LiteralString, timeout: float) -> list[Row]:
        """Ask in another database, by a connection of its own that is closed at once."""
        known = impatient(self._connection, timeout)
        with (
            sql(known, database=database, application="mainstay probes") as client,
            client.cursor(row_factory=dict_row) as cursor,
        ):
            return cursor.execute(query).fetchall()

    def _open(self, timeout: float) -> psycopg.Connection:
        text = conninfo(impatient(self._connection, timeout), database=self._database, application="mainstay probes")
        return psycopg.connect(text, autocommit=True)


class Asking:
    """The session while it is one probe's turn."""

    def __init__(self, session: Session, timeout: float, past: Sequence[Reading] = ()) -> None:
        self._session, self._timeout = session, timeout
        self.past = past  # what earlier sweeps have read

    def rows(self, query: LiteralString) -> list[Row]:
        """Ask in the target's own database."""
        return self._session.rows(query, self._timeout)

    def row(self, query: LiteralString) -> Row:
        """Ask for the one row that there always is."""
        return self.rows(query)[0]

    def elsewhere(self, database: str, query: LiteralString) -> Row:
        """Ask for the one row in another database."""
        return self._session.elsewhere(database, query, self._timeout)[0]


class PostgresProbe:
    """One of the probes (see ``probing.Probe``)."""

    def __init__(self, name: str, source: str, metrics: Sequence[str], take: Take, session: Session) -> None:
        self.name, self.source = name, source
        self.metrics: Sequence[str] = tuple(f"postgres.{metric}" for metric in metrics)
        self.sometimes: Sequence[str] = tuple(f"postgres.{metric}" for metric in _SOMETIMES.get(name, ()))
        self.recall: Recall | None = None  # of the metrics in _RECALLED
        self._take, self._session = take, session

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``)."""
        past = self._past(clock())  # while the others ask: the history may be away
        with self._session.turn(timeout):
            pen = Pen(clock)
            self._take(Asking(self._session, timeout, past), pen)
            return pen.readings

    def _past(self, now: datetime) -> Sequence[Reading]:
        metrics = _RECALLED.get(self.name)
        if self.recall is None or not metrics:
            return ()
        try:
            return self.recall(metrics, now - replays.REMEMBERED)
        except MainstayError:
            return ()  # the sweep says so itself


def open_probes(
    target: Target,  # noqa: ARG001 - whose settings these are
    settings: PostgresSettings,
    connections: Connections,
) -> Sequence[Probe]:
    """Give all probes of *target* (see ``probing.Probe``)."""
    session = Session(connections.get(settings.connection), settings.database, users=len(_PROBES))
    return [PostgresProbe(name, source, metrics, take, session) for name, source, metrics, take in _PROBES]


def _server(ask: Asking, pen: Pen) -> None:
    ask.rows(questions.NOTHING)  # logs in, so that the next answer comes at once
    before = pen.clock()
    row = ask.row(questions.SERVER)
    ours = before + (pen.clock() - before) / 2
    pen.write("up", 1, "1")
    pen.write("primary", not row["standby"], "1")
    pen.write("uptime", row["uptime"], "s")
    pen.write("clock.offset", abs(row["now"] - ours.timestamp()), "s")
    pen.write("settings.pending_restart", row["pending_restart"], "settings")


def _connections(ask: Asking, pen: Pen) -> None:
    row = ask.row(questions.CONNECTIONS)
    pen.write("connections.used", 100 * row["used"] / max(row["most"] - row["reserved"], 1), "%")
    for state in ("active", "idle", "idle_in_transaction"):
        pen.write(f"connections.{state}", row[state], "sessions")
    pen.write("connections.reserved", row["reserved"], "sessions")
    pen.write("locks.waiting", row["waiting"], "sessions")
    pen.write("transactions.longest", row["longest"], "s")
    pen.write("transactions.idle_longest", row["idle_longest"], "s")


def _replication(ask: Asking, pen: Pen) -> None:
    standbys = ask.rows(questions.STANDBYS)
    streaming = [row for row in standbys if row["state"] == "streaming"]
    pen.write("replication.standbys", len(streaming), "standbys")
    pen.write("replication.synchronous", sum(row["sync_state"] in ("sync", "quorum") for row in streaming), "standbys")
    for row in standbys:
        pen.write("replication.lag_bytes", row["bytes"], "bytes", standby=row["name"])
        # The server forgets the delay when there is nothing to replay: then there is none.
        seconds = 0.0 if row["seconds"] is None and row["bytes"] == 0 else row["seconds"]
        if row["replayed"] is not None:
            pen.write("replication.replayed", row["replayed"], "bytes", standby=row["name"])
            stood = replays.stood(ask.past, row["name"], row["replayed"], pen.at) if row["bytes"] else 0.0
            seconds = max(seconds or 0.0, stood) if stood else seconds
        pen.write("replication.lag", seconds, "s", standby=row["name"])
    if ask.row(questions.SERVER)["standby"]:
        pen.write("replication.lag", ask.row(questions.BEHIND)["seconds"], "s", standby="itself")


def _slots(ask: Asking, pen: Pen) -> None:
    slots = ask.rows(questions.SLOTS)
    pen.write("slots.inactive", sum(not row["active"] for row in slots), "slots")
    pen.write("slots.losing", sum(row["losing"] for row in slots), "slots")
    for row in slots:
        pen.write("slots.retained", row["bytes"], "bytes", slot=row["name"])


def _archiver(ask: Asking, pen: Pen) -> None:
    row = ask.row(questions.ARCHIVER)
    pen.write("archive.failing", row["archiving"] and row["failing"], "1")
    pen.write("archive.failures", row["failed_count"], "failures")
    if row["archiving"]:
        pen.write("archive.age", row["age"], "s")


def _databases(ask: Asking, pen: Pen) -> None:
    databases = ask.rows(questions.DATABASES)
    for row in databases:
        pen.write("database.size", row["bytes"], "bytes", database=row["name"])
    worst = max(databases, key=lambda row: row["wraparound"])
    pen.write("wraparound.used", worst["wraparound"], "%")


def _bloat(ask: Asking, pen: Pen) -> None:
    """An estimate: rows that are dead and not yet removed, as the statistics collector counts them."""
    for row in ask.rows(questions.DATABASES)[:_MOST_DATABASES]:
        if row["name"].startswith("template"):
            continue
        rows = ask.elsewhere(row["name"], questions.DEAD_ROWS)
        share = 100 * rows["dead"] / rows["rows"] if rows["rows"] >= _FEW_ROWS else 0.0
        pen.write("bloat.dead", share, "%", database=row["name"])


def _checkpoints(ask: Asking, pen: Pen) -> None:
    if ask.row(questions.SERVER)["standby"]:
        return
    row = ask.row(questions.CHECKPOINTS)
    pen.write("checkpoints.forced", row["forced"], "%")
    pen.write("checkpoints.age", row["age"], "s")


# What there is nothing of: no standby, no slot, no archive; a standby makes restart points, which nothing forces.
_SOMETIMES = {
    "replication": ("replication.lag", "replication.lag_bytes", "replication.replayed"),
    "slots": ("slots.retained",),
    "archiver": ("archive.age",),
    "checkpoints": ("checkpoints.forced", "checkpoints.age"),
}
_RECALLED = {"replication": (replays.REPLAYED, replays.BEHIND)}
_MOST_DATABASES = 8  # the largest; each takes a connection of its own, one after the other
_SESSIONS = ("used", "active", "idle", "idle_in_transaction", "reserved")
_PROBES: tuple[tuple[str, str, Sequence[str], Take], ...] = (
    (
        "server",
        "PostgreSQL's own state",
        ("up", "primary", "uptime", "clock.offset", "settings.pending_restart"),
        _server,
    ),
    (
        "sessions",
        "sessions and transactions, from pg_stat_activity",
        (
            *(f"connections.{one}" for one in _SESSIONS),
            "locks.waiting",
            "transactions.longest",
            "transactions.idle_longest",
        ),
        _connections,
    ),
    (
        "replication",
        "standbys, from pg_stat_replication",
        ("replication.standbys", "replication.synchronous"),
        _replication,
    ),
    ("slots", "replication slots, from pg_replication_slots", ("slots.inactive", "slots.losing"), _slots),
    ("archiver", "the archiver, from pg_stat_archiver", ("archive.failing", "archive.failures"), _archiver),
    ("databases", "databases, from pg_database", ("database.size", "wraparound.used"), _databases),
    ("bloat", "dead rows, from pg_stat_user_tables of each database", ("bloat.dead",), _bloat),
    ("checkpoints", "checkpoints, from pg_control_checkpoint", (), _checkpoints),
)


def impatient(connection: Connection, timeout: float) -> Connection:
    """The same, with a login and statements that end in time.  libpq waits two seconds at least."""
    options = f"{connection.extra.get('options', '')} -c statement_timeout={round(timeout * 1000)}".strip()
    patience = {"connect_timeout": str(max(2, round(timeout))), "tcp_user_timeout": str(round(timeout * 1000))}
    return structs.replace(connection, extra={**connection.extra, **patience, "options": options})
