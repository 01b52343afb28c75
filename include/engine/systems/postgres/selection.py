"""Which backups a restore starts from, and whether the log reaches the point.  Pure: golden-tested, no I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from include.engine.errors import NotFound
from include.engine.model import Manifest, PointKind, RecoveryPoint
from include.engine.systems.postgres.chain import chain_of
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.lsn import format_lsn, parse_lsn
from include.engine.systems.postgres.reached import Reached
from include.engine.systems.postgres.wal_audit import Archive, BackupSpan, Histories, Reach, reach


class Choice(Struct, frozen=True, kw_only=True):
    """The backups that a restore needs, full first, and what a person should know about the choice."""

    chain: tuple[Manifest, ...]
    warnings: tuple[str, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """The backup that recovery starts from."""
        return self.chain[-1]


class Way(Struct, frozen=True, kw_only=True):
    """How recovery gets to the point: to which timeline, and how far the log reaches on the way."""

    timeline: int
    reach: Reach
    warnings: tuple[str, ...] = ()


def span_of(manifest: Manifest) -> BackupSpan:
    """Give what the log owes to a backup.

    :raises Corrupt: when the manifest is not one of PostgreSQL
    """
    detail = PostgresDetail.of(manifest)
    return BackupSpan(
        id=manifest.id,
        timeline=detail.timeline,
        start_lsn=parse_lsn(detail.start_lsn),
        stop_lsn=parse_lsn(detail.stop_lsn),
        consistent_at=manifest.recoverable_from,
    )


def choose_chain(manifests: Sequence[Manifest], point: RecoveryPoint, *, backup: str | None = None) -> Choice:
    """Choose the newest backup that was consistent at or before the point, with all that it builds on.

    :param manifests: all committed backups of the target, oldest first
    :param backup: start from this one, whatever is newer
    :raises NotFound: when none fits; the hint says from when on points can be reached
    """
    if not manifests:
        raise NotFound("there is no backup to restore from", hint="check the URL; `./mainstay catalog` lists all")
    if backup is not None and all(m.id != backup for m in manifests):
        newest = ", ".join(m.id for m in manifests[-3:])
        raise NotFound(f"there is no backup {backup}", hint=f"the newest are {newest}")
    candidates = [m for m in manifests if backup in (None, m.id)]
    fitting, warnings = _fitting(candidates, manifests, point)
    for manifest in fitting:
        chain = chain_of(manifest, manifests)
        if chain is not None:
            return Choice(chain=tuple(chain), warnings=tuple(warnings))
        warnings.append(f"the chain of {manifest.id} is broken: a backup that it builds on is gone")
    raise _nothing_fits(candidates, point, warnings)


def choose_way(manifest: Manifest, archive: Archive, histories: Histories, point: RecoveryPoint) -> Way:
    """Follow the log from a backup to the newest timeline that descends from it, and judge whether the point is within reach.

    The log that makes the backup consistent is part of it; the archive must have what follows.  The timeline is named rather
    than left to PostgreSQL's ``latest``: that one takes the highest number even when it branched off before the backup.

    :raises NotFound: naming the first missing segment, when the point lies behind it
    """
    span = log_after(manifest)
    later = [t for t in sorted({*archive.timelines, *histories}) if t > span.timeline]
    reaches = [reach(span, goal, archive, histories) for goal in (span.timeline, *later)]
    found = next((r for r in reversed(reaches) if r.to_lsn > span.start_lsn), reaches[0])
    if found.newest is None and (archive.newest_number(span.timeline) or 0) < span.start_lsn // archive.size:
        return _without_log(found, span, point)
    if found.missing is None or point.kind is PointKind.BACKUP:
        return Way(timeline=found.timeline, reach=found)
    name, start = found.missing.name, format_lsn(found.missing.start)
    if _beyond(found, span, point):
        raise NotFound(
            f"the WAL archive has no segment {name}, and {point} lies behind it",
            hint=f"with the backup {span.id} the log reaches from {_moment(span.consistent_at)} to position {start}, which was "
            f"stored at {_moment(_stored_at(found, span))}; restore to a point in there, or from a newer backup, and take a "
            "full backup now",
        )
    return Way(
        timeline=found.timeline, reach=found, warnings=(f"the WAL archive lacks {name}, behind the wanted point",)
    )


def reach_along(manifest: Manifest, timeline: int, archive: Archive, histories: Histories) -> Reach:
    """Follow the log from the end of a backup along one timeline, to its end or to the first gap."""
    return reach(log_after(manifest), timeline, archive, histories)


def witness(found: Reach, point: RecoveryPoint, stated: Sequence[Reached]) -> str | None:
    """Say how it is known that the log up to its end has all that was committed up to *point*; None when it is not known.

    When the newest byte was *stored* says nothing of that: an archiver that catches up stores old log late.  For a time only a
    statement of the archiver counts, made at that time or later, which the archive bears out.

    :param stated: what was stated before the archive was listed
    """
    if point.kind is PointKind.POSITION and found.to_lsn >= parse_lsn(point.value):
        return f"the archive reaches to {format_lsn(found.to_lsn)}"
    for one in stated:
        if point.kind is PointKind.TIME and point.time is not None and borne_out(one, found) and one.at >= point.time:
            return f"the archiver has stated that all of {one.at.isoformat(timespec='seconds')} is stored"
    return None


def borne_out(stated: Reached, found: Reach) -> bool:
    """Whether the archive has all that a statement is about."""
    return stated.timeline == found.timeline and found.to_lsn >= stated.stored


def log_after(manifest: Manifest) -> BackupSpan:
    """What recovery needs of the archive: the log that makes the backup consistent is part of the backup."""
    whole = span_of(manifest)
    return BackupSpan(
        id=whole.id,
        timeline=PostgresDetail.of(manifest).stop_timeline,
        start_lsn=whole.stop_lsn,
        stop_lsn=whole.stop_lsn,
        consistent_at=whole.consistent_at,
    )


def _without_log(found: Reach, span: BackupSpan, point: RecoveryPoint) -> Way:
    if point.kind not in (PointKind.LATEST, PointKind.BACKUP):
        raise NotFound(
            f"nothing of the log was archived since the backup {span.id}, so {point} cannot be reached",
            hint="restore to `backup`, its own end; run `./mainstay wal-archive` beside the server from now on",
        )
    warning = "nothing of the log was archived since the backup: recovery ends with the backup itself"
    return Way(timeline=found.timeline, reach=found, warnings=() if point.kind is PointKind.BACKUP else (warning,))


def _fitting(
    candidates: Sequence[Manifest], manifests: Sequence[Manifest], point: RecoveryPoint
) -> tuple[list[Manifest], list[str]]:
    """The candidates that can reach the point, the best first."""
    newest_first = list(reversed(candidates))
    if point.kind is PointKind.TIME and point.time is not None:
        return [m for m in newest_first if m.recoverable_from <= point.time], []
    if point.kind is PointKind.POSITION:
        position = parse_lsn(point.value)
        return [m for m in newest_first if span_of(m).stop_lsn <= position], []
    if point.kind is PointKind.NAME:
        return _fitting_name(newest_first, manifests, point.value)
    return newest_first, []


def _fitting_name(
    newest_first: Sequence[Manifest], manifests: Sequence[Manifest], name: str
) -> tuple[list[Manifest], list[str]]:
    position = _position_of(name, manifests)
    if position is not None:
        return [m for m in newest_first if span_of(m).stop_lsn <= position], []
    # PostgreSQL looks for the name from the start of the backup on: only the oldest backup cannot be too new.
    warning = (
        f"no manifest knows the restore point {name!r}: the log is searched from the oldest backup on, which takes long; "
        "name a backup that finished before it to start later"
    )
    return list(reversed(newest_first)), [warning] if len(newest_first) > 1 else []


def _position_of(name: str, manifests: Sequence[Manifest]) -> int | None:
    for manifest in reversed(manifests):
        detail = PostgresDetail.of(manifest)
        if detail.restore_point == name:
            return parse_lsn(manifest.cut.position)
        if detail.check.restore_point == name and detail.check.lsn:
            return parse_lsn(detail.check.lsn)
    return None


def _nothing_fits(candidates: Sequence[Manifest], point: RecoveryPoint, why: Sequence[str]) -> NotFound:
    oldest = candidates[0]
    since = f"{oldest.recoverable_from.isoformat(timespec='seconds')} ({PostgresDetail.of(oldest).stop_lsn})"
    text = (
        f"no backup was finished before {point}" if not why else f"no usable backup reaches {point}: {'; '.join(why)}"
    )
    return NotFound(text, hint=f"the oldest point that can be reached is {since}, with the backup {oldest.id}")


def _beyond(found: Reach, span: BackupSpan, point: RecoveryPoint) -> bool:
    if point.kind is PointKind.POSITION:
        return parse_lsn(point.value) > found.to_lsn
    if point.kind is PointKind.TIME and point.time is not None:
        return point.time > _stored_at(found, span)  # nothing is stored before it is committed
    return True  # the newest state lies behind every gap, and a name may


def _stored_at(found: Reach, span: BackupSpan) -> datetime:
    return max(found.newest, span.consistent_at) if found.newest is not None else span.consistent_at


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
