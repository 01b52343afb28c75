"""Expire what no reason keeps: sets, their backups, and the log archive that only they needed."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.model import SetManifest
from include.engine.store import expiry
from include.engine.store.expiry import Expired, ExpiryPlan, Reasons
from include.engine.store.locks import ObjectLocks
from include.engine.verbs.pipeline import Pipeline


class ExpiryReport(Struct, frozen=True, kw_only=True):
    """What expiry did, or would do."""

    plan: ExpiryPlan
    done: Expired | None  # None for a dry run
    archive_bytes: dict[str, int]  # log archive freed (or that would be), by str(target)


def plan(pipeline: Pipeline, *, clock: Clock) -> ExpiryPlan:
    """Give the reason for everything that is kept, and what would go.  Changes nothing."""
    locks = ObjectLocks.of(pipeline.catalog.bucket) if pipeline.lock else None
    return expiry.plan_expiry(
        pipeline.catalog, pipeline.policy, clock(), locked_until=locks.locked_until if locks else None
    )


def kept_sets(pipeline: Pipeline, found: Sequence[SetManifest], *, clock: Clock) -> Reasons:
    """Give the reasons of the sets that stay, as :func:`plan` gives them, from the manifests of all sets alone."""
    locks = ObjectLocks.of(pipeline.catalog.bucket) if pipeline.lock else None
    return expiry.kept_sets(
        pipeline.catalog, pipeline.policy, clock(), found, locked_until=locks.locked_until if locks else None
    )


def expire(pipeline: Pipeline, *, dry_run: bool, clock: Clock) -> ExpiryReport:
    """Remove what no reason keeps; with *dry_run*, only say what would go."""
    planned = plan(pipeline, clock=clock)
    done = None if dry_run else expiry.apply(pipeline.catalog, planned)
    archive_bytes: dict[str, int] = {}
    for target in pipeline.catalog.targets():
        archive = pipeline.lookup.archive(target)
        if archive is None:
            continue  # its manifests decide nothing any more, and may be large: they are not read again
        # What the store refused to delete is still there and still needs its log.
        kept = planned.kept.get(str(target), ()) if done is None else pipeline.catalog.backups(target)
        if kept:
            archive_bytes[str(target)] = archive.expire(kept, dry_run=dry_run)
    return ExpiryReport(plan=planned, done=done, archive_bytes=archive_bytes)
