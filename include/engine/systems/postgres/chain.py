"""Decides whether a backup is full or incremental.  Pure: golden-tested, no I/O, no clock."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from include.engine.errors import Corrupt
from include.engine.model import Kind, Manifest, backup_time
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.settings import PostgresSettings

INCREMENTAL_SINCE = 170000  # server_version_num: UPLOAD_MANIFEST and BASE_BACKUP (INCREMENTAL)


class ServerState(Struct, frozen=True, kw_only=True):
    """What of the live server bears on the decision."""

    version_num: int
    identity: str  # system identifier
    summarizing: bool  # summarize_wal is on


class Decision(Struct, frozen=True, kw_only=True):
    """The kind of the next backup, the backup it builds on, and why."""

    kind: Kind
    parent: Manifest | None = None
    reason: str


def choose_kind(
    history: Sequence[Manifest],
    settings: PostgresSettings,
    server: ServerState,
    now: datetime,
    *,
    asked_full: bool,
    doubted: Collection[str] = (),
) -> Decision:
    """Decide the kind of the backup that is named after *now*.

    Whatever is doubtful becomes a full backup: it costs time, an unusable chain costs the data.  An incremental's parent is
    always the newest backup, so that every backup of the chain adds a day and none is skipped.

    :param history: committed backups of the target, oldest first
    :param doubted: ids of backups that were found damaged when they were read back
    """
    obstacle = _policy(settings, server, asked_full=asked_full) or _kinship(history, server, now)
    if obstacle:
        return Decision(kind=Kind.FULL, reason=obstacle)
    parent = history[-1]
    chain = chain_of(parent, history)
    if chain is None:
        return Decision(kind=Kind.FULL, reason=f"the chain of {parent.id} is broken: a backup it needs is gone")
    if damaged := next((found.id for found in chain if found.id in doubted), ""):
        return Decision(kind=Kind.FULL, reason=f"{damaged} was found damaged when it was read back")
    full, depth = chain[0], len(chain)
    age = now - backup_time(full.id)
    if age >= settings.full_every:
        return Decision(kind=Kind.FULL, reason=f"the full backup {full.id} is {_days(age)} old")
    if depth > settings.max_chain:
        return Decision(kind=Kind.FULL, reason=f"{depth - 1} incremental backups lie on {full.id}, the most allowed")
    return Decision(kind=Kind.INCREMENTAL, parent=parent, reason=f"changes since {parent.id}, {depth} on {full.id}")


def chain_of(manifest: Manifest, history: Sequence[Manifest]) -> list[Manifest] | None:
    """Give the backups that *manifest* needs, full first and itself last; nothing when one of them is not in *history*."""
    known = {found.id: found for found in history}
    chain = [manifest]
    while chain[0].kind is Kind.INCREMENTAL:
        parent = known.get(chain[0].parent or "")
        if parent is None or parent in chain:
            return None
        chain.insert(0, parent)
    return chain


def _policy(settings: PostgresSettings, server: ServerState, *, asked_full: bool) -> str:
    if asked_full:
        return "a full backup was asked for"
    if not settings.incremental:
        return "the inventory wants full backups only"
    if server.version_num < INCREMENTAL_SINCE:
        return f"PostgreSQL {server.version_num // 10000} has no incremental backups, 17 has"
    if not server.summarizing:
        return "summarize_wal is off on the server"
    return ""


def _kinship(history: Sequence[Manifest], server: ServerState, now: datetime) -> str:
    if not history:
        return "there is no earlier backup"
    newest = history[-1]
    if newest.source.identity != server.identity:
        return f"{newest.id} is of another cluster (system identifier {newest.source.identity})"
    if backup_time(newest.id) >= now:
        return f"{newest.id} is newer than this run"
    try:
        detail = PostgresDetail.of(newest)
    except Corrupt:
        return f"{newest.id} does not say how it was taken"
    if detail.server_version_num // 10000 != server.version_num // 10000:
        return f"{newest.id} is of PostgreSQL {detail.server_version_num // 10000}"
    if not any(entry.name == detail.manifest for entry in newest.entries):
        return f"{newest.id} has no {detail.manifest}, which an incremental backup builds on"
    return ""


def _days(age: timedelta) -> str:
    return f"{age / timedelta(days=1):.1f} days"
