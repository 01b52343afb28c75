"""Counts the rows of a table around a replay: it adds what its records lack, and not a row more.

Of a row that is there twice, under two keys, no look at the records' own keys would ever tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.model import Check, Verdict
from include.engine.systems.spark.reconcile import consuming, read
from include.engine.systems.spark.records import Key, key_columns, key_of
from include.engine.systems.spark.settings import Flow
from include.engine.systems.spark.tables import Tables

_MOST = 1_000_000  # records of a replay whose keys are kept in memory


class Counted(Struct, frozen=True, kw_only=True):
    """A table before a replay.

    :param rows: None when the replay is too long to be followed
    :param replay: records that are replayed
    :param absent: keys of these whose rows are not there yet
    :param lifetime: of a row, in seconds; 0 for ever
    """

    rows: int | None
    replay: int
    absent: Sequence[Key] = ()
    lifetime: int = 0


def lifetimes(flows: Mapping[str, Flow], age: float, *, tables: Connection) -> list[Check]:
    """Say where rows live shorter than a set is old: they have come back, and are at their end.

    Of tables whose rows live for ever nothing is said.

    :param age: of the set, in seconds
    :raises Unreachable: when the tables do not say
    """
    with Tables(tables) as session:
        lives = {name: session.lifetime(flow.table) for name, flow in flows.items()}
    return [
        Check(
            name=f"rows of {name} live longer than the set is old",
            verdict=Verdict.PASS if lifetime > age else Verdict.UNVERIFIED,
            detail=f"rows of {flows[name].table} live {lifetime} s, and the set is {age:.0f} s old",
        )
        for name, lifetime in lives.items()
        if lifetime
    ]


def before(
    flow: Flow, begins: Mapping[int, int], ends: Mapping[int, int], *, log: Connection, tables: Connection
) -> Counted:
    """Count the table of *flow* before its records in ``[begins, ends)`` are replayed.

    :param begins: by partition; partitions without one are replayed whole
    :raises Unreachable: when the log or the table could not be read
    """
    spans = {partition: (begins.get(partition, 0), end) for partition, end in ends.items()}
    length = sum(max(0, end - begin) for begin, end in spans.values())
    if length > _MOST:
        return Counted(rows=None, replay=length)
    with Tables(tables) as session:
        with consuming(log) as consumer:
            found = {key_of(flow.shape, record.value) for record in read(consumer, flow.topic, spans)}
        keys = sorted((key for key in found if key is not None), key=str)
        rows = session.rows(flow.table, key_columns(flow.shape), keys) if keys else []
        absent = [key for key, row in zip(keys, rows, strict=True) if row is None]
        lifetime = session.lifetime(flow.table)
        return Counted(rows=session.count(flow.table), replay=length, absent=absent, lifetime=lifetime)


def after(name: str, flow: Flow, known: Counted, sent: Key, *, tables: Connection) -> Check:
    """Count the table again, and judge whether the replay has added just the rows of its records.

    :param sent: key of one more record that was sent since
    :raises Unreachable: when the table could not be read
    """
    told = f"rows of {name} that no record explains"
    if known.rows is None:
        why = f"{flow.table} was not counted: {known.replay} records are replayed, and {_MOST} are followed at most"
        return Check(name=told, verdict=Verdict.UNVERIFIED, detail=why)
    with Tables(tables) as session:
        keys = [*known.absent, sent]
        new = sum(row is not None for row in session.rows(flow.table, key_columns(flow.shape), keys))
        return judged(told, flow.table, known, new, session.count(flow.table))


def judged(name: str, table: str, known: Counted, new: int, now: int) -> Check:
    """Judge two counts of a table.  Pure.

    :param known: before the replay, counted
    :param new: of the replayed records, those whose rows were not there before and are now
    :param now: rows after it
    """
    rows = known.rows or 0
    seen = f"{table} had {rows} rows, the replay's records added {new}, and it has {now}"
    if now > rows + new:
        detail = f"{seen}: {now - rows - new} are of no record, as if a replay wrote others"
        return Check(name=name, verdict=Verdict.FAIL, detail=detail)
    if now < rows + new and not known.lifetime:  # else some have come to their end meanwhile
        return Check(name=name, verdict=Verdict.FAIL, detail=f"{seen}: {rows + new - now} are gone")
    return Check(name=name, verdict=Verdict.PASS, detail=seen)
