"""A pipeline on paper: a real catalog in a memory bucket, and one target whose server, restores and checks are scripted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from include.engine.archiving import Archive
from include.engine.contracts import (
    BackupSource,
    Clock,
    CopyJob,
    PlanRequest,
    Rehearsal,
    RestoreEngine,
    RestoreJob,
)
from include.engine.errors import MainstayError
from include.engine.inventory import Objectives
from include.engine.model import (
    Check,
    Cut,
    Destination,
    DestinationKind,
    Kind,
    Manifest,
    RecoveryPoint,
    Restored,
    RestorePlan,
    SourceIdentity,
    Stage,
    System,
    Target,
    Verdict,
)
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.retention import Policy
from include.engine.verbs.pipeline import Pipeline, Terms

TARGET = Target(System.POSTGRES, "main")
_numbers = itertools.count()


@dataclass
class Paper:
    """The target.  Tests set what it should do."""

    target: Target = TARGET
    verdict: Verdict = Verdict.PASS
    on_copy: MainstayError | Exception | None = None
    on_release: MainstayError | None = None
    released: list[str] = field(default_factory=list)
    asked: list[PlanRequest] = field(default_factory=list)
    restored: list[RestorePlan] = field(default_factory=list)
    jobs: list[RestoreJob] = field(default_factory=list)
    checks: tuple[str, ...] = ("rows",)
    unlooked: str = "rows were not read: --no-checks"
    ahead: timedelta = timedelta()  # of its clock

    # the source

    def freeze(self, backup: str, clock: Clock) -> Cut:
        return Cut(at=clock(), position="0/16B3748")

    def copy(self, job: CopyJob) -> Manifest:
        job.progress.stage("copy", 3)
        if self.on_copy is not None:
            raise self.on_copy
        entry = job.writer.write("rows", [b"abc"], original_bytes=lambda: 30)
        job.progress.advance(3)
        now = job.clock()
        return Manifest(
            id=job.id,
            target=self.target,
            kind=Kind.FULL,
            started=now,
            finished=now,
            recoverable_from=now,
            recoverable_to=now,
            cut=job.cut,
            entries=(entry,),
            source=SourceIdentity(identity="7", version="17.10"),
        )

    def release(self, backup: str) -> None:
        self.released.append(backup)
        if self.on_release is not None:
            raise self.on_release

    def inventory_gaps(self) -> Sequence[str]:
        return ()

    # the engine

    def plan(self, request: PlanRequest) -> RestorePlan:
        self.asked.append(request)
        backup = request.backup or request.manifests[-1].id
        return RestorePlan(
            target=self.target,
            backup=backup,
            chain=(backup,),
            point=RecoveryPoint.parse(request.point),
            destination=Destination(
                kind=DestinationKind(request.destination_kind), path=request.path, name=request.server
            ),
            bytes_to_fetch=3,
            bytes_needed=30,
            steps=("fetch", "unpack"),
            would_overwrite=(request.server,) if request.server else (),
        )

    def restore(self, job: RestoreJob) -> Restored:
        self.restored.append(job.plan)
        self.jobs.append(job)
        return self._restored(job)

    @contextmanager
    def rehearse(self, job: RestoreJob) -> Iterator[Rehearsal]:
        now = job.clock()
        restored = self._restored(job)
        yield Rehearsal(restored=restored, checks=restored.checks, newest_record=now + self.ahead, newest_at_source=now)

    def by_hand(self, manifest: Manifest) -> str:
        return f"# Restore {manifest.id} by hand"

    def _restored(self, job: RestoreJob) -> Restored:
        return Restored(
            target=self.target,
            backup=job.plan.backup,
            address="127.0.0.1:1",
            recovered_to=job.clock(),
            stages=(Stage(name="fetch", seconds=1.0, bytes=3),),
            checks=tuple(Check(name=name, verdict=self.verdict, detail="as it was") for name in self.checks),
        )


@dataclass
class PaperLookup:
    """Finds the one target."""

    paper: Paper

    def source(self, target: Target) -> BackupSource:
        return self.paper

    def engine(self, target: Target) -> RestoreEngine:
        return self.paper

    def archive(self, target: Target) -> Archive | None:
        return None


def pipeline(paper: Paper) -> Pipeline:
    """A pipeline around *paper* with an empty bucket of its own."""
    return Pipeline(
        name="paper",
        terms={TARGET: Terms()},
        catalog=Catalog(Bucket.open(f"memory://paper-{next(_numbers)}")),
        lookup=PaperLookup(paper),
        policy=Policy(redundancy=1),
        objectives=Objectives(),
    )


def past(hours: float) -> datetime:
    """So many hours ago."""
    return datetime.now(UTC) - timedelta(hours=hours)
