"""What is looked at after a restore, in the restored cluster itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import msgspec

from include.engine.contracts import Clock
from include.engine.errors import MainstayError, PermanentError
from include.engine.model import Check, Manifest, Verdict
from include.engine.systems.cassandra.client import Cql, quoted
from include.engine.systems.cassandra.control import Nodetool
from include.engine.systems.cassandra.samples import TableSamples, compare
from include.engine.systems.cassandra.schema import Schema, Statement, read_schema
from include.engine.systems.cassandra.selection import Selection

_VERIFIED_TABLES = 2


def samples_of(manifest: Manifest, selection: Selection) -> list[TableSamples]:
    """Give the samples of the chosen tables, under the names that their keyspaces got."""
    found = []
    for raw in manifest.samples:
        sample = msgspec.convert(raw, TableSamples)
        if (sample.keyspace, sample.table) in selection.tables:
            name = selection.keyspace(sample.keyspace)
            ranges = tuple(msgspec.structs.replace(one, keyspace=name) for one in sample.ranges)
            found.append(msgspec.structs.replace(sample, keyspace=name, ranges=ranges))
    return found


def schema_is_equal(cql: Cql, wanted: Schema) -> Check:
    """Compare the schema with the one of the backup; how often rows are kept, and where, belongs to the ring."""
    try:
        found = read_schema(cql, wanted.keyspaces)
    except MainstayError as error:
        return Check(name="schema", verdict=Verdict.UNVERIFIED, detail=f"could not be read: {error.message}")
    then, now = _comparable(wanted), _comparable(found)
    missing = sorted(name for name in then if name not in now)
    other = sorted(name for name in then if name in now and then[name] != now[name])
    if missing or other:
        told = [*(f"{name} is missing" for name in missing), *(f"{name} differs" for name in other)]
        return Check(name="schema", verdict=Verdict.FAIL, detail="; ".join(told[:8]))
    return Check(
        name="schema", verdict=Verdict.PASS, detail=f"{len(then)} keyspaces, types, tables and indexes are equal"
    )


def reads_at_quorum(cql: Cql, tables: Sequence[tuple[str, str]]) -> Check:
    """Read from every table at QUORUM: enough replicas answer, and none trips over a file."""
    failed = []
    for keyspace, table in tables:
        try:
            cql.rows(f"SELECT * FROM {quoted(keyspace)}.{quoted(table)} LIMIT 100", consistency="QUORUM")  # noqa: S608
        except MainstayError as error:
            failed.append(f"{keyspace}.{table}: {error.message}")
    if failed:
        return Check(name="read at QUORUM", verdict=Verdict.FAIL, detail="; ".join(failed[:3]))
    return Check(name="read at QUORUM", verdict=Verdict.PASS, detail=f"{len(tables)} tables answer")


def sstables_verify(tool: Nodetool, tables: Sequence[tuple[str, str]], *, seed: str) -> Check:
    """Let the server verify every row of some tables: checksums, order of keys, cells that can be read.

    :param seed: the backup's name: another backup has other tables verified, a retry the same
    """
    chosen = random.Random(seed).sample(sorted(tables), min(_VERIFIED_TABLES, len(tables)))  # noqa: S311
    try:
        for keyspace, table in chosen:
            tool.run("verify", "-e", "-f", "--", keyspace, table)
    except PermanentError as error:
        return Check(name="sstableverify", verdict=Verdict.FAIL, detail=f"{keyspace}.{table}: {error.hint}")
    except MainstayError as error:
        return Check(name="sstableverify", verdict=Verdict.UNVERIFIED, detail=error.message)
    named = ", ".join(f"{keyspace}.{table}" for keyspace, table in chosen)
    return Check(name="sstableverify", verdict=Verdict.PASS, detail=f"every row of {named} can be read")


def rows_are_equal(cql: Cql, samples: Sequence[TableSamples], clock: Clock) -> list[Check]:
    """Compare the sampled token ranges (see :mod:`~include.engine.systems.cassandra.samples`)."""
    if not samples:
        return [Check(name="rows", verdict=Verdict.UNVERIFIED, detail="the backup has no samples of these tables")]
    return compare(cql, samples, clock=clock)


def timed(check: Callable[[], Check]) -> Check:
    """Run a check and note how long it took."""
    began = time.monotonic()
    return msgspec.structs.replace(check(), seconds=round(time.monotonic() - began, 3))


def _comparable(schema: Schema) -> dict[str, str]:
    return {
        f"{one.type} {one.keyspace}.{one.name}": "" if one.type == "keyspace" else _settled(one)
        for one in schema.statements
    }


def _settled(statement: Statement) -> str:
    return " ".join(statement.cql.split())
