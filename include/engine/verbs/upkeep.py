"""Upkeep: what must be looked after between backups: garbage of dead attempts, holes in archives, a catalog that adds up."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from include.engine.archiving import ReadsBack
from include.engine.contracts import Clock
from include.engine.errors import MainstayError, TransientError
from include.engine.model import Check, SetManifest, Target, Verdict
from include.engine.store import documents
from include.engine.store.commits import Commits
from include.engine.store.sweep import ORPHAN_AGE, SweepReport, sweep
from include.engine.store.uploads import UploadsReport, abort_unfinished
from include.engine.store.verify import verify_set
from include.engine.verbs.pipeline import Pipeline, Terms

_STATED_EVERY = timedelta(minutes=1)  # a statement is news twice a minute, and takes a moment


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
    """Remove what dead attempts left: objects that no manifest names, and uploads that nobody will end.

    Tries every target before it raises the first error: a damaged manifest of one must not fill the store with those of others.
    """
    catalog = pipeline.catalog
    reports: list[SweepReport] = []
    errors: list[MainstayError] = []
    for target in catalog.targets():
        try:
            reports.append(sweep(catalog, target, clock=clock, older_than=older_than, dry_run=dry_run))
        except MainstayError as error:
            errors.append(error)
    uploads = abort_unfinished(catalog, now=clock(), older_than=older_than, dry_run=dry_run)
    if errors:
        raise errors[0]
    return OrphansReport(targets=tuple(reports), uploads=uploads)


def audit_archives(pipeline: Pipeline, *, clock: Clock) -> list[Check]:
    """Walk every target's log archive in the bucket, from its oldest backup to its end; one check or more per target.

    A part of it is read back, and what its archiver has stated last is held against the RPO.
    """
    checks: list[Check] = []
    for target in pipeline.targets:
        archive = pipeline.lookup.archive(target)
        if archive is None:
            continue
        try:
            backups = pipeline.catalog.backups(target)
            found = [*archive.audit(backups, clock)]
            terms = pipeline.terms.get(target, Terms())
            if isinstance(archive, ReadsBack):
                found += archive.read_back(terms.identities, clock)
            found += judge_age(archive.reach(backups[-1:]).complete_at, terms.objectives.rpo, clock())
            checks += [_named(target, check) for check in found]
        except MainstayError as error:
            checks.append(_failed(f"{target}: archive", error))
    return checks


def judge_age(complete_at: datetime | None, rpo: timedelta, now: datetime) -> list[Check]:
    """Hold the last moment at which the archive was stated to have everything against the RPO; nothing without one.  Pure."""
    if complete_at is None:
        return []
    age = now - complete_at
    verdict = Verdict.PASS if age <= rpo + _STATED_EVERY else Verdict.FAIL
    detail = f"{age.total_seconds():.0f} s ago it had everything that was committed; the objective is {rpo.total_seconds():.0f} s"
    return [Check(name="archive rpo", verdict=verdict, detail=detail)]


def check_catalog(pipeline: Pipeline) -> list[Check]:
    """Check that every set is whole, that its manifests can be read, and that every target of the pipeline has a backup.

    Every manifest is read once.
    """
    catalog, commits = pipeline.catalog, Commits(pipeline.catalog)

    def read(set_id: str) -> SetManifest | MainstayError | None:
        try:
            return catalog.find_set(set_id)
        except MainstayError as error:
            return error

    names = catalog.bucket.folders("sets")
    sets = dict(zip(names, documents.each(names, read), strict=True))
    commits.learn(part.manifest_key for one in sets.values() if isinstance(one, SetManifest) for part in one.parts)
    checks: list[Check] = []
    for set_id, found in sets.items():
        if isinstance(found, MainstayError):
            checks.append(_failed(f"set {set_id}", found))
        elif found is not None:
            checks += verify_set(commits, found)
    return [*checks, *(_check_backups(commits, target) for target in pipeline.targets)]


def _check_backups(commits: Commits, target: Target) -> Check:
    name = f"{target}: backups"
    try:
        backups = commits.backups(target)
    except MainstayError as error:
        return _failed(name, error)
    verdict = Verdict.PASS if backups else Verdict.FAIL
    detail = f"{len(backups)} backups, the newest is {backups[-1]}" if backups else "it has no backup at all"
    return Check(name=name, verdict=verdict, detail=detail)


def _failed(name: str, error: MainstayError) -> Check:
    verdict = Verdict.UNVERIFIED if isinstance(error, TransientError) else Verdict.FAIL
    return Check(name=name, verdict=verdict, detail=str(error))


def _named(target: Target, check: Check) -> Check:
    return Check(name=f"{target}: {check.name}", verdict=check.verdict, detail=check.detail, seconds=check.seconds)
