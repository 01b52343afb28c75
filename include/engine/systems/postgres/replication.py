"""Talks to PostgreSQL by its streaming replication protocol, through libpq.

Protocol: PostgreSQL docs, "Streaming Replication Protocol" and "Frontend/Backend Protocol", COPY operations.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import psycopg
from msgspec import Struct
from psycopg import pq

from include.engine.contracts import Connection, Stop
from include.engine.errors import Incomplete
from include.engine.systems.postgres.client import conninfo, diagnosed, in_background, place

Row = list[str]  # SQL's NULL is the empty string: no column of the replication protocol tells them apart usefully

_TICK_MS = 1000
_WARNINGS_KEPT = 20


class SystemIdentity(Struct, frozen=True, kw_only=True):
    """What IDENTIFY_SYSTEM answers."""

    system_identifier: str
    timeline: int
    position: str


class ReplicationSession:
    """One physical replication connection: a WAL sender on the server.

    It is read without blocking, in ticks, so that a stop ends it at once; it may be read from another thread than it was
    opened in, as obstore does, but by one at a time.

    :param stop: ends any wait; the server's side is cancelled too
    :ivar warnings: what the server warned of, the first few
    """

    def __init__(self, connection: Connection, *, application: str, stop: Stop) -> None:
        self._connection = connection
        self._stop = stop
        self.warnings: list[str] = []
        self._client = self._connected(application)
        self._client.notice_handler = self._warned
        # A duplicate, because libpq's own descriptor may be closed, and its number taken, when the stop comes.
        self._wire = socket.socket(fileno=socket.dup(self._client.socket))
        self._wire_lock = threading.Lock()
        stop.on_stop(self.abort)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; temporary slots go with it.  Safe to call twice."""
        with self._wire_lock:
            self._wire.close()
            self._client.finish()

    def abort(self) -> None:
        """Break the connection from another thread: whoever waits on it wakes, and the server's work is cancelled.

        The break alone would reach a server that is sending, but not one that waits for its checkpoint; the cancel
        request alone does not reach one that is blocked in sending.
        """
        with self._wire_lock:
            if self._wire.fileno() < 0:
                return
            in_background(_canceller(self._client))
            with contextlib.suppress(OSError):
                self._wire.shutdown(socket.SHUT_RDWR)

    @property
    def server_version(self) -> int:
        """The server's version as a number, 170010 for 17.10."""
        return self._client.server_version

    @property
    def backend_pid(self) -> int:
        """The process id of the WAL sender."""
        return self._client.backend_pid

    @property
    def server_version_text(self) -> str:
        """The server's version as it says it."""
        return (self._client.parameter_status(b"server_version") or b"").decode()

    def identify(self) -> SystemIdentity:
        """Ask which cluster this is, and how far its log goes."""
        row = self.command("IDENTIFY_SYSTEM")[0]
        return SystemIdentity(system_identifier=row[0], timeline=int(row[1]), position=row[2])

    def show(self, name: str) -> str:
        """Read a setting of the server."""
        return self.command(f"SHOW {name}")[0][0]

    def hold_wal(self, slot: str) -> None:
        """Make a temporary slot: the server keeps all WAL from now on until this session closes.

        :raises Contended: when no slot is free
        """
        self.command(f'CREATE_REPLICATION_SLOT "{slot}" TEMPORARY PHYSICAL (RESERVE_WAL)')

    def command(self, text: str) -> list[Row]:
        """Run a replication command and give its only rows."""
        self.send(text)
        rows = self.rows()
        self.drain()
        return rows

    def send(self, text: str) -> None:
        """Send a command without waiting for an answer."""
        with self._failing():
            self._client.send_query(text.encode())

    def rows(self) -> list[Row]:
        """Wait for the next result and give its rows.

        :raises Incomplete: when the server sends something else
        """
        result = self._expect(pq.ExecStatus.TUPLES_OK)
        return [
            [(result.get_value(row, column) or b"").decode() for column in range(result.nfields)]
            for row in range(result.ntuples)
        ]

    def begin_copy_out(self) -> None:
        """Wait until the server begins to send; then read with :meth:`receive`."""
        self._expect(pq.ExecStatus.COPY_OUT)

    def begin_copy_in(self) -> None:
        """Wait until the server is ready to be sent to; then use :meth:`transmit` and :meth:`end_copy_in`."""
        self._expect(pq.ExecStatus.COPY_IN)

    def transmit(self, chunk: bytes) -> None:
        """Send a piece of a COPY."""
        self._stop.check()
        with self._failing():
            self._client.put_copy_data(chunk)

    def end_copy_in(self) -> None:
        """Say that all was sent."""
        with self._failing():
            self._client.put_copy_end()

    def receive(self) -> memoryview | None:
        """Give the next message of a COPY, or nothing when it ended (what comes then says whether well).

        :raises Interrupted: when the stop came
        :raises Unreachable: when the connection broke
        """
        with self._failing():
            while True:
                size, message = self._client.get_copy_data(1)
                if size > 0:
                    return message
                if size < 0:
                    return None
                self._wait()

    def drain(self) -> None:
        """Read what is left of a command.  Its error, if any, comes from here."""
        while (result := self._result()) is not None:
            self._check(result)

    def _expect(self, status: pq.ExecStatus) -> pq.abc.PGresult:
        result = self._result()
        if result is not None:
            self._check(result)
            if result.status == status:
                return result
        found = "nothing" if result is None else pq.ExecStatus(result.status).name
        raise Incomplete(
            f"{place(self._connection)} answered with {found} where {status.name} was due",
            hint="is there a connection pooler in between? Replication needs the server itself",
        )

    def _result(self) -> pq.abc.PGresult | None:
        with self._failing():
            while self._client.is_busy():
                self._wait()
            return self._client.get_result()

    def _check(self, result: pq.abc.PGresult) -> None:
        if result.status != pq.ExecStatus.FATAL_ERROR:
            return
        self._stop.check()
        fields = pq.DiagnosticField
        state = (result.error_field(fields.SQLSTATE) or b"").decode() or None
        said = [result.error_field(field) for field in (fields.MESSAGE_PRIMARY, fields.MESSAGE_DETAIL)]
        raise diagnosed(self._connection, ": ".join(part.decode(errors="replace") for part in said if part), state)

    def _wait(self) -> None:
        # poll, not select: a worker may have more than 1,024 descriptors open.
        poller = select.poll()
        poller.register(self._client.socket, select.POLLIN)
        while not poller.poll(_TICK_MS):
            self._stop.check()
        self._client.consume_input()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Say that we were stopped rather than that the connection broke, when we broke it."""
        self._stop.check()
        try:
            yield
        except psycopg.Error as error:
            self._stop.check()
            raise diagnosed(self._connection, error) from error

    def _connected(self, application: str) -> pq.abc.PGconn:
        # Any database name would do for the protocol; pg_hba.conf matches the word "replication" instead.
        text = conninfo(self._connection, database="replication", application=application, replication=True)
        with self._failing():
            client = pq.PGconn.connect(text.encode())
        if client.status != pq.ConnStatus.OK:
            reason = client.get_error_message()
            client.finish()
            raise diagnosed(self._connection, reason)
        return client

    def _warned(self, result: pq.abc.PGresult) -> None:
        if result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) != b"WARNING":
            return  # such as the advice to archive WAL, which the backup carries itself
        text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        if len(self.warnings) < _WARNINGS_KEPT:
            self.warnings.append(text)


def _canceller(client: pq.abc.PGconn) -> Callable[[], None]:
    try:
        return client.cancel_conn().blocking  # libpq 17+: over TLS like the connection itself
    except psycopg.NotSupportedError:
        return client.get_cancel().cancel
