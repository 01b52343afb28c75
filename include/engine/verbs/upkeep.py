"""Upkeep: what must be looked after between backups: garbage of dead attempts, holes in archives, a catalog that adds up."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.errors import MainstayError, TransientError
from include.engine.model import Check, Target, Verdict
from include.engine.store.sweep import ORPHAN_AGE, SweepReport, sweep
from include.engine.store.uploads import UploadsReport, abort_unfinished
from include.engine.store.verify import verify_set
from include.engine.verbs.pipeline import Pipeline


class OrphansReport(Struct, frozen=True, kw_only=True):
    """What a sweep of the whole bucket removed, or would remove."""

    targets: tuple[SweepReport, ...]
    uploads: UploadsReport

    @property
    def bytes(self) -> int:
        """Bytes that the orphans take in the store."""
        return sum(report.bytes for report in self.targets) + self.uploads.bytes


def sweep_orphans(
    pipeline: Pipeline, *, dry_run: bool, clock: Clock, older_than: timedelta = ORPHAN_AGE
) -> OrphansReport:
    """Remove what dead attempts left: objects that no manifest names, and uploads that nobody will end."""
    catalog = pipeline.catalog
    reports = [
        sweep(catalog, target, clock=clock, older_than=older_than, dry_run=dry_run) for target in catalog.targets()
    ]
    uploads = abort_unfinished(catalog, now=clock(), older_than=older_than, dry_run=dry_run)
    return OrphansReport(targets=tuple(reports), uploads=uploads)


def audit_archives(pipeline: Pipeline, *, clock: Clock) -> list[Check]:
    """Walk every target's log archive in the bucket, from its oldest backup to its end; one check or more per target."""
    checks: list[Check] = []
    for target in pipeline.targets:
        archive = pipeline.lookup.archive(target)
        if archive is None:
            continue
        try:
            checks += [_named(target, check) for check in archive.audit(pipeline.catalog.backups(target), clock)]
        except MainstayError as error:
            checks.append(_failed(f"{target}: archive", error))
    return checks


def check_catalog(pipeline: Pipeline) -> list[Check]:
    """Check that every set is whole, that its manifests can be read, and that every target of the pipeline has a backup."""
    checks: list[Check] = []
    for set_id in pipeline.catalog.bucket.folders("sets"):
        try:
            found = pipeline.catalog.find_set(set_id)
            if found is not None:
                checks += verify_set(pipeline.catalog, found)
        except MainstayError as error:
            checks.append(_failed(f"set {set_id}", error))
    for target in pipeline.targets:
        try:
            backups = pipeline.catalog.backups(target)
        except MainstayError as error:
            checks.append(_failed(f"{target}: backups", error))
            continue
        verdict = Verdict.PASS if backups else Verdict.FAIL
        detail = f"{len(backups)} backups, the newest is {backups[-1].id}" if backups else "it has no backup at all"
        checks.append(Check(name=f"{target}: backups", verdict=verdict, detail=detail))
    return checks


def _failed(name: str, error: MainstayError) -> Check:
    verdict = Verdict.UNVERIFIED if isinstance(error, TransientError) else Verdict.FAIL
    return Check(name=name, verdict=verdict, detail=str(error))


def _named(target: Target, check: Check) -> Check:
    return Check(name=f"{target}: {check.name}", verdict=check.verdict, detail=check.detail, seconds=check.seconds)
