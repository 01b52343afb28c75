"""The operation of Cassandra's load: one row written or read, by the driver's event loop.  In the generator's processes."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import Any

from include.engine.contracts import Connection
from include.engine.loading.contracts import Done
from include.engine.loading.payloads import payloads
from include.engine.systems.cassandra.client import Cql, quoted

TABLE = "rows"
_WOKEN_BY = 4  # a fourth of what is in flight
_PRIME = 1_000_003  # spreads neighbouring operations over the keys, and over reads and writes


class Row:
    """Writes and reads one table.

    :param parameters: ``connection``, ``keyspace``, ``consistency``, ``payload``, ``payload_bytes``, ``rows``, ``writes``,
        ``reads``, ``timeout``
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        from cassandra import ConsistencyLevel

        self._cql = Cql(Connection(**parameters["connection"]), timeout=parameters["timeout"])
        table = f"{quoted(parameters['keyspace'])}.{TABLE}"
        self._session = self._cql.session
        self._write = self._cql.prepared(f"INSERT INTO {table} (id, at, value) VALUES (?, ?, ?)")  # noqa: S608
        self._read = self._cql.prepared(f"SELECT value FROM {table} WHERE id = ?")  # noqa: S608
        level = ConsistencyLevel.name_to_value[parameters["consistency"]]
        self._write.consistency_level = self._read.consistency_level = level
        self._values = payloads(parameters["payload_bytes"], shape=parameters["payload"])
        self._rows: int = parameters["rows"]
        self._writes: int = parameters["writes"]
        self._weights: int = parameters["writes"] + parameters["reads"]
        self._awake = threading.Event()
        self._sent = 0
        self._ends = itertools.count(1)
        self._ended_last = 0
        self._wake_at = 1

    def submit(self, index: int, done: Done) -> None:
        """Send one."""
        spread = index * _PRIME
        key = spread % self._rows
        if spread % self._weights < self._writes:
            future = self._session.execute_async(self._write, (key, index, self._values[index % len(self._values)]))
            kind = "write"
        else:
            future = self._session.execute_async(self._read, (key,))
            kind = "read"
        self._sent += 1
        future.add_callbacks(partial(self._ended, done, kind), partial(self._failed, done, kind))

    def poll(self, seconds: float) -> None:
        """Let the event loop's thread work, until a good part of what is in flight is answered.

        To wake for each answer would hand the interpreter's lock over and back for each operation.
        """
        self._wake_at = self._ended_last + max(1, (self._sent - self._ended_last) // _WOKEN_BY)
        self._awake.clear()
        self._awake.wait(seconds)

    def close(self) -> None:
        """End the session."""
        self._cql.close()

    def _ended(self, done: Done, kind: str, _rows: Any) -> None:
        done(None, kind)
        self._note_end()

    def _failed(self, done: Done, kind: str, error: BaseException) -> None:
        done(type(error).__name__, kind)
        self._note_end()

    def _note_end(self) -> None:
        self._ended_last = next(self._ends)  # answers come from one thread, and failures from others
        if self._ended_last >= self._wake_at and not self._awake.is_set():
            self._awake.set()


def open_operation(parameters: dict[str, Any]) -> Row:
    """Give one, connected."""
    return Row(parameters)
