"""The archive of a cluster's commit logs as the verbs see it: walked for gaps, and relieved of what no kept backup needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from include.engine.archiving import Archive
from include.engine.contracts import Clock
from include.engine.model import ArchiveReach, Check, Manifest, RecoverableWindow, Target, Verdict
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.systems.cassandra.commit_logs import (
    Newcomer,
    Reach,
    Segment,
    by_node,
    expired,
    folder_of,
    reach,
    reach_of_newcomer,
    reach_of_stranger,
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

    def reaches(
        self, manifest: Manifest, since: Sequence[Manifest] = (), ring: Mapping[str, datetime | None] = {}
    ) -> list[Reach]:
        """Follow the log of every node of a backup from the backup's moment, and of those that joined the ring since then.

        :param since: backups that were taken later: their nodes belong to the ring, whether anything of them is archived or not
        :param ring: likewise the nodes of the ring as it is now, and when each was born where that is known
        """
        return _reaches(by_node(self.segments()), _Member.of(manifest), [_Member.of(one) for one in since], ring)

    def audit(self, kept: Sequence[Manifest], clock: Clock) -> Sequence[Check]:
        """Follow the log from the oldest kept backup that was taken since it began (see ``contracts.Archive``)."""
        segments = by_node(self.segments())
        declared = [manifest for manifest in kept if detail_of(manifest).cut.archived]
        if not segments and not declared:
            return []
        if not declared:
            detail = "segments are there, and no backup that was taken since: there is nothing to begin with"
            return [Check(name="commit log", verdict=Verdict.UNVERIFIED, detail=detail)]
        newest = detail_of(declared[-1]).cut
        nodes = [
            _judged(
                node.address,
                [reach(node.host_id, segments.get(node.host_id, []), one.cut.at) for one in declared],
                clock,
            )
            for node in newest.nodes
        ]
        return [*nodes, *map(_without_log, newest.schema.unlogged())]

    def reach(self, kept: Sequence[Manifest]) -> ArchiveReach:
        """Say how far each backup can be rolled forward: as far as the logs of all nodes lead (see ``contracts.Archive``)."""
        stored = self.segments()
        if not stored:
            return ArchiveReach(verdict=Verdict.UNVERIFIED)
        windows, missing = [], []
        segments, members = by_node(stored), [_Member.of(manifest) for manifest in kept]
        for manifest, member in zip(kept, members, strict=True):
            nodes = _reaches(segments, member, members, {})
            ends = [one.until for one in nodes if one.until is not None]
            missing += [f"{one.host_id}: segment {number}" for one in nodes for number in one.missing]
            if ends and len(ends) == len(nodes):
                windows.append(_window(manifest, min(ends)))
        verdict = Verdict.FAIL if missing else Verdict.PASS if windows else Verdict.UNVERIFIED
        newest = max(segment.modified for segment in stored)
        return ArchiveReach(verdict=verdict, windows=tuple(windows), newest=newest, missing=tuple(sorted(set(missing))))

    def expire(self, kept: Sequence[Manifest], *, dry_run: bool) -> int:
        """Remove what no kept backup needs; give the bytes freed, or that would be (see ``contracts.Archive``)."""
        if not kept:
            return 0
        nodes = {node.host_id for manifest in kept for node in detail_of(manifest).cut.nodes}
        gone = expired(by_node(self.segments()), min(manifest.cut.at for manifest in kept), nodes)
        if not dry_run:
            # The oldest first: dying in the middle leaves a log that is whole from some point on.
            self.bucket.delete([segment.key for segment in sorted(gone, key=lambda one: one.number)])
        return sum(segment.bytes for segment in gone)


def open_archive(target: Target, catalog: Catalog) -> Archive:
    """Give the archive of *target*, for ``wiring``."""
    return CommitLogArchive(target, catalog.bucket)


class _Member(Struct, frozen=True):
    """What a backup says of the ring: when, its nodes, and when those were born of which that is known."""

    at: datetime
    nodes: tuple[str, ...]
    born: Mapping[str, datetime]

    @classmethod
    def of(cls, manifest: Manifest) -> _Member:
        """Read it from a manifest."""
        detail = detail_of(manifest)
        return cls(at=manifest.cut.at, nodes=tuple(node.host_id for node in detail.cut.nodes), born=detail.born)


def _reaches(
    segments: Mapping[str, Sequence[Segment]],
    backup: _Member,
    since: Sequence[_Member],
    ring: Mapping[str, datetime | None],
) -> list[Reach]:
    joined = _newcomers(backup, since, ring)
    strangers = (
        reach_of_stranger(host_id, some, backup.at)
        for host_id, some in segments.items()
        if host_id not in backup.nodes and host_id not in joined
    )
    return [
        *(reach(host_id, segments.get(host_id, []), backup.at) for host_id in backup.nodes),
        *(reach_of_newcomer(one, segments.get(host_id, []), backup.at) for host_id, one in joined.items()),
        *(one for one in strangers if one is not None),
    ]


def _newcomers(backup: _Member, since: Sequence[_Member], ring: Mapping[str, datetime | None]) -> dict[str, Newcomer]:
    """Name the nodes that joined the ring after *backup*, as far as later backups and the ring itself tell.  Pure.

    A node that a backup has not was no member when it was taken.
    """
    absent = backup.at
    found: dict[str, Newcomer] = {}

    def note(host_id: str, born: datetime | None) -> None:
        if host_id not in backup.nodes and host_id not in found:
            found[host_id] = Newcomer(host_id=host_id, not_before=absent, born=born)

    for one in sorted(since, key=lambda later: later.at):
        if one.at > backup.at:
            for host_id in one.nodes:
                note(host_id, one.born.get(host_id))
            absent = one.at
    for host_id, born in ring.items():
        note(host_id, born)
    return found


def _window(manifest: Manifest, end: datetime) -> RecoverableWindow:
    begin = manifest.cut.at
    return RecoverableWindow(
        backup=manifest.id,
        line="commit logs of all nodes",
        from_time=begin,
        to_time=max(begin, end),
        from_position=manifest.cut.position,
        to_position="",
    )


def _without_log(keyspace: str) -> Check:
    detail = (
        "durable_writes is false: no commit log holds what is written there, so no point between two backups can be reached;"
        f" ALTER KEYSPACE {keyspace} WITH durable_writes = true, or back it up as a target of its own without commitlog_archive"
    )
    return Check(name=f"commit log of keyspace {keyspace}", verdict=Verdict.FAIL, detail=detail)


def _judged(address: str, reaches: Sequence[Reach], clock: Clock) -> Check:
    name = f"commit log of {address}"
    begun = [one for one in reaches if one.until is not None]
    if not begun:
        detail = "no segment was archived before any of the backups: no point can be reached yet"
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=detail)
    newest = begun[-1]
    if newest.missing:
        named = newest.why if newest.set_back else f"segments are missing: {', '.join(map(str, newest.missing))}"
        detail = f"{named}; no point after {newest.until:%Y-%m-%d %H:%M:%SZ} can be reached until the next backup"
        return Check(name=name, verdict=Verdict.FAIL, detail=detail)
    until = newest.until
    assert until is not None
    age = (clock() - until).total_seconds()
    detail = f"{len(begun[0].segments)} segments, until {until:%Y-%m-%d %H:%M:%SZ}, {age:.0f} s ago"
    older = sorted({number for one in begun for number in one.missing})
    if older:  # a later backup has mended it: points after it are reached from that one
        detail += f"; missing before the newest backup: {', '.join(map(str, older[:5]))}"
    return Check(name=name, verdict=Verdict.PASS, detail=detail)
