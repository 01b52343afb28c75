"""The sandboxes of a drill: parts restored side by side, as a real restore of a set does, and the stream resumed among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from include.engine.contracts import Clock, Progress, Rehearsal, RestoreJob, Stop
from include.engine.errors import MainstayError, TransientError, Unsupported
from include.engine.model import (
    Check,
    DestinationKind,
    PointKind,
    Position,
    RestorePlan,
    Stage,
    System,
    Target,
    Verdict,
)
from include.engine.replaying import Resumes
from include.engine.verbs import restore
from include.engine.verbs.beside import beside_each_other
from include.engine.verbs.pipeline import Pipeline

_CLOCKS_DIFFER = 5.0  # seconds by which a record may be newer than the loss: what two good clocks and a request explain


@dataclass
class Rehearsals:
    """What was restored so far, still up, and what was seen of it.

    Everything that happens becomes a check: a restore that fails is a FAIL with its error, what the store or the sandbox did
    not allow to look at is UNVERIFIED.  Only a stop comes through as an error.

    :param asked: what a restored log is asked about (see ``contracts.RestoreJob``)
    :param sandboxes: holds what is up until the drill is over
    """

    pipeline: Pipeline
    point: str
    asked: Sequence[Position]
    sandboxes: ExitStack
    progress: Progress
    stop: Stop
    clock: Clock
    checks: list[Check] = field(default_factory=list)
    stages: dict[Target, tuple[Stage, ...]] = field(default_factory=dict)
    ages: dict[Target, float | None] = field(default_factory=dict)
    sizes: dict[Target, int] = field(default_factory=dict)
    up: dict[Target, tuple[RestorePlan, Rehearsal]] = field(default_factory=dict)

    def bring_back(self, wave: Mapping[Target, str], *, alone: bool) -> None:
        """Restore one wave of backups (see ``model.waves``), and run its streams again beside what is up.

        :param alone: there is no other wave, so that a stream has nothing to run beside: only its checkpoint is restored
        """
        self.stop.check()
        streams = {target: name for target, name in wave.items() if target.system is System.SPARK and not alone}
        self.restore({target: name for target, name in wave.items() if target not in streams})
        for target, name in streams.items():
            self.resume(target, name)

    def restore(self, backups: Mapping[Target, str]) -> None:
        """Restore *backups* side by side, each into a sandbox of its own, and check them."""
        jobs: dict[Target, RestoreJob] = {}
        for target, backup in backups.items():
            try:
                jobs[target] = self._job(target, backup)
            except MainstayError as error:
                self._failed(target, error)

        def one(target: Target, progress: Progress) -> Rehearsal | MainstayError:
            job = msgspec.structs.replace(jobs[target], progress=progress)
            if target.system is System.KAFKA:
                job = msgspec.structs.replace(job, positions=tuple(self.asked))
            try:
                return self.sandboxes.enter_context(self.pipeline.lookup.engine(target).rehearse(job))
            except MainstayError as error:
                return error

        disaster = self.clock() if self.point == str(PointKind.LATEST) else None
        sizes = {target: job.plan.bytes_to_fetch for target, job in jobs.items()}
        for target, found in beside_each_other(sizes, one, what="restore", progress=self.progress).items():
            if isinstance(found, MainstayError):
                self._failed(target, found)
                continue
            self.up[target] = (jobs[target].plan, found)
            self._saw(target, found.checks, found.restored.stages)
            self.ages[target] = self._age(target, found, disaster)

    def resume(self, target: Target, backup: str) -> None:
        """Run the stream *target* again, beside the log that it reads and the tables that it writes to."""
        engine = self.pipeline.lookup.engine(target)
        log = self._log_of(target, backup)
        tables = [one for one in sorted(self.up) if one.system is System.CASSANDRA]
        reads = self.up[log][1] if log is not None else None
        writes = self.up[tables[0]][1] if len(tables) == 1 else None
        if not isinstance(engine, Resumes):
            self._unproved(target, "this Mainstay cannot run it again")
            return
        if log is None or reads is None or reads.connection is None:
            self._unproved(target, "the log that it reads did not come back")
            return
        if writes is None or writes.connection is None:
            self._unproved(target, "the tables that it writes to did not come back, or there are several")
            return
        try:
            job = msgspec.structs.replace(self._job(target, backup), moved=reads.restored.moved)
            resumed = self.sandboxes.enter_context(engine.resume(job, log=reads.connection, tables=writes.connection))
        except Unsupported as error:  # it could not be tried here: that says nothing about the backup
            self._unproved(target, str(error))
            return
        except MainstayError as error:
            self._failed(target, error)
            return
        self._saw(target, resumed.checks, resumed.restored.stages)
        # What it had not read when it was frozen is in the log: the pipeline has lost what the log has lost.
        self.ages[target] = self.ages[log]

    def _job(self, target: Target, backup: str) -> RestoreJob:
        plan = restore.plan(
            self.pipeline,
            target,
            point=self.point,
            backup=backup,
            destination=DestinationKind.SANDBOX,
            rehearsal=True,
        )
        self.sizes[target] = plan.bytes_to_fetch
        return restore.job(self.pipeline, plan, progress=self.progress, stop=self.stop, clock=self.clock)

    def _log_of(self, target: Target, backup: str) -> Target | None:
        catalog = self.pipeline.catalog
        topics = set(catalog.backup(target, backup).cut.offsets)
        logs = [one for one in sorted(self.up) if one.system is System.KAFKA]
        return next(
            (one for one in logs if topics <= set(catalog.backup(one, self.up[one][0].backup).cut.offsets)), None
        )

    def _age(self, target: Target, found: Rehearsal, disaster: datetime | None) -> float | None:
        """Give how old the newest record was when the source was lost; None when that is not known."""
        lost_at = found.newest_at_source or disaster
        if found.newest_record is None or lost_at is None:
            return None
        age = (lost_at - found.newest_record).total_seconds()
        if age < -_CLOCKS_DIFFER:
            detail = (
                f"the newest record is {-age:.0f} s newer than the moment of the loss: the clocks of the source and of this "
                "machine differ, so nothing can be said of what was lost; set both by NTP and drill a backup taken after that"
            )
            self.checks.append(Check(name=f"{target}: clocks", verdict=Verdict.UNVERIFIED, detail=detail))
            return None
        return max(0.0, age)

    def _unproved(self, target: Target, why: str) -> None:
        self.checks.append(Check(name=f"{target}: resume", verdict=Verdict.UNVERIFIED, detail=why))

    def _failed(self, target: Target, error: MainstayError) -> None:
        self.stop.check()
        # What cannot be done on this machine (a version, a locale) says nothing about the backup.
        verdict = Verdict.UNVERIFIED if isinstance(error, TransientError | Unsupported) else Verdict.FAIL
        self.checks.append(Check(name=f"{target}: restore", verdict=verdict, detail=str(error)))

    def _saw(self, target: Target, checks: Sequence[Check], stages: Sequence[Stage]) -> None:
        self.checks += [msgspec.structs.replace(check, name=f"{target}: {check.name}") for check in checks]
        self.stages[target] = tuple(stages)
