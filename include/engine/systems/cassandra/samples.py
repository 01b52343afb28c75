"""Order-independent digests of the rows in sampled token ranges: how a drill proves that the rows came back.

A snapshot cannot be asked for its rows, so the live tables are: once just before it and once just after, at ALL.  A range
that reads the same both times held exactly these rows when the snapshot was taken; it is *quiet*, and a restored table must
give the same digest.  A range that changed meanwhile proves nothing and is not kept.  A row that expires (TTL) is expected
only until it does.  What is not comparable is counted and told, and a table without a quiet range is UNVERIFIED.

The bound on the load: ``sample_ranges`` times ``sample_rows`` rows per table, read three times.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.errors import MainstayError
from include.engine.model import Check, Verdict
from include.engine.systems.cassandra.client import Cql, quoted

_MIN, _MAX = -(1 << 63), (1 << 63) - 1
_AT_ONCE = 8
_TIMEOUT = 20.0
# The types whose values are written as one cell, and so have one TTL.
_SINGLE = frozenset(
    {
        "ascii",
        "bigint",
        "blob",
        "boolean",
        "date",
        "decimal",
        "double",
        "duration",
        "float",
        "inet",
        "int",
        "smallint",
        "text",
        "time",
        "timestamp",
        "timeuuid",
        "tinyint",
        "uuid",
        "varint",
    }
)


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


class Effort(Struct, frozen=True, kw_only=True):
    """How much to sample, and where.

    :param rows: at most so many a range; its end is where the next partition would exceed them
    :param seed: the backup's name: another backup looks elsewhere, a retry at the same rows
    """

    ranges: int
    rows: int
    seed: str
    clock: Clock


class Sampler:
    """Reads token ranges of one cluster.  Columns are asked for once a table: use a new one when the schema may have changed."""

    def __init__(self, cql: Cql, *, consistency: str, timeout: float = _TIMEOUT) -> None:
        self._cql = cql
        self._consistency = consistency
        self._timeout = timeout
        self._columns: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def learn(self, keyspaces: Sequence[str]) -> None:
        """Ask for the columns of all tables of *keyspaces* at once, rather than for those of each when it is read."""
        for keyspace in keyspaces:
            rows = self._cql.rows(
                "SELECT table_name, column_name, kind, position, type FROM system_schema.columns WHERE keyspace_name = %s",
                (keyspace,),
            )
            for row in rows:
                self._columns.setdefault((keyspace, row["table_name"]), []).append(row)

    def key(self, keyspace: str, table: str) -> str:
        """Give the CQL of a row's token."""
        columns = self._columns_of(keyspace, table)
        parts = sorted((row["position"], row["column_name"]) for row in columns if row["kind"] == "partition_key")
        return f"token({', '.join(quoted(name) for _, name in parts)})"

    def expiring(self, keyspace: str, table: str) -> list[str] | None:
        """Name the columns that can be asked when they expire; None when there are none, but every row does by default."""
        # TTL() knows no counters.  Of a collection and of a type of the user's that is not frozen it gives one number for each
        # of its parts since 5.0, and is refused before; those expire with their row in most schemas.
        simple = [
            row["column_name"]
            for row in self._columns_of(keyspace, table)
            if row["kind"] == "regular"
            and (row["type"] in _SINGLE or str(row["type"]).startswith(("frozen<", "vector<")))
        ]
        return None if not simple and self._expires_by_default(keyspace, table) else simple

    def ask(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        """Run a statement at the sampler's consistency."""
        return self._cql.rows(statement, parameters, consistency=self._consistency, timeout=self._timeout)

    def read(self, keyspace: str, table: str, after: int, upto: int) -> tuple[int, str]:
        """Give the number of rows of a range and the sum of their digests."""
        token = self.key(keyspace, table)
        statement = f"SELECT JSON * FROM {quoted(keyspace)}.{quoted(table)} WHERE {token} > %s AND {token} <= %s"  # noqa: S608
        rows = [
            row["[json]"] if "[json]" in row else next(iter(row.values())) for row in self.ask(statement, (after, upto))
        ]
        return len(rows), digest(rows)

    def _columns_of(self, keyspace: str, table: str) -> list[dict[str, Any]]:
        if (keyspace, table) not in self._columns:
            self._columns[keyspace, table] = self._cql.rows(
                "SELECT column_name, kind, position, type FROM system_schema.columns"
                " WHERE keyspace_name = %s AND table_name = %s",
                (keyspace, table),
            )
        return self._columns[keyspace, table]

    def _expires_by_default(self, keyspace: str, table: str) -> bool:
        rows = self.ask(
            "SELECT default_time_to_live FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s",
            (keyspace, table),
        )
        return any(row["default_time_to_live"] for row in rows)


def digest(rows: Sequence[str]) -> str:
    """Give a digest of rows that does not depend on their order: the sum of their SHA-256, modulo 2^256."""
    total = sum(int.from_bytes(hashlib.sha256(row.encode()).digest(), "big") for row in rows)
    return f"{total % (1 << 256):064x}"


def choose_ranges(sampler: Sampler, tables: Sequence[tuple[str, str]], effort: Effort) -> list[TableSamples]:
    """Choose token ranges of each table and read them for the first time.  A table that cannot be read says why."""
    places = [(keyspace, table, start) for keyspace, table in tables for start in _starts(keyspace, table, effort)]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sample") as pool:
        # From the smallest token first: a small table is covered whole by it, and needs no second range.
        first = list(pool.map(lambda place: _tried(sampler, place, effort), [p for p in places if p[2] == _MIN]))
        small = {(one.keyspace, one.table) for one in first if isinstance(one, RangeSample) and one.upto == _MAX}
        more = [place for place in places if place[2] != _MIN and place[:2] not in small]
        read = first + list(pool.map(lambda place: _tried(sampler, place, effort), more))
    ranges: dict[tuple[str, str], list[RangeSample]] = {place: [] for place in tables}
    unread: dict[tuple[str, str], str] = {}
    for one in read:
        if isinstance(one, RangeSample):
            ranges[one.keyspace, one.table].append(one)
        elif isinstance(one, TableSamples):
            unread.setdefault((one.keyspace, one.table), one.unread)
    return [
        TableSamples(keyspace=place[0], table=place[1], unread=unread[place])
        if place in unread
        else TableSamples(keyspace=place[0], table=place[1], ranges=tuple(found), whole=place in small)
        for place, found in ranges.items()
    ]


def keep_quiet(sampler: Sampler, samples: Sequence[TableSamples]) -> tuple[TableSamples, ...]:
    """Read all ranges again, after the snapshot, and keep those that read the same."""

    def one(before: RangeSample) -> RangeSample | str | None:
        try:
            again = sampler.read(before.keyspace, before.table, before.after, before.upto)
        except MainstayError as error:
            return error.message
        return before if again == (before.rows, before.digest) else None

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sample") as pool:
        again = iter(list(pool.map(one, [before for sample in samples for before in sample.ranges])))
    found = []
    for sample in samples:
        answers = [next(again) for _ in sample.ranges]
        quiet = tuple(answer for answer in answers if isinstance(answer, RangeSample))
        unread = next((answer for answer in answers if isinstance(answer, str)), "")
        found.append(
            TableSamples(keyspace=sample.keyspace, table=sample.table, unread=unread)
            if unread
            else msgspec.structs.replace(sample, ranges=quiet, restless=len(sample.ranges) - len(quiet))
        )
    return tuple(found)


def compare(cql: Cql, samples: Sequence[TableSamples], *, now: datetime, consistency: str = "QUORUM") -> list[Check]:
    """Read the sampled ranges of a restored cluster and judge each table.  *samples* name the keyspaces as they are now."""
    sampler = Sampler(cql, consistency=consistency)
    return [_compared(sampler, sample, now) for sample in samples]


def _compared(sampler: Sampler, sample: TableSamples, now: datetime) -> Check:
    name = f"rows of {sample.keyspace}.{sample.table}"
    left_out = f"; {sample.restless} more changed while the snapshot was taken" if sample.restless else ""
    if sample.unread:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=f"were not sampled at the backup: {sample.unread}")
    lasting = [r for r in sample.ranges if r.expires is None or r.expires > now]
    expired = len(sample.ranges) - len(lasting)
    left_out += f"; {expired} more had rows that have expired since" if expired else ""
    if not (sample.ranges or sample.restless):
        left_out = ": the partitions that were looked at have more rows than sample_rows; raise it in the inventory"
    if not lasting:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=f"no sampled range is comparable{left_out}")
    rows = 0
    for one in lasting:
        try:
            found = sampler.read(one.keyspace, one.table, one.after, one.upto)
        except MainstayError as error:
            return Check(name=name, verdict=Verdict.UNVERIFIED, detail=f"could not be read: {error.message}")
        if found != (one.rows, one.digest):
            differs = f"{found[0]} rows instead of {one.rows}" if found[0] != one.rows else "other values"
            return Check(
                name=name,
                verdict=Verdict.FAIL,
                detail=f"the tokens from {one.after} to {one.upto} hold {differs}",
            )
        rows += one.rows
    scope = "all" if sample.whole and not (sample.restless or expired) else f"in {len(lasting)} token ranges"
    return Check(name=name, verdict=Verdict.PASS, detail=f"{rows} rows, {scope}, equal the source's{left_out}")


