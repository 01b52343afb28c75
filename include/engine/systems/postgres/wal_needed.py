"""Reads back what one backup needs of the log archive: the segments from its start to its stop, and whether the log goes on.

The backup holds that log itself, and its verification reads it there.  Recovery asks the archive first, though, and ends at a
segment that is damaged there: so a damaged one among them makes the backup useless, and one that is not there does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from include.engine.archiving import LOG
from include.engine.errors import Corrupt, MainstayError, NotFound
from include.engine.model import Check, Manifest, RecoveryPoint, Verdict
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.lsn import Segment, format_lsn, parse_lsn
from include.engine.systems.postgres.selection import choose_way
from include.engine.systems.postgres.wal_audit import Archive, Histories
from include.engine.systems.postgres.wal_objects import WalKind, WalObject, check_segment, fetch

_AT_ONCE = 4
_SHOWN = 5  # of many damaged ones

_Stored = tuple[Segment, WalObject]


def needed(detail: PostgresDetail) -> list[Segment]:
    """Give the segments from the start of a backup to its stop; after a promotion meanwhile, of both timelines.  Pure."""
    size = detail.wal_segment_bytes
    first, last = parse_lsn(detail.start_lsn) // size, max(parse_lsn(detail.stop_lsn) - 1, 0) // size
    timelines = sorted({detail.timeline, detail.stop_timeline})
    return [Segment(timeline, number, size) for timeline in timelines for number in range(first, last + 1)]


def look_at(
    bucket: Bucket,
    manifest: Manifest,
    archive: Archive,
    histories: Histories,
    *,
    identities: Sequence[str],
    go_on: Callable[[], None],
) -> list[Check]:
    """Read what the archive has of the log that *manifest* needs, and follow the log from there.

    :param identities: age secret keys; without any, what is encrypted is not read, and that is said
    :param go_on: called before each segment; raises when the work was asked to stop
    """
    wanted = needed(PostgresDetail.of(manifest))
    there = [(segment, found) for segment in wanted if (found := archive.find(segment)) is not None]
    open_ones = [(segment, found) for segment, found in there if identities or not found.key.endswith(".age")]
    unread = ""
    if len(open_ones) < len(there):
        unread = "the log that the backup needs at once was not read: it is encrypted, and no key is at hand"
    elif not there:
        unread = "the log that the backup needs at once is not in the archive, and was read in the backup alone"
    checks = (
        [_read(_Reading(bucket, manifest.source.identity, identities, go_on), manifest, open_ones)] if open_ones else []
    )
    return [*checks, _judged(manifest, archive, histories, unread)]


def _read(reading: _Reading, manifest: Manifest, there: Sequence[_Stored]) -> Check:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="read log") as pool:
        for _ in pool.map(lambda one: reading.read(*one), there):
            pass  # it raises here what was raised there
    span = f"from {there[0][0].name} to {there[-1][0].name}"
    if reading.wrong:
        more = f" and {len(reading.wrong) - _SHOWN} more" if len(reading.wrong) > _SHOWN else ""
        detail = (
            f"the log of {manifest.id} is damaged in the archive: {'; '.join(sorted(reading.wrong)[:_SHOWN])}{more}"
        )
        return Check(name=LOG, verdict=Verdict.FAIL, detail=detail)
    if reading.unread:
        detail = f"{len(reading.unread)} of {len(there)} segments {span} could not be read: {reading.unread[0]}"
        return Check(name=LOG, verdict=Verdict.UNVERIFIED, detail=detail)
    detail = f"{len(there)} archived segments {span} were read back: they are what was archived"
    return Check(name=LOG, verdict=Verdict.PASS, detail=detail)


def _judged(manifest: Manifest, archive: Archive, histories: Histories, unread: str) -> Check:
    """Say how far the archive goes on from the end of a backup.  Pure."""
    name, also = "log from there on", f"; {unread}" if unread else ""
    try:
        way = choose_way(manifest, archive, histories, RecoveryPoint())
    except NotFound as error:
        return Check(name=name, verdict=Verdict.FAIL, detail=error.message + also)
    if way.reach.newest is None:
        detail = f"nothing was archived since {manifest.id}: recovery ends with the backup itself"
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=detail + also)
    detail = f"it goes on without a gap to {format_lsn(way.reach.to_lsn)} of timeline {way.timeline}"
    return Check(name=name, verdict=Verdict.PASS, detail=detail + also)


class _Reading:
    """Reads segments on several threads and gathers what is wrong with them."""

    def __init__(self, bucket: Bucket, identity: str, identities: Sequence[str], go_on: Callable[[], None]) -> None:
        self._bucket, self._identity, self._identities, self._go_on = bucket, identity, identities, go_on
        self.wrong: list[str] = []
        self.unread: list[str] = []

    def read(self, segment: Segment, wal: WalObject) -> None:
        self._go_on()
        try:
            content = fetch(self._bucket, wal, self._identities)
            check_segment(wal.key, content, segment, self._identity, wal.valid if wal.kind is WalKind.PARTIAL else 0)
        except Corrupt as error:
            self.wrong.append(error.message)
        except MainstayError as error:
            self.unread.append(str(error))
