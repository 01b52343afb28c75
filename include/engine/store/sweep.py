"""Sweep: remove objects that no manifest names.  Mark and sweep, where every doubt keeps.

Two kinds of object are looked at: those of attempts (``<system>/<name>/backups/<id>/<attempt>/…``), and those that backups
share (``<system>/<name>/objects/…``).  Manifests, WAL and everything else is none of a sweep's business.

The order is what makes it safe: objects are listed first, then leases and manifests are read.  What appears meanwhile was
not listed, and a manifest that is committed meanwhile is seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.model import Target
from include.engine.store.bucket import StoredObject
from include.engine.store.catalog import Catalog
from include.engine.store.lease import LEASE, attempt_of, live_leases, sweeping

ORPHAN_AGE = timedelta(hours=48)
_BATCH = 1000


class SweepReport(Struct, frozen=True, kw_only=True):
    """What a sweep of one target removed, or would remove."""

    target: Target
    dry_run: bool
    orphans: tuple[StoredObject, ...]  # no manifest names them; removed unless dry_run, refused or left
    held: tuple[str, ...]  # live leases, whose attempts were left alone
    refused: tuple[str, ...] = ()  # keys that the store would not delete
    left: int = 0  # orphans for the next sweep: the time was up

    @property
    def bytes(self) -> int:
        """Bytes that the orphans take."""
        return sum(orphan.bytes for orphan in self.orphans)


def sweep(
    catalog: Catalog, target: Target, *, clock: Clock, older_than: timedelta = ORPHAN_AGE, dry_run: bool = True
) -> SweepReport:
    """Remove what attempts of *target* left that came to nothing, and shared objects that no backup names any more.

    :param older_than: by the store's own clock; an attempt is as old as its youngest object
    :raises Corrupt: when a manifest cannot be read: it might name what would be removed, so nothing is
    :raises Unsupported: when a newer Mainstay wrote one, likewise
    :raises Contended: when another sweep removes shared objects of this target
    """
    bucket = catalog.bucket
    attempts = [found for found in bucket.list(f"{target}/backups") if attempt_of(found.key)]
    shared = list(bucket.list(f"{target}/objects"))
    leases = live_leases(bucket, target, clock())
    named = _named(catalog, target)
    before = clock() - older_than
    dead = orphans(attempts, named=named, held=leases, before=before)
    unused = [] if leases else orphans(shared, named=named, held=(), before=before)
    refused: list[str] = []
    left = 0
    if not dry_run:
        # The lease last: until then an attempt that is half removed can be told from one that never was.
        dead.sort(key=lambda found: (found.key.endswith(f"/{LEASE}"), found.key))
        refused += bucket.delete_allowed(found.key for found in dead)
        if unused:
            unused, more, left = _sweep_shared(catalog, target, unused, clock)
            refused += more
    return SweepReport(
        target=target,
        dry_run=dry_run,
        orphans=(*dead, *unused),
        held=tuple(str(lease) for lease in leases.values()),
        refused=tuple(refused),
        left=left,
    )


def orphans(
    listed: Iterable[StoredObject], *, named: Collection[str], held: Collection[str], before: datetime
) -> list[StoredObject]:
    """Give the objects that nobody needs.  Pure.

    :param named: keys that manifests name
    :param held: folders of attempts with a live lease
    :param before: an attempt with an object that is not older may still be running, lease or not
    """
    groups: dict[str, list[StoredObject]] = defaultdict(list)
    for found in listed:
        groups[attempt_of(found.key) or found.key].append(found)
    return [
        found
        for folder, group in groups.items()
        if folder not in held and max(one.modified for one in group) < before
        for found in group
        if found.key not in named
    ]


def _sweep_shared(
    catalog: Catalog, target: Target, unused: Sequence[StoredObject], clock: Clock
) -> tuple[list[StoredObject], list[str], int]:
    refused: list[str] = []
    with sweeping(catalog.bucket, target, clock=clock) as (leases, until):
        if leases:
            return [], [], len(unused)
        # Whoever had a lease until now has committed: only now does the mark count.
        named = _named(catalog, target)
        still = [found for found in unused if found.key not in named]
        done = 0
        while done < len(still) and clock() < until:
            refused += catalog.bucket.delete_allowed(found.key for found in still[done : done + _BATCH])
            done += _BATCH
    return still, refused, max(0, len(still) - done)


def _named(catalog: Catalog, target: Target) -> frozenset[str]:
    return frozenset(entry.key for manifest in catalog.each_backup(target) for entry in manifest.entries)
