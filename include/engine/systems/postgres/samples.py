"""Takes digests of rows at an instant that a restore can stop at exactly.

A digest proves something only when it is compared with the same rows, so it must belong to a position in the log.  On a live
server a snapshot and a position are not the same thing: a transaction writes its commit record first and leaves the list of
running ones (ProcArray) after that, so in between a replay up to the position would show its rows and the snapshot does not.
There is an instant at which they do agree.  In this order:

1. read the insert position L;
2. see that no transaction holds an id (``pg_locks``: every transaction locks its own id, and lets it go only after it has left
   the ProcArray);
3. begin a REPEATABLE READ transaction in each database, which takes the snapshots;
4. read the insert position again: it is still L.

Whatever was committed by a record before L had left the ProcArray at 2, so every snapshot shows it.  Whatever a snapshot shows
was committed by a record before 4, hence before L.  So the snapshots show exactly what replaying all records that begin before
L gives, and that is what ``recovery_target_lsn = L`` with ``recovery_target_inclusive = off`` does: it stops before the first
record that begins at L or after it.  A restore point is written at once, so that such a record exists.

(``xmin = xmax`` in the snapshot is not enough: a transaction with the newest id of all is at ``xmax`` while it runs, and not
listed.)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import psycopg

from include.engine.contracts import Stop
from include.engine.errors import Interrupted, MainstayError
from include.engine.systems.postgres.digests import (
    DatabaseSample,
    Gap,
    Instant,
    Sample,
    Table,
    TableSample,
    block_ranges,
    digest,
    settle,
    tables,
)
from include.engine.systems.postgres.settings import SampleSettings

Client = psycopg.Connection[Any]
Open = Callable[[str], AbstractContextManager[Client]]  # a database's name → a connection in autocommit mode
Clients = dict[str, Client]

_PAUSE_SECONDS = 0.005
_BLOCK = 8192
_RUNNING = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND granted AND mode = 'ExclusiveLock'"
_POSITION = "SELECT pg_current_wal_insert_lsn()::text"
_SNAPSHOT = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text"


def take_samples(
    open_client: Open, databases: Sequence[str], *, restore_point: str, settings: SampleSettings, stop: Stop
) -> list[Sample]:
    """Digest the largest tables of *databases*, all at one instant.

    What cannot be had becomes a :class:`Gap` with the reason, so that the check after a restore is UNVERIFIED, never green; it is
    never an error, because the backup itself is good.

    :param open_client: connects to a database; the first one named must allow ``pg_create_restore_point``
    :param databases: names, the largest first; those beyond the settings' limit are left out
    :param restore_point: name of the record to write right behind the instant
    :raises Interrupted: when the stop came
    """
    if not settings.enabled:
        return [Gap(reason="samples are switched off in the inventory")]
    if not databases:
        return [Gap(reason="the role may connect to no database")]
    try:
        with contextlib.ExitStack() as stack:
            clients = {name: stack.enter_context(open_client(name)) for name in databases[: settings.databases]}
            return _taken(clients, restore_point, settings, stop)
    except Interrupted:
        raise
    except MainstayError as error:
        stop.check()
        return [Gap(reason=str(error))]
    except psycopg.Error as error:
        stop.check()
        return [Gap(reason=_brief(error))]


def to_documents(samples: Sequence[Sample]) -> tuple[dict[str, Any], ...]:
    """Write samples as a manifest keeps them."""
    return tuple(msgspec.to_builtins(sample) for sample in samples)


def from_documents(documents: Sequence[dict[str, Any]]) -> list[Sample]:
    """Read samples from a manifest.

    :raises msgspec.ValidationError: when they are not samples
    """
    return msgspec.convert(list(documents), list[Sample])


def _taken(clients: Clients, restore_point: str, settings: SampleSettings, stop: Stop) -> list[Sample]:
    control = next(iter(clients.values()))
    for client in clients.values():
        settle(client)
    found = quiet_instant(clients, seconds=settings.quiet_seconds, stop=stop)
    if found is None:
        return [
            Gap(
                reason=f"in {settings.quiet_seconds:g} seconds there was no instant at which no transaction was writing"
            )
        ]
    lsn, snapshot = found
    # Inside the control's transaction: no matter, the record is written at once and belongs to no transaction.
    control.execute("SELECT pg_create_restore_point(%s)", (restore_point,))
    row = control.execute("SELECT ('x' || left(pg_walfile_name(%s), 8))::bit(32)::int", (lsn,)).fetchone()
    instant = Instant(lsn=lsn, timeline=row[0] if row else 0, snapshot=snapshot, restore_point=restore_point)
    deadline = time.monotonic() + settings.seconds
    samples: list[Sample] = [instant]
    for name, client in clients.items():
        samples += _of_database(name, client, settings, deadline, stop)
        client.rollback()
    return samples


def quiet_instant(clients: Clients, *, seconds: float, stop: Stop) -> tuple[str, str] | None:
    """Leave every client in a transaction that sees the same instant; give its position and snapshot, or nothing in time.

    :param clients: in autocommit mode; the first one also looks at the whole server
    :raises Interrupted: when the stop came
    """
    control = next(iter(clients.values()))
    deadline = time.monotonic() + seconds
    while True:
        stop.check()
        if (found := _instant(control, clients)) is not None:
            return found
        for client in clients.values():
            if client.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                client.rollback()
        if time.monotonic() >= deadline:
            return None
        time.sleep(_PAUSE_SECONDS)


def _instant(control: Client, clients: Clients) -> tuple[str, str] | None:
    before = _value(control, _POSITION)
    if _value(control, _RUNNING) != 0:
        return None
    snapshots = set()
    for client in clients.values():
        client.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # One statement: the snapshot is taken before its functions run.
        row = client.execute(_SNAPSHOT).fetchone()
        if row is None or row[1] != before:
            return None
        snapshots.add(row[0])
    return (str(before), str(snapshots.pop())) if len(snapshots) == 1 else None


def _of_database(name: str, client: Client, settings: SampleSettings, deadline: float, stop: Stop) -> Iterator[Sample]:
    found = tables(client)
    skipped: dict[str, str] = {}
    for table in found[: settings.tables]:
        stop.check()
        label = f"{table.schema}.{table.name}"
        if time.monotonic() >= deadline:
            skipped[label] = f"the {settings.seconds:g} seconds for samples were over"
            continue
        try:
            with client.transaction():  # a savepoint: an unreadable table must not cost the snapshot
                client.execute(
                    f"SET LOCAL statement_timeout = {max(int((deadline - time.monotonic()) * 1000), 1)}".encode()
                )
                sample = _of_table(name, client, table, settings)
            yield sample
        except _Rewritten:
            skipped[label] = "it was rewritten or emptied at that moment"
        except psycopg.Error as error:
            stop.check()
            skipped[label] = _brief(error)
    yield DatabaseSample(database=name, tables=len(found), skipped=skipped)


class _Rewritten(Exception):
    """TRUNCATE and rewriting ALTER TABLE do not respect snapshots: what was read is not what the instant had."""


def _of_table(database: str, client: Client, table: Table, settings: SampleSettings) -> TableSample:
    whole = table.blocks * _BLOCK <= settings.whole_table_bytes
    ranges = () if whole else block_ranges(table.blocks, settings.ranges, settings.range_blocks)
    rows, total = digest(client, table.schema, table.name, ranges)
    # pg_class is read through the snapshot, the function looks at the present; from here on our lock keeps them equal.
    same = client.execute(
        "SELECT relfilenode = pg_relation_filenode(oid::regclass) FROM pg_class WHERE oid = %s", (table.oid,)
    ).fetchone()
    if same is None or not same[0]:
        raise _Rewritten
    return TableSample(database=database, schema=table.schema, table=table.name, rows=rows, digest=total, ranges=ranges)


def _value(client: Client, statement: str) -> object:
    row = client.execute(statement.encode()).fetchone()
    return row[0] if row else None


def _brief(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip().split("\n", 1)[0][:300]
