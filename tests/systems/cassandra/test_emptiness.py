"""A snapshot without files is believed only where nodes, rows and earlier backups say the same."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from include.engine.errors import Incomplete
from include.engine.model import Cut, Entry, Kind, Manifest, SourceIdentity, Target
from include.engine.systems.cassandra.cut import SnapshotCut
from include.engine.systems.cassandra.emptiness import proved_empty, require_files_of_rows
from include.engine.systems.cassandra.ranges import LARGEST, SMALLEST
from include.engine.systems.cassandra.samples import RangeSample, TableSamples
from include.engine.systems.cassandra.schema import Schema, Statement
from include.engine.systems.cassandra.sstables import SnapshotFile

EVENTS = Target.parse("cassandra/events")
AT = datetime(2026, 11, 30, 2, tzinfo=UTC)


def sample(rows: int, **changed: object) -> TableSamples:
    whole = RangeSample(keyspace="k", table="t", after=SMALLEST, upto=LARGEST, rows=rows, digest="0")
    return msgspec.structs.replace(TableSamples(keyspace="k", table="t", ranges=(whole,), whole=True), **changed)


def cut(*samples: TableSamples, tables: tuple[str, ...] = ("t",)) -> SnapshotCut:
    made = [Statement(keyspace="k", type="keyspace", name="k", cql="")] if tables else []
    made += [Statement(keyspace="k", type="table", name=name, cql="") for name in tables]
    return SnapshotCut(
        tag="mainstay-x-1",
        cluster="c",
        nodes=(),
        keyspaces=("k",) if tables else (),
        schema=Schema(tuple(made)),
        samples=samples,
        skew_seconds=0.0,
    )


def earlier(files: int) -> Manifest:
    names = ["schema.cql", *(f"h/k/t-1/nb-{number}-big-Data.db" for number in range(files))]
    return Manifest(
        id="20261129T020000Z",
        target=EVENTS,
        kind=Kind.FULL,
        started=AT,
        finished=AT,
        recoverable_from=AT,
        recoverable_to=AT,
        cut=Cut(at=AT, position="x"),
        entries=tuple(Entry(name=name, key=name, bytes=1, sha256=name) for name in names),
        source=SourceIdentity(identity="c", version="5.0.8"),
    )


def file_of(table: str) -> SnapshotFile:
    name = "nb-1-big-Data.db"
    path = f"/d/k/{table}-{'0' * 32}/snapshots/x/{name}"
    return SnapshotFile(
        path=path, keyspace="k", table=table, table_id="0" * 32, name=name, bytes=1, modified=1, inode=1
    )


def test_a_table_in_which_rows_were_read_must_have_a_file() -> None:
    require_files_of_rows(EVENTS, cut(sample(3)), [file_of("t")])
    require_files_of_rows(EVENTS, cut(sample(0)), [])
    with pytest.raises(Incomplete, match=r"has no file of k\.t, in which rows were read"):
        require_files_of_rows(EVENTS, cut(sample(3)), [file_of("other")])


@pytest.mark.parametrize("history", [[], [earlier(0)]], ids=["the first backup", "one after an empty one"])
def test_that_there_is_no_row_is_said_by_the_nodes_the_rows_and_the_earlier_backups(history: list[Manifest]) -> None:
    told = proved_empty(EVENTS, cut(sample(0)), history)
    assert (
        told == "no row in any of 1 tables: each node lists 0 SSTables of each, and all of their rows were counted: 0"
    )


def test_a_cluster_without_a_table_is_told_as_one() -> None:
    assert proved_empty(EVENTS, cut(tables=()), []) == "there is no table to back up: no node knows one"


@pytest.mark.parametrize(
    "counted",
    [
        [],
        [sample(0, ranges=(), whole=False)],
        [sample(0, ranges=(), restless=1)],
        [sample(0, unread="a node is down", ranges=())],
        [sample(0, whole=False)],
    ],
    ids=["not sampled", "no range was sampled", "rows came just then", "could not be read", "not all of it was read"],
)
def test_what_nobody_could_count_is_not_taken_for_empty(counted: list[TableSamples]) -> None:
    with pytest.raises(Incomplete, match=r"nobody could count that k\.t has no row"):
        proved_empty(EVENTS, cut(*counted), [])


def test_a_cluster_that_had_rows_and_has_none_is_not_on_its_first_day() -> None:
    with pytest.raises(Incomplete, match=r"its backup 20261129T020000Z has 2 files: somebody has emptied it") as found:
        proved_empty(EVENTS, cut(sample(0)), [earlier(0), earlier(2)])
    assert "--full" in found.value.hint
