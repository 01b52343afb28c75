"""Order-independent digests of the rows in sampled token ranges: how a drill proves that the rows came back.

A snapshot cannot be asked for its rows, so the live tables are: once just before it and once just after, at ALL.  A range
that reads the same both times held exactly these rows when the snapshot was taken; it is *quiet*, and a restored table must
give the same digest.  A range that changed meanwhile proves nothing and is not kept.  Of a table whose files show that it stood
still meanwhile (:mod:`~include.engine.systems.cassandra.stillness`) the first reading says it all.  A row that expires (TTL) is
expected only until it does.  What is not comparable is counted and told, and a table without a quiet range is UNVERIFIED.

Nothing is taken over from an earlier backup: each looks at other ranges, as they can be read on its day.

The bound on the load: ``sample_ranges`` times ``sample_rows`` rows per table, read twice at most.  Where the inventory does not say
how many ranges, those of many tables are fewer (:func:`deal`): what is frozen at the same time waits for the reading.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import msgspec
from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.errors import MainstayError
from include.engine.model import Check, Verdict
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.ranges import LARGEST, SMALLEST, Sampler

_AT_ONCE = 8
_USUAL, _IN_ALL = 4, 24  # ranges of a table, and of all tables together when there are more

Place = tuple[str, str]  # keyspace, table


class RangeSample(Struct, frozen=True, kw_only=True):
    """The rows of one token range, ``after < token <= upto``."""

    keyspace: str
    table: str
    after: int
    upto: int
    rows: int
    digest: str
    expires: datetime | None = None  # when the first of the rows vanishes by itself


class TableSamples(Struct, frozen=True, kw_only=True):
    """What is known of one table when the snapshot was taken."""

    keyspace: str
    table: str
    ranges: tuple[RangeSample, ...] = ()
    restless: int = 0  # ranges that changed while the snapshot was taken
    whole: bool = False  # the ranges are all there is: the table is small
    unread: str = ""  # why it could not be sampled
    columns: tuple[
        str, ...
    ] = ()  # that a row's digest is of, in their order; as `SELECT *` gives them when there are none


class Effort(Struct, frozen=True, kw_only=True):
    """How much to sample, and where.

    :param ranges: of each table; None for what :func:`deal` gives it
    :param rows: at most so many a range; its end is where the next partition would exceed them
    :param seed: the backup's name: another backup looks elsewhere, a retry at the same rows
    """

    ranges: int | None
    rows: int
    seed: str
    clock: Clock


def deal(tables: Sequence[Place], effort: Effort) -> dict[Place, int]:
    """Give how many ranges of each table are read.  Pure.

    By default four, of many tables fewer, and of each table one: the dice say which ones get more.
    """
    if effort.ranges is not None:
        return dict.fromkeys(tables, effort.ranges)
    each, more = divmod(_IN_ALL, max(len(tables), 1))
    if each >= _USUAL:
        return dict.fromkeys(tables, _USUAL)
    if each == 0:
        return dict.fromkeys(tables, 1)
    lucky = random.Random(effort.seed).sample(sorted(tables), more)  # noqa: S311
    return {place: each + (place in lucky) for place in tables}


class _Stretch(Struct, frozen=True):
    """Where rows are to be read, and at most how many."""

    place: Place
    after: int
    limit: int
    upto: int = LARGEST


def choose_ranges(sampler: Sampler, tables: Sequence[Place], effort: Effort) -> list[TableSamples]:
    """Choose token ranges of each table and read them for the first time.  A table that cannot be read says why."""
    dealt = deal(tables, effort)
    starts = {place: _starts(*place, effort, dealt[place]) for place in tables}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sample") as pool:
        # One of each table first: a small table is covered whole by it, or by it and the rest, and needs no other.
        begun = [_Stretch(place, some[0], effort.rows) for place, some in starts.items() if some]
        first = list(pool.map(lambda stretch: _tried(sampler, stretch, effort), begun))
        ended = {
            (one.keyspace, one.table): one for one in first if isinstance(one, RangeSample) and one.upto == LARGEST
        }
        small = {place for place, one in ended.items() if one.after == SMALLEST}
        others = [
            _Stretch(place, after, effort.rows) for place in tables if place not in small for after in starts[place][1:]
        ]
        rests = [
            _Stretch(place, SMALLEST, effort.rows - one.rows, upto=one.after)
            for place, one in ended.items()
            if place not in small and one.rows < effort.rows
        ]
        more = list(pool.map(lambda stretch: _tried(sampler, stretch, effort), [*others, *rests]))
    for rest, one in zip(rests, more[len(others) :], strict=True):
        if isinstance(one, RangeSample) and one.upto == rest.upto:
            small.add(rest.place)
    ranges: dict[Place, list[RangeSample]] = {place: [] for place in tables}
    unread: dict[Place, str] = {}
    for one in [*first, *more]:
        if isinstance(one, RangeSample):
            ranges[one.keyspace, one.table].append(one)
        elif isinstance(one, TableSamples):
            unread.setdefault((one.keyspace, one.table), one.unread)
    return [
        TableSamples(keyspace=place[0], table=place[1], unread=unread[place])
        if place in unread
        else TableSamples(
            keyspace=place[0],
            table=place[1],
            ranges=tuple(found),
            whole=place in small,
            columns=sampler.columns(*place) if found else (),
        )
        for place, found in ranges.items()
    ]


def keep_quiet(
    sampler: Sampler, samples: Sequence[TableSamples], still: Collection[tuple[str, str]] = ()
) -> tuple[TableSamples, ...]:
    """Read all ranges again, after the snapshot, and keep those that read the same.

    :param still: tables that are known not to have changed since before the first reading: they are not read again
    """

    def one(before: RangeSample, columns: Sequence[str]) -> RangeSample | str | None:
        try:
            again = sampler.read(before.keyspace, before.table, before.after, before.upto, columns)
        except MainstayError as error:
            return error.message
        return before if again == (before.rows, before.digest) else None

    moving = [sample for sample in samples if (sample.keyspace, sample.table) not in still]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sample") as pool:
        todo = [(before, sample.columns) for sample in moving for before in sample.ranges]
        again = iter(list(pool.map(lambda place: one(*place), todo)))
    found = []
    for sample in samples:
        if (sample.keyspace, sample.table) in still:
            found.append(sample)
            continue
        answers = [next(again) for _ in sample.ranges]
        quiet = tuple(answer for answer in answers if isinstance(answer, RangeSample))
        unread = next((answer for answer in answers if isinstance(answer, str)), "")
        found.append(
            TableSamples(keyspace=sample.keyspace, table=sample.table, unread=unread)
            if unread
            else msgspec.structs.replace(sample, ranges=quiet, restless=len(sample.ranges) - len(quiet))
        )
    return tuple(found)


def compare(cql: Cql, samples: Sequence[TableSamples], *, clock: Clock, consistency: str = "QUORUM") -> list[Check]:
    """Read the sampled ranges of a restored cluster and judge each table.  *samples* name the keyspaces as they are now."""
    sampler = Sampler(cql, consistency=consistency)
    return [_compared(sampler, sample, clock) for sample in samples]


def _compared(sampler: Sampler, sample: TableSamples, clock: Clock) -> Check:
    name = f"rows of {sample.keyspace}.{sample.table}"
    if sample.unread:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=f"were not sampled at the backup: {sample.unread}")
    rows, lasting = 0, 0
    for one in sample.ranges:
        if _has_expired(one, clock):
            continue
        try:
            found = sampler.read(one.keyspace, one.table, one.after, one.upto, sample.columns)
        except MainstayError as error:
            return Check(name=name, verdict=Verdict.UNVERIFIED, detail=f"could not be read: {error.message}")
        if found != (one.rows, one.digest):
            if _has_expired(one, clock):  # while it was read
                continue
            differs = f"{found[0]} rows instead of {one.rows}" if found[0] != one.rows else "other values"
            return Check(
                name=name,
                verdict=Verdict.FAIL,
                detail=f"the tokens from {one.after} to {one.upto} hold {differs}",
            )
        rows += one.rows
        lasting += 1
    expired = len(sample.ranges) - lasting
    left_out = f"; {sample.restless} more changed while the snapshot was taken" if sample.restless else ""
    left_out += f"; {expired} more had rows that have expired since" if expired else ""
    if not (sample.ranges or sample.restless):
        left_out = ": the partitions that were looked at have more rows than sample_rows; raise it in the inventory"
    if not lasting:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=f"no sampled range is comparable{left_out}")
    scope = "all" if sample.whole and not (sample.restless or expired) else f"in {lasting} token ranges"
    return Check(name=name, verdict=Verdict.PASS, detail=f"{rows} rows, {scope}, equal the source's{left_out}")


def _has_expired(one: RangeSample, clock: Clock) -> bool:
    return one.expires is not None and one.expires <= clock()


def _starts(keyspace: str, table: str, effort: Effort, ranges: int) -> list[int]:
    """Where ranges begin: at the smallest token, then anywhere; a single one that nobody asked for anywhere at once."""
    dice = random.Random(f"{effort.seed} {keyspace} {table}")  # noqa: S311
    anywhere = (dice.randrange(SMALLEST + 1, LARGEST) for _ in range(ranges))
    return [next(anywhere)] if effort.ranges is None and ranges == 1 else [SMALLEST, *anywhere][:ranges]


def _tried(sampler: Sampler, stretch: _Stretch, effort: Effort) -> RangeSample | TableSamples | None:
    """Read the range from a start; nothing when one partition is larger than a sample may be."""
    (keyspace, table), start = stretch.place, stretch.after
    try:
        rows = sampler.begin(keyspace, table, start, upto=stretch.upto, limit=stretch.limit, clock=effort.clock)
    except MainstayError as error:
        return TableSamples(keyspace=keyspace, table=table, unread=error.message)
    if rows is None:
        return None
    return RangeSample(
        keyspace=keyspace,
        table=table,
        after=start,
        upto=rows.upto,
        rows=rows.count,
        digest=rows.digest,
        expires=rows.expires,
    )
