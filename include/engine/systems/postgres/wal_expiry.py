"""What of a log archive no kept backup needs any more.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from include.engine.systems.postgres.lsn import SEGMENT_BYTES, Segment
from include.engine.systems.postgres.wal_audit import Archive, BackupSpan
from include.engine.systems.postgres.wal_objects import WalKind, WalObject


def expired_wal(
    objects: Sequence[WalObject], kept: Sequence[BackupSpan], *, size: int = SEGMENT_BYTES
) -> tuple[WalObject, ...]:
    """Give the objects that no kept backup needs.

    A backup needs every segment from its start on, on its own timeline and on all later ones: those may descend from it.
    History files stay for ever: they are small, and without one a timeline is lost.  Without any kept backup nothing is
    expired: an empty list is rather a mistake than a wish.
    """
    if not kept:
        return ()
    archive = Archive(objects, size)
    expired = []
    for wal in objects:
        segment = None if wal.kind is WalKind.HISTORY else Segment.parse(wal.name, size)
        if segment is None:
            continue
        needed = any(
            span.timeline <= segment.timeline and Segment.at(span.start_lsn, 1, size).number <= segment.number
            for span in kept
        )
        superseded = wal.kind is WalKind.PARTIAL and archive.find(segment) != wal
        if not needed or superseded:
            expired.append(wal)
    return tuple(expired)
