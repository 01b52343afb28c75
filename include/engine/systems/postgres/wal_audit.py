"""Is the archive whole?  Segment arithmetic over what the bucket lists, never over what a server says it has sent.  Pure.

A backup needs the segments from the one that holds its start to the point that is wanted, along the timelines on the way.
The walk finds every one that is missing, and the window that can be recovered to in spite of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property

from msgspec import Struct

from include.engine.model import Verdict
from include.engine.store.bucket import StoredObject
from include.engine.systems.postgres.lsn import (
    SEGMENT_BYTES,
    Fork,
    Segment,
    format_lsn,
    history_name,
    route,
)
from include.engine.systems.postgres.reached import Reached, is_statement
from include.engine.systems.postgres.wal_objects import WalKind, WalObject

Histories = Mapping[int, tuple[Fork, ...]]  # by timeline; what its history file says


class BackupSpan(Struct, frozen=True, kw_only=True):
    """What the log owes to one backup."""

    id: str
    timeline: int
    start_lsn: int
    stop_lsn: int  # consistent from here on
    consistent_at: datetime


class Reach(Struct, frozen=True, kw_only=True):
    """How far one backup can be rolled forward on the way to one timeline.

    :param missing: the first segment that is not there though later ones are; None when the log is whole to its end
    :param newest: when the last byte within reach was stored; None when the archive has nothing for this backup
    """

    backup: str
    timeline: int
    to_lsn: int
    newest: datetime | None
    missing: Segment | None


class Window(Struct, frozen=True, kw_only=True):
    """Points that can be recovered to on one timeline: from the oldest backup's consistency to the end of its log.

    :param to_time: everything that was committed up to then is known to be stored: an archiver stated it, or a backup was
        finished then.  More may be there
    """

    timeline: int
    backup: str
    from_time: datetime
    from_lsn: int
    to_time: datetime
    to_lsn: int

    def __str__(self) -> str:
        return (
            f"{self.from_time.isoformat(timespec='seconds')} to {self.to_time.isoformat(timespec='seconds')} "
            f"({format_lsn(self.from_lsn)} to {format_lsn(self.to_lsn)}, timeline {self.timeline})"
        )


class AuditReport(Struct, frozen=True, kw_only=True):
    """What the walk found.

    :param missing: names of segments and history files that a kept backup needs
    :param foreign: keys that are not the archive's, or of a wrong name
    :param misfits: objects that cannot be what their name says, each with the reason
    """

    missing: tuple[str, ...]
    foreign: tuple[str, ...]
    misfits: tuple[str, ...]
    windows: tuple[Window, ...]
    segments: int
    newest: datetime | None
    complete_at: datetime | None = None  # when the archiver last stated that all is there

    @property
    def verdict(self) -> Verdict:
        """FAIL when anything is missing or wrong, UNVERIFIED when there was no backup to walk from."""
        if self.missing or self.foreign or self.misfits:
            return Verdict.FAIL
        return Verdict.PASS if self.windows else Verdict.UNVERIFIED


class Archive:
    """The segments of an archive, by timeline and number.

    :param size: bytes of a segment; decides what a name means
    """

    def __init__(self, objects: Iterable[WalObject], size: int = SEGMENT_BYTES) -> None:
        self.size = size
        self.whole: dict[int, dict[int, WalObject]] = {}
        self.partial: dict[int, dict[int, WalObject]] = {}
        self.histories: dict[int, WalObject] = {}
        self.misnamed: list[WalObject] = []
        for wal in objects:
            self._add(wal)

    def _add(self, wal: WalObject) -> None:
        if wal.kind is WalKind.HISTORY:
            self.histories[wal.timeline] = wal
            return
        segment = Segment.parse(wal.name, self.size)
        if segment is None:
            self.misnamed.append(wal)
        elif wal.kind is WalKind.SEGMENT:
            self.whole.setdefault(wal.timeline, {})[segment.number] = wal
        else:
            partials = self.partial.setdefault(wal.timeline, {})
            known = partials.get(segment.number)
            if known is None or known.valid < wal.valid:
                partials[segment.number] = wal

    @cached_property
    def timelines(self) -> list[int]:
        """Every timeline that something is stored of."""
        return sorted({*self.whole, *self.partial, *self.histories})

    def newest_number(self, timeline: int) -> int | None:
        """Give the highest segment number of *timeline*, whole or partial."""
        return max((*self.whole.get(timeline, ()), *self.partial.get(timeline, ())), default=None)

    def find(self, segment: Segment) -> WalObject | None:
        """Give the object of *segment*: whole, else the longest part of it."""
        whole = self.whole.get(segment.timeline, {}).get(segment.number)
        return whole or self.partial.get(segment.timeline, {}).get(segment.number)


def reach(span: BackupSpan, goal: int, archive: Archive, histories: Histories) -> Reach:
    """Walk from the start of a backup to the end of the timeline *goal*, or to the first gap.

    :returns: how far it goes; when *goal* does not descend from the backup's timeline, no further than the backup itself
    """
    to_lsn, newest, missing = span.start_lsn, None, None
    for segment, may_be_part in _needed(span, goal, archive, histories):
        found = _stored(archive, segment, may_be_part=may_be_part)
        if found is None:
            missing = segment
            break
        newest = max(newest, found.modified) if newest else found.modified
        to_lsn = segment.end if found.kind is WalKind.SEGMENT else segment.start + found.valid
    return Reach(backup=span.id, timeline=goal, to_lsn=to_lsn, newest=newest, missing=missing)


def audit(
    listed: Sequence[StoredObject],
    backups: Sequence[BackupSpan],
    histories: Histories,
    *,
    size: int = SEGMENT_BYTES,
    current: tuple[int, int] | None = None,
    stated: Sequence[Reached] = (),
) -> AuditReport:
    """Judge an archive.

    :param listed: everything below the archive's folder, as the store lists it
    :param backups: the kept backups
    :param histories: the contents of the history files
    :param size: bytes of a segment
    :param current: timeline and position that the live server has reached, when it is known: without it nobody can tell
        that the newest segments never arrived
    :param stated: how far the archiver says it has come; likewise, as far as that goes
    """
    objects, foreign = _sorted_out(listed)
    archive = Archive(objects, size)
    missing: dict[str, None] = {}
    reaches: list[tuple[BackupSpan, Reach]] = []
    for span in backups:
        for goal in _goals(span, archive, histories):
            writing = current[1] // size if current and current[0] == goal else None
            missing.update(
                (segment.name, None)
                for segment, may_be_part in _needed(span, goal, archive, histories, writing)
                if _stored(archive, segment, may_be_part=may_be_part) is None
            )
            found = reach(span, goal, archive, histories)
            reaches.append((span, found))
            if found.missing is None:
                missing.update((segment.name, None) for segment in _unborne(span, found, stated, size))
    oldest = min((span.timeline for span in backups), default=1)
    for timeline in archive.timelines:
        if timeline > max(oldest, 1) and timeline not in archive.histories:
            missing[history_name(timeline)] = None
    return AuditReport(
        missing=tuple(sorted(missing)),
        foreign=tuple(foreign),
        misfits=tuple(_misfits(objects, archive)),
        windows=_windows(reaches, stated),
        segments=sum(len(numbers) for numbers in archive.whole.values()),
        newest=max((wal.modified for wal in objects), default=None),
        complete_at=max((one.at for one in stated), default=None),
    )


def _sorted_out(listed: Sequence[StoredObject]) -> tuple[list[WalObject], list[str]]:
    objects, foreign = [], []
    for stored in listed:
        wal = WalObject.parse(stored)
        if wal is not None:
            objects.append(wal)
        elif not (stored.key.endswith("/wal/identity.json") or is_statement(stored.key)):
            foreign.append(stored.key)
    return sorted(objects), sorted(foreign)


def _goals(span: BackupSpan, archive: Archive, histories: Histories) -> list[int]:
    """The timelines that a backup can be rolled forward to: its own, and those that descend from it."""
    later = [timeline for timeline in sorted({*archive.timelines, *histories}) if timeline > span.timeline]
    return [
        span.timeline,
        *(t for t in later if route(span.timeline, span.start_lsn, t, histories.get(t, ())) is not None),
    ]


def _needed(
    span: BackupSpan, goal: int, archive: Archive, histories: Histories, writing: int | None = None
) -> Iterable[tuple[Segment, bool]]:
    """Every segment on the way, and whether it may be stored in part.

    :param writing: the number of the segment that the live server writes now, when *goal* is its timeline
    """
    for stretch in route(span.timeline, span.start_lsn, goal, histories.get(goal, ())) or ():
        first = stretch.start // archive.size
        if stretch.end is not None:
            # The segment that holds the fork is taken from the next timeline, which copied its beginning.
            numbers, newest = range(first, stretch.end // archive.size), None
        elif first == writing:
            return  # it is on its way
        else:
            # A backup without its own first segment is a gap, even when nothing at all was archived after it.
            newest = max(first, archive.newest_number(goal) or 0, (writing or 0) - 1)
            numbers = range(first, newest + 1)
        for number in numbers:
            at_the_end = number == newest and (writing is None or number >= writing)
            yield Segment(stretch.timeline, number, archive.size), at_the_end


def _stored(archive: Archive, segment: Segment, *, may_be_part: bool) -> WalObject | None:
    found = archive.find(segment)
    return found if found is None or may_be_part or found.kind is WalKind.SEGMENT else None


def _misfits(objects: Sequence[WalObject], archive: Archive) -> Iterable[str]:
    for wal in archive.misnamed:
        yield f"{wal.key}: no segment of {archive.size} bytes has this name"
    for wal in objects:
        if wal.bytes == 0:
            yield f"{wal.key}: it is empty"
        elif wal.kind is WalKind.PARTIAL and wal.valid > archive.size:
            yield f"{wal.key}: a part of {wal.valid} bytes is larger than a segment"


def _unborne(span: BackupSpan, found: Reach, stated: Sequence[Reached], size: int) -> Iterable[Segment]:
    """Where the archive ends before what was stated of it, on the way of a backup that needs it."""
    for one in stated:
        if one.timeline == found.timeline and span.start_lsn < one.stored and found.to_lsn < one.stored:
            yield Segment.at(found.to_lsn, one.timeline, size)


def _windows(reaches: Sequence[tuple[BackupSpan, Reach]], stated: Sequence[Reached]) -> tuple[Window, ...]:
    """Join what ends at the same place: the oldest backup of each unbroken run gives its window."""
    best: dict[tuple[int, int], Window] = {}
    for span, found in reaches:
        # Not when the newest byte was stored: an archiver that catches up stores old log late.
        times = [one.at for one in stated if one.timeline == found.timeline and found.to_lsn >= one.stored]
        times += [
            other.consistent_at
            for other, _ in reaches
            if other.timeline == found.timeline and span.stop_lsn <= other.stop_lsn <= found.to_lsn
        ]
        window = Window(
            timeline=found.timeline,
            backup=span.id,
            from_time=span.consistent_at,
            from_lsn=span.stop_lsn,
            to_time=max([span.consistent_at, *times]),
            to_lsn=max(found.to_lsn, span.stop_lsn),
        )
        key = (window.timeline, window.to_lsn)
        if key not in best or window.from_lsn < best[key].from_lsn:
            best[key] = window
    return tuple(sorted(best.values(), key=lambda window: (window.timeline, window.from_lsn)))
