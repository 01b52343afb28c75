"""Proves that a restored cluster holds what was backed up: the same rows, readable tables, sound indexes.

Every function gives a verdict and raises only for a stop: what could not be looked at is UNVERIFIED, never PASS.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import psycopg

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, NotFound
from include.engine.model import Check, JsonValue, Verdict
from include.engine.systems.postgres.digests import DatabaseSample, Gap, Sample, TableSample, digest, settle, tables
from include.engine.systems.postgres.samples import Client, Open, from_documents

_SHOWN = 10  # of many differences, in a check's detail
_CORRUPT = 2  # exit code of pg_amcheck
_UNREADABLE = (psycopg.errors.DataCorrupted, psycopg.errors.IoError, psycopg.errors.UndefinedFile)
_INSTALL = "install the extension's package on this machine, and check again"


def compare_samples(open_client: Open, documents: Sequence[dict[str, JsonValue]]) -> list[Check]:
    """Compare the rows of a restored cluster with ``Manifest.samples``: one check per database.

    The cluster must have stopped its recovery at ``PostgresDetail.check.lsn``, exclusively; at any other point a difference
    says nothing.

    :param open_client: connects to a database of the restored cluster, as a role that may read all of it
    """
    try:
        samples = from_documents(documents)
    except msgspec.ValidationError as error:
        return [_unverified("rows", f"the samples in the manifest cannot be read: {error}")]
    gaps = [sample.reason for sample in samples if isinstance(sample, Gap)]
    databases = [sample for sample in samples if isinstance(sample, DatabaseSample)]
    if gaps or not databases:
        return [_unverified("rows", "; ".join(gaps) or "the backup has no samples to compare with")]
    return [_compared(open_client, database, samples) for database in databases]


def counts(open_client: Open, databases: Sequence[str]) -> list[Check]:
    """Read every row of every table once, and tell how many there are: one check per database.

    It needs no samples, so it serves a restore to any point; it proves that all pages can be read, not that they are the right
    ones.
    """
    return [_counted(open_client, database) for database in databases]


def amcheck(
    connection: Connection,
    pg_amcheck: Path,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = 3600.0,
    jobs: int = 2,
) -> Check:
    """Check the structure of all tables and B-tree indexes of all databases with PostgreSQL's own tool.

    It installs the extension amcheck where it is missing, so it is for restored copies only.

    :param connection: to the restored cluster, as a superuser
    :param pg_amcheck: the program, of the server's version or newer
    :param environment: what the program needs to run, such as ``LD_LIBRARY_PATH``
    :param timeout: seconds
    """
    began = time.monotonic()
    identity = {
        "PGHOST": connection.host,
        "PGPORT": str(connection.port or ""),
        "PGUSER": connection.login,
        "PGPASSWORD": connection.password,
        "PGDATABASE": connection.schema or "postgres",
    }
    own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    command: list[str | Path] = [pg_amcheck, "--all", "--install-missing", f"--jobs={jobs}", "--no-password"]
    try:
        done = subprocess.run(
            command,
            env=own
            | {"LC_ALL": "C"}
            | {key: value for key, value in identity.items() if value}
            | dict(environment or {}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _unverified("amcheck", f"{pg_amcheck} did not run to its end: {error}", began)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode == 0:
        return _check("amcheck", Verdict.PASS, "all tables and B-tree indexes of all databases are sound", began)
    if done.returncode == _CORRUPT:
        return _check("amcheck", Verdict.FAIL, _listed(lines), began)
    return _unverified("amcheck", f"pg_amcheck ended with {done.returncode}: {_listed(lines)}", began)


def without_amcheck(open_client: Open, databases: Sequence[str]) -> list[str]:
    """Name the databases in which :func:`amcheck` will install its extension; one that cannot be asked is left out."""
    lacking = []
    for name in databases:
        with suppress(MainstayError, psycopg.Error), open_client(name) as client:
            if client.execute("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'").fetchone() is None:
                lacking.append(name)
    return lacking


def drop_amcheck(open_client: Open, databases: Sequence[str]) -> None:
    """Take the extension out again where it was not: what is restored holds what the source held."""
    for name in databases:
        with suppress(MainstayError, psycopg.Error), open_client(name) as client:
            client.execute("DROP EXTENSION IF EXISTS amcheck")


class _NoLibrary(Exception):
    """The table needs a library that this machine has not: that says nothing of its rows."""


_NOT_HERE = re.compile(r"could not (access file|load library) ")


def _compared(open_client: Open, database: DatabaseSample, samples: Sequence[Sample]) -> Check:
    name, began = f"rows of {database.database}", time.monotonic()
    wanted = [sample for sample in samples if isinstance(sample, TableSample) and sample.database == database.database]
    try:
        with open_client(database.database) as client:
            settle(client)
            found = len(tables(client))
            differences, unread = _differences(client, wanted)
    except NotFound as error:
        return _check(name, Verdict.FAIL, f"the database is missing: {error.message}", began)
    except (MainstayError, psycopg.Error) as error:
        return _unverified(name, f"could not be compared: {error}", began)
    if found != database.tables:
        differences.insert(0, f"{database.database} has {found} tables, {database.tables} were backed up")
    if differences:
        return _check(name, Verdict.FAIL, _listed(differences), began)
    if unread:
        return _unverified(name, f"could not be compared: {_listed(unread)}", began)
    rows = sum(sample.rows for sample in wanted)
    detail = f"{rows:,} rows in {len(wanted)} of {database.tables} tables are equal"
    if database.skipped:
        detail += f"; not compared: {_listed([f'{table} ({why})' for table, why in database.skipped.items()])}"
    if database.tables and not wanted:
        return _unverified(name, detail, began)
    return _check(name, Verdict.PASS, detail, began)


def _differences(client: Client, wanted: Sequence[TableSample]) -> tuple[list[str], list[str]]:
    """Give how the tables differ from their samples, and which of them cannot be read here."""
    differences, unread = [], []
    for sample in wanted:
        try:
            said = _difference(client, sample)
        except _NoLibrary as error:
            unread.append(f"{sample.name}: {error}")
            continue
        if said:
            differences.append(said)
    return differences, unread


def _difference(client: Client, sample: TableSample) -> str:
    """Say how a table differs from its sample; nothing when it does not."""
    try:
        rows, total = digest(client, sample.schema, sample.table, sample.ranges)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return f"{sample.name} is missing"
    except _UNREADABLE as error:
        _require_library(error)
        return f"{sample.name} cannot be read: {error.diag.message_primary}"
    part = f" in {len(sample.ranges)} block ranges" if sample.ranges else ""
    if rows != sample.rows:
        return f"{sample.name} has {rows:,} rows{part}, {sample.rows:,} were backed up"
    if total != sample.digest:
        return f"{sample.name} has other rows{part}: digest {total}, {sample.digest} was backed up"
    return ""


def _counted(open_client: Open, database: str) -> Check:
    name, began = f"tables of {database}", time.monotonic()
    total, seen = 0, 0
    unreadable: list[str] = []
    unread: list[str] = []
    try:
        with open_client(database) as client:
            settle(client)
            for table in tables(client):
                try:
                    total += digest(client, table.schema, table.name)[0]
                    seen += 1
                except _UNREADABLE as error:
                    bad = unread if _NOT_HERE.search(str(error)) else unreadable
                    bad.append(f"{database}.{table.schema}.{table.name}: {error.diag.message_primary}")
    except NotFound as error:
        return _check(name, Verdict.FAIL, f"the database is missing: {error.message}", began)
    except (MainstayError, psycopg.Error) as error:
        return _unverified(name, f"could not be read: {error}", began)
    if unreadable:
        return _check(name, Verdict.FAIL, _listed(unreadable), began)
    if unread:
        return _unverified(name, f"could not be read: {_listed(unread)}; {_INSTALL}", began)
    return _check(name, Verdict.PASS, f"{total:,} rows in {seen} tables can be read", began)


def _require_library(error: psycopg.Error) -> None:
    if _NOT_HERE.search(str(error)):
        raise _NoLibrary(f"{error.diag.message_primary}; {_INSTALL}") from error


def _listed(lines: Sequence[str]) -> str:
    more = f" … and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


def _check(name: str, verdict: Verdict, detail: str, began: float) -> Check:
    return Check(name=name, verdict=verdict, detail=detail, seconds=time.monotonic() - began)


def _unverified(name: str, detail: str, began: float | None = None) -> Check:
    return _check(name, Verdict.UNVERIFIED, detail, time.monotonic() if began is None else began)
