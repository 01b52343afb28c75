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


class _Sampler:
    """Samples one cluster's tables; the second reading is compared with the first."""

    def __init__(self, cql: Cql, *, consistency: str, timeout: float = _TIMEOUT) -> None:
        self._cql = cql
        self._consistency = consistency
        self._timeout = timeout

    def key(self, keyspace: str, table: str) -> str:
        columns = self._cql.rows(
            "SELECT column_name, kind, position FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s",
            (keyspace, table),
        )
        parts = sorted((row["position"], row["column_name"]) for row in columns if row["kind"] == "partition_key")
        return f"token({', '.join(quoted(name) for _, name in parts)})"

    def ask(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        return self._cql.rows(statement, parameters, consistency=self._consistency, timeout=self._timeout)

    def read(self, keyspace: str, table: str, after: int, upto: int) -> tuple[int, str]:
        """Give the number of rows of a range and the sum of their digests."""
        token = self.key(keyspace, table)
        statement = f"SELECT JSON * FROM {quoted(keyspace)}.{quoted(table)} WHERE {token} > %s AND {token} <= %s"  # noqa: S608
        rows = [
            row["[json]"] if "[json]" in row else next(iter(row.values())) for row in self.ask(statement, (after, upto))
        ]
        return len(rows), digest(rows)

    def _expires_by_default(self, keyspace: str, table: str) -> bool:
        rows = self.ask(
            "SELECT default_time_to_live FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s",
            (keyspace, table),
        )
        return any(row["default_time_to_live"] for row in rows)

    def expiry(self, keyspace: str, table: str, after: int, upto: int, clock: Clock) -> datetime | None:
        """When the first row of a range vanishes by itself; None when none does."""
        columns = self.ask(
            "SELECT column_name, kind, type FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s",
            (keyspace, table),
        )
        # TTL() knows no counters, and no collections before 5.0; those expire with their row in most schemas.
        simple = [
            row["column_name"]
            for row in columns
            if row["kind"] == "regular"
            and row["type"] != "counter"
            and "<" not in str(row["type"]).removeprefix("frozen<")
        ]
        if not simple:
            return clock() if self._expires_by_default(keyspace, table) else None
        token = self.key(keyspace, table)
        chosen = ", ".join(f"TTL({quoted(name)})" for name in simple)
        rows = self.ask(
            f"SELECT {chosen} FROM {quoted(keyspace)}.{quoted(table)} WHERE {token} > %s AND {token} <= %s",  # noqa: S608
            (after, upto),
        )
        left = [value for row in rows for value in row.values() if isinstance(value, int)]
        # A second less: the server counts whole ones, and a drill must not ask while the row vanishes.
        return clock().astimezone(UTC) + timedelta(seconds=min(left) - 1) if left else None


def digest(rows: Sequence[str]) -> str:
    """Give a digest of rows that does not depend on their order: the sum of their SHA-256, modulo 2^256."""
    total = sum(int.from_bytes(hashlib.sha256(row.encode()).digest(), "big") for row in rows)
    return f"{total % (1 << 256):064x}"


def choose_ranges(cql: Cql, tables: Sequence[tuple[str, str]], effort: Effort) -> list[TableSamples]:
    """Choose token ranges of each table and read them for the first time.  A table that cannot be read says why."""
    sampler = _Sampler(cql, consistency="ALL")

    def one(place: tuple[str, str]) -> TableSamples:
        keyspace, table = place
        try:
            return _first(sampler, keyspace, table, effort)
        except MainstayError as error:
            return TableSamples(keyspace=keyspace, table=table, unread=error.message)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sample") as pool:
        return list(pool.map(one, tables))


def keep_quiet(cql: Cql, samples: Sequence[TableSamples]) -> tuple[TableSamples, ...]:
    """Read all ranges again, after the snapshot, and keep those that read the same."""
    sampler = _Sampler(cql, consistency="ALL")

    def one(sample: TableSamples) -> TableSamples:
        try:
            quiet = tuple(
                r for r in sample.ranges if sampler.read(r.keyspace, r.table, r.after, r.upto) == (r.rows, r.digest)
            )
        except MainstayError as error:
            return TableSamples(keyspace=sample.keyspace, table=sample.table, unread=error.message)
        return msgspec.structs.replace(sample, ranges=quiet, restless=len(sample.ranges) - len(quiet))

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sample") as pool:
        return tuple(pool.map(one, samples))


def compare(cql: Cql, samples: Sequence[TableSamples], *, now: datetime, consistency: str = "QUORUM") -> list[Check]:
    """Read the sampled ranges of a restored cluster and judge each table.  *samples* name the keyspaces as they are now."""
    sampler = _Sampler(cql, consistency=consistency)
    return [_compared(sampler, sample, now) for sample in samples]


def _compared(sampler: _Sampler, sample: TableSamples, now: datetime) -> Check:
    name = f"rows of {sample.keyspace}.{sample.table}"
    left_out = f"; {sample.restless} more changed while the snapshot was taken" if sample.restless else ""
    if sample.unread:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=f"were not sampled at the backup: {sample.unread}")
    lasting = [r for r in sample.ranges if r.expires is None or r.expires > now]
    expired = len(sample.ranges) - len(lasting)
    left_out += f"; {expired} more had rows that have expired since" if expired else ""
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


def _first(sampler: _Sampler, keyspace: str, table: str, effort: Effort) -> TableSamples:
    found: list[RangeSample] = []
    dice = random.Random(f"{effort.seed} {keyspace} {table}")  # noqa: S311
    # From the smallest token first: a small table is covered whole by it, and needs no second range.
    for start in [_MIN, *(dice.randrange(_MIN, _MAX) for _ in range(effort.ranges - 1))][: effort.ranges]:
        upto = _end(sampler, keyspace, table, start, effort.rows)
        if upto is None:
            continue  # one partition is larger than a sample may be
        count, summed = sampler.read(keyspace, table, start, upto)
        found.append(
            RangeSample(
                keyspace=keyspace,
                table=table,
                after=start,
                upto=upto,
                rows=count,
                digest=summed,
                expires=sampler.expiry(keyspace, table, start, upto, effort.clock),
            )
        )
        if start == _MIN and upto == _MAX:
            return TableSamples(keyspace=keyspace, table=table, ranges=tuple(found), whole=True)
    return TableSamples(keyspace=keyspace, table=table, ranges=tuple(found))


def _end(sampler: _Sampler, keyspace: str, table: str, start: int, rows: int) -> int | None:
    """Where a range from *start* with at most *rows* whole rows ends; None when its first partition is larger."""
    token = sampler.key(keyspace, table)
    statement = f"SELECT {token} AS t FROM {quoted(keyspace)}.{quoted(table)} WHERE {token} > %s LIMIT {rows + 1}"  # noqa: S608
    tokens = [int(row["t"]) for row in sampler.ask(statement, (start,))]
    if len(tokens) <= rows:
        return _MAX
    whole = [token for token in tokens if token < tokens[-1]]
    return max(whole) if whole else None