def _starts(keyspace: str, table: str, effort: Effort) -> list[int]:
    """Where ranges begin: at the smallest token, then anywhere."""
    dice = random.Random(f"{effort.seed} {keyspace} {table}")  # noqa: S311
    return [_MIN, *(dice.randrange(_MIN + 1, _MAX) for _ in range(effort.ranges - 1))][: effort.ranges]


def _tried(sampler: Sampler, place: tuple[str, str, int], effort: Effort) -> RangeSample | TableSamples | None:
    """Read the range from a start; nothing when one partition is larger than a sample may be."""
    keyspace, table, start = place
    try:
        end, expires = _end(sampler, place, effort)
        if end is None:
            return None
        count, summed = sampler.read(keyspace, table, start, end)
    except MainstayError as error:
        return TableSamples(keyspace=keyspace, table=table, unread=error.message)
    return RangeSample(
        keyspace=keyspace, table=table, after=start, upto=end, rows=count, digest=summed, expires=expires
    )


def _end(sampler: Sampler, place: tuple[str, str, int], effort: Effort) -> tuple[int | None, datetime | None]:
    """Where a range with at most ``effort.rows`` whole rows ends, and when the first of them vanishes by itself.

    No end when the first partition is larger; no time when none of the rows has a TTL.
    """
    keyspace, table, start = place
    token = sampler.key(keyspace, table)
    columns = sampler.expiring(keyspace, table)
    chosen = "".join(f", TTL({quoted(name)})" for name in columns or ())
    statement = (
        f"SELECT {token} AS mainstay_token{chosen} FROM {quoted(keyspace)}.{quoted(table)}"  # noqa: S608
        f" WHERE {token} > %s LIMIT {effort.rows + 1}"
    )
    now = effort.clock().astimezone(UTC)
    rows = sampler.ask(statement, (start,))
    tokens = [int(row.pop("mainstay_token")) for row in rows]
    last = _MAX
    if len(tokens) > effort.rows:
        whole = [token for token in tokens if token < tokens[-1]]
        if not whole:
            return None, None
        last = max(whole)
    if columns is None:
        return last, now
    left = [v for token, row in zip(tokens, rows, strict=True) if token <= last for v in row.values() if v is not None]
    # A second less: the server counts whole ones, and a drill must not ask while the row vanishes.
    return last, now + timedelta(seconds=min(left) - 1) if left else None
