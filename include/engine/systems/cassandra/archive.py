"""The archive of a cluster's commit logs as the verbs see it: walked for gaps, and relieved of what no kept backup needs."""

from __future__ import annotations

from collections.abc import Sequence

from include.engine.contracts import Clock
from include.engine.model import Check, Manifest, Target, Verdict
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.systems.cassandra.commit_logs import (
    Reach,
    Segment,
    by_node,
    expired,
    folder_of,
    reach,
    stored_segment,
)
from include.engine.systems.cassandra.cut import detail_of


class CommitLogArchive:
    """The archive of one target (see ``contracts.Archive``).  Archiving is an option: one that was never begun is no finding."""

    def __init__(self, target: Target, bucket: Bucket) -> None:
        self.target, self.bucket = target, bucket

    def segments(self) -> list[Segment]:
        """List all segments."""
        found = (stored_segment(one.key, one.bytes) for one in self.bucket.list(folder_of(self.target)))
        return [segment for segment in found if segment is not None]

    def reaches(self, manifest: Manifest) -> list[Reach]:
        """Follow the log of every node of a backup from the backup's moment."""
        segments = by_node(self.segments())
        nodes = detail_of(manifest).cut.nodes
        return [reach(node.host_id, segments.get(node.host_id, []), manifest.cut.at) for node in nodes]

    def audit(self, kept: Sequence[Manifest], clock: Clock) -> Sequence[Check]:
        """Follow the log from the oldest kept backup that was taken since it began (see ``contracts.Archive``)."""
        segments = by_node(self.segments())
        declared = [manifest for manifest in kept if detail_of(manifest).cut.archived]
        if not segments and not declared:
            return []
        if not declared:
            detail = "segments are there, and no backup that was taken since: there is nothing to begin with"
            return [Check(name="commit log", verdict=Verdict.UNVERIFIED, detail=detail)]
        return [
            _judged(
                node.address,
                [reach(node.host_id, segments.get(node.host_id, []), one.cut.at) for one in declared],
                clock,
            )
            for node in detail_of(declared[-1]).cut.nodes
        ]

    def expire(self, kept: Sequence[Manifest], *, dry_run: bool) -> int:
        """Remove what no kept backup needs; give the bytes freed, or that would be (see ``contracts.Archive``)."""
        if not kept:
            return 0
        gone = expired(by_node(self.segments()), min(manifest.cut.at for manifest in kept))
        if not dry_run:
            # The oldest first: dying in the middle leaves a log that is whole from some point on.
            self.bucket.delete([segment.key for segment in sorted(gone, key=lambda one: one.number)])
        return sum(segment.bytes for segment in gone)


def open_archive(target: Target, catalog: Catalog) -> CommitLogArchive:
    """Give the archive of *target*, for ``wiring``."""
    return CommitLogArchive(target, catalog.bucket)


def _judged(address: str, reaches: Sequence[Reach], clock: Clock) -> Check:
    name = f"commit log of {address}"
    missing = sorted({number for one in reaches for number in one.missing})
    if missing:
        named = ", ".join(map(str, missing[:5]))
        detail = f"segments are missing: {named}; no point after them can be reached until the next backup"
        return Check(name=name, verdict=Verdict.FAIL, detail=detail)
    begun = [one for one in reaches if one.until is not None]
    if not begun:
        detail = "no segment was archived before any of the backups: no point can be reached yet"
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=detail)
    until = begun[-1].until
    assert until is not None
    age = (clock() - until).total_seconds()
    detail = f"{len(begun[0].segments)} segments without a gap, until {until:%Y-%m-%d %H:%M:%SZ}, {age:.0f} s ago"
    return Check(name=name, verdict=Verdict.PASS, detail=detail)
