"""Whether a backup is full or incremental is decided by what can be restored, never by what would be quick."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.model import Cut, Entry, Kind, Manifest, SourceIdentity, System, Target, backup_id
from include.engine.systems.postgres.chain import ServerState, chain_of, choose_kind
from include.engine.systems.postgres.detail import MANIFEST_OBJECT, PostgresDetail
from include.engine.systems.postgres.settings import PostgresSettings

SUNDAY = datetime(2026, 11, 22, 2, tzinfo=UTC)
DAY = timedelta(days=1)
SERVER = ServerState(version_num=170010, identity="77", summarizing=True)


def backup(
    day: float, parent: Manifest | None = None, *, identity: str = "77", version: int = 170010, manifest: bool = True
) -> Manifest:
    at = SUNDAY + day * DAY
    detail = PostgresDetail(
        server_version_num=version,
        timeline=1,
        stop_timeline=1,
        start_lsn="0/2000028",
        stop_lsn="0/2000120",
        start_wal="000000010000000000000002",
        stop_wal="000000010000000000000002",
        wal_segment_bytes=16 << 20,
        data_checksums=True,
        manifest_checksums="CRC32C",
        compression="zstd",
        compressed_on="server",
        base="base.tar.zst",
    )
    names = ["base.tar.zst", *([MANIFEST_OBJECT] if manifest else [])]
    return Manifest(
        id=backup_id(at),
        target=Target(System.POSTGRES, "main"),
        kind=Kind.INCREMENTAL if parent else Kind.FULL,
        parent=parent.id if parent else None,
        started=at,
        finished=at,
        recoverable_from=at,
        recoverable_to=at,
        cut=Cut(at=at, position="0/2000000"),
        entries=tuple(Entry(name=name, key=name, bytes=1, sha256="") for name in names),
        source=SourceIdentity(identity=identity, version="17.10"),
        detail=msgspec.to_builtins(detail),
    )


def chain(length: int) -> list[Manifest]:
    found = [backup(0)]
    for day in range(1, length):
        found.append(backup(day, found[-1]))
    return found


def settings(**values: object) -> PostgresSettings:
    return PostgresSettings.model_validate({"connection": "postgres_main", **values})


week = chain(7)
GOLDEN = {
    "the first backup": ([], {}, SERVER, 0, False, "full: there is no earlier backup"),
    "the day after": (
        chain(1),
        {},
        SERVER,
        1,
        False,
        "incremental: changes since 20261122T020000Z, 1 on 20261122T020000Z",
    ),
    "later in the week": (
        chain(4),
        {},
        SERVER,
        4,
        False,
        "incremental: changes since 20261125T020000Z, 4 on 20261122T020000Z",
    ),
    "a week later": (week, {}, SERVER, 7, False, "full: the full backup 20261122T020000Z is 7.0 days old"),
    "a long chain": (
        chain(4),
        {"max_chain": 3},
        SERVER,
        4,
        False,
        "full: 3 incremental backups lie on 20261122T020000Z, the most allowed",
    ),
    "no chains": (
        chain(1),
        {"max_chain": 0},
        SERVER,
        1,
        False,
        "full: 0 incremental backups lie on 20261122T020000Z, the most allowed",
    ),
    "asked for": (chain(2), {}, SERVER, 2, True, "full: a full backup was asked for"),
    "switched off": (
        chain(2),
        {"incremental": False},
        SERVER,
        2,
        False,
        "full: the inventory wants full backups only",
    ),
    "PostgreSQL 16": (
        chain(2),
        {},
        ServerState(version_num=160015, identity="77", summarizing=False),
        2,
        False,
        "full: PostgreSQL 16 has no incremental backups, 17 has",
    ),
    "no summaries": (
        chain(2),
        {},
        ServerState(version_num=170010, identity="77", summarizing=False),
        2,
        False,
        "full: summarize_wal is off on the server",
    ),
    "a new cluster": (
        [backup(0, identity="12")],
        {},
        SERVER,
        1,
        False,
        "full: 20261122T020000Z is of another cluster (system identifier 12)",
    ),
    "after an upgrade": (
        [backup(0, version=160015)],
        {},
        SERVER,
        1,
        False,
        "full: 20261122T020000Z is of PostgreSQL 16",
    ),
    "a broken chain": (
        chain(3)[1:],
        {},
        SERVER,
        3,
        False,
        "full: the chain of 20261124T020000Z is broken: a backup it needs is gone",
    ),
    "no manifest of the parent": (
        [backup(0, manifest=False)],
        {},
        SERVER,
        1,
        False,
        "full: 20261122T020000Z has no backup_manifest.zst, which an incremental backup builds on",
    ),
    "an old run again": (chain(3), {}, SERVER, 1, False, "full: 20261124T020000Z is newer than this run"),
}


@pytest.mark.parametrize("case", GOLDEN.values(), ids=GOLDEN)
def test_the_kind_follows_from_history_and_server(
    case: tuple[list[Manifest], dict[str, object], ServerState, int, bool, str],
) -> None:
    history, values, server, day, asked, expected = case
    decision = choose_kind(history, settings(**values), server, SUNDAY + day * DAY, asked_full=asked)
    assert f"{decision.kind}: {decision.reason}" == expected
    assert (decision.parent is None) == (decision.kind is Kind.FULL)


@pytest.mark.parametrize("day", [0, 1, 2])
def test_nothing_builds_on_a_chain_of_which_a_backup_was_found_damaged(day: int) -> None:
    history = chain(3)
    now = SUNDAY + 3 * DAY
    decision = choose_kind(history, settings(), SERVER, now, asked_full=False, doubted={history[day].id})
    assert decision.kind is Kind.FULL
    assert decision.reason == f"{history[day].id} was found damaged when it was read back"
    other = choose_kind(history, settings(), SERVER, now, asked_full=False, doubted={"20200101T000000Z"})
    assert other.kind is Kind.INCREMENTAL


def test_a_parent_whose_detail_cannot_be_read_is_not_built_upon() -> None:
    foreign = msgspec.structs.replace(backup(0), detail={"written": "by somebody else"})
    decision = choose_kind([foreign], settings(), SERVER, SUNDAY + DAY, asked_full=False)
    assert decision.kind is Kind.FULL


def test_parents_that_form_a_circle_are_no_chain() -> None:
    first, second = backup(0), backup(1)
    circle = [
        msgspec.structs.replace(first, kind=Kind.INCREMENTAL, parent=second.id),
        msgspec.structs.replace(second, kind=Kind.INCREMENTAL, parent=first.id),
    ]
    assert chain_of(circle[0], circle) is None


@given(
    parents=st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=20),
    lost=st.sets(st.integers(0, 20)),
    max_chain=st.integers(0, 6),
)
def test_an_incremental_always_lies_on_a_whole_chain_within_the_limits(
    parents: Sequence[int | None], lost: set[int], max_chain: int
) -> None:
    all_backups: list[Manifest] = []
    for day, parent in enumerate(parents):
        below = all_backups[parent % day] if parent is not None and day else None
        all_backups.append(backup(day, below))
    history = [found for day, found in enumerate(all_backups) if day not in lost]
    wanted = settings(max_chain=max_chain)
    now = SUNDAY + len(parents) * DAY
    decision = choose_kind(history, wanted, SERVER, now, asked_full=False)
    if decision.kind is Kind.FULL:
        assert decision.parent is None
        return
    assert decision.parent == history[-1]
    found = chain_of(history[-1], history)
    assert found is not None
    assert found[0].kind is Kind.FULL
    assert len(found) <= max_chain
    assert now - found[0].started < wanted.full_every
