"""The WAL archive of a target as the verbs see it: walked for gaps, and relieved of what no kept backup needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from include.engine.contracts import Clock
from include.engine.model import ArchiveReach, Check, Manifest, RecoverableWindow, Target, Verdict
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.systems.postgres.lsn import SEGMENT_BYTES, format_lsn, parse_history
from include.engine.systems.postgres.reached import statements
from include.engine.systems.postgres.selection import span_of
from include.engine.systems.postgres.wal_audit import Archive, AuditReport, Histories, audit
from include.engine.systems.postgres.wal_expiry import expired_wal
from include.engine.systems.postgres.wal_needed import look_at
from include.engine.systems.postgres.wal_objects import WalKind, WalObject, fetch, identity_of, list_wal, wal_folder
from include.engine.systems.postgres.wal_sample import read_back

_SHOWN = 10  # of many gaps, in a check's detail


class WalArchive:
    """The archive of one target (see ``archiving.Archive``)."""

    def __init__(self, target: Target, bucket: Bucket) -> None:
        self.target, self.bucket = target, bucket

    def report(self, kept: Sequence[Manifest], *, current: tuple[int, int] | None = None) -> AuditReport:
        """Walk the archive.

        :param current: timeline and position of the live server, when they are known
        :raises Corrupt: naming a history file that is damaged
        """
        stated = statements(self.bucket, self.target)  # first: whatever they are about is listed afterwards
        listed = list(self.bucket.list(wal_folder(self.target)))
        spans = [span_of(manifest) for manifest in kept]
        objects = [wal for wal in map(WalObject.parse, listed) if wal is not None]
        histories = read_histories(self.bucket, objects)
        return audit(listed, spans, histories, size=self._segment_size(), current=current, stated=stated)

    def reach(self, kept: Sequence[Manifest]) -> ArchiveReach:
        """Say how far each kept backup can be rolled forward (see ``archiving.Archive``)."""
        report = self.report(kept)
        return ArchiveReach(
            verdict=report.verdict,
            windows=tuple(
                RecoverableWindow(
                    backup=window.backup,
                    line=f"timeline {window.timeline}",
                    from_time=window.from_time,
                    to_time=window.to_time,
                    from_position=format_lsn(window.from_lsn),
                    to_position=format_lsn(window.to_lsn),
                )
                for window in report.windows
            ),
            newest=report.newest,
            complete_at=report.complete_at,
            missing=report.missing,
        )

    def audit(self, kept: Sequence[Manifest], clock: Clock) -> Sequence[Check]:
        """Walk the archive from each kept backup to its end; name every gap (see ``archiving.Archive``)."""
        report = self.report(kept)
        if not report.segments and report.newest is None:
            detail = "nothing was ever archived: recovery to a point between two backups is impossible"
            return [Check(name="archive", verdict=Verdict.UNVERIFIED, detail=detail)]
        checks = [Check(name="archive", verdict=report.verdict, detail="; ".join(_told(report)))]
        if report.newest is not None:
            age = (clock() - report.newest).total_seconds()
            detail = f"the newest object is {age:.0f} s old"
            if report.complete_at is not None:
                known = (clock() - report.complete_at).total_seconds()
                detail += f"; {known:.0f} s ago it had everything that the server had written"
            checks.append(Check(name="archive age", verdict=Verdict.PASS, detail=detail))
        return checks

    def expire(self, kept: Sequence[Manifest], *, dry_run: bool) -> int:
        """Remove what no kept backup needs; give the bytes freed, or that would be (see ``archiving.Archive``)."""
        objects = list_wal(self.bucket, self.target)
        expired = expired_wal(objects, [span_of(manifest) for manifest in kept], size=self._segment_size())
        if not dry_run:
            # The oldest first: dying in the middle leaves an archive that is whole from some point on.
            self.bucket.delete([wal.key for wal in expired])
        return sum(wal.bytes for wal in expired)

    def read_back(self, identities: Sequence[str], clock: Clock) -> Sequence[Check]:
        """Read a part of the archive back (see ``archiving.ReadsBack``)."""
        return read_back(self.bucket, self.target, identities, clock())

    def read_log_of(self, manifest: Manifest, identities: Sequence[str], go_on: Callable[[], None]) -> Sequence[Check]:
        """Read what a backup needs of the log back, and follow it from there (see ``archiving.ReadsLogOf``)."""
        objects = list_wal(self.bucket, self.target)
        if not objects:
            return []
        archive = Archive(objects, self._segment_size())
        histories = read_histories(self.bucket, objects)
        return look_at(self.bucket, manifest, archive, histories, identities=identities, go_on=go_on)

    def _segment_size(self) -> int:
        identity = identity_of(self.bucket, self.target)
        return identity.wal_segment_size if identity else SEGMENT_BYTES


def read_histories(bucket: Bucket, objects: Sequence[WalObject]) -> Histories:
    """Read the history files of an archive.  They are stored in the clear, so this needs no key.

    :raises Corrupt: naming one that is damaged
    """
    return {
        wal.timeline: parse_history(fetch(bucket, wal, ()).decode(errors="replace"), where=wal.key)
        for wal in objects
        if wal.kind is WalKind.HISTORY
    }


def open_archive(target: Target, catalog: Catalog) -> WalArchive:
    """Give the archive of *target*, for ``wiring``."""
    return WalArchive(target, catalog.bucket)


def _told(report: AuditReport) -> Iterator[str]:
    for what, names in (
        ("missing", report.missing),
        ("not of the archive", report.foreign),
        ("wrong", report.misfits),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"{what}: {', '.join(names[:_SHOWN])}{more}"
    yield f"{report.segments} segments"
    yield from (f"recoverable {window}" for window in report.windows)
