"""What the overview shows: read from the bucket once, then decided by pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.engine.errors import MainstayError
from include.engine.inventory import Objectives
from include.engine.model import DrillReport, Manifest, RestoreRecord, SetManifest, Target, Verdict, Verification, worst
from include.engine.verbs.pipeline import Pipeline

NEWEST = 30  # sets, drills and restores that are shown
PROOF_LASTS = timedelta(days=8)  # a drill every week, and a day to notice that there was none


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the last drill proves today, and why."""

    verdict: Verdict
    why: str
    drill: DrillReport | None = None


@dataclass(frozen=True, kw_only=True)
class TargetRow:
    """One target of the inventory."""

    target: Target
    objectives: Objectives
    newest: Manifest | None
    age: timedelta | None
    has_log: bool  # a log archive carries on where the newest backup ends
    freshness: Verdict
    proof: Proof


@dataclass(frozen=True, kw_only=True)
class SetRow:
    """One backup set."""

    id: str
    manifest: SetManifest | None  # None when it cannot be read
    problem: str = ""
    verified: Verdict = Verdict.UNVERIFIED
    proof: Verdict | None = None  # of its newest drill, however old; None when it was never drilled
    kept_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The whole page."""

    pipeline: str
    store: str
    now: datetime
    targets: Sequence[TargetRow]
    sets: Sequence[SetRow]  # newest first
    drills: Sequence[DrillReport]  # newest first
    restores: Sequence[RestoreRecord]  # newest first

    @property
    def verdict(self) -> Verdict:
        """What can be said of the pipeline as a whole."""
        return worst([verdict for row in self.targets for verdict in (row.proof.verdict, row.freshness)])


def read(pipeline: Pipeline, now: datetime) -> Overview:
    """Read what the overview shows.

    :raises Unreachable: the store did not answer
    """
    catalog = pipeline.catalog
    drills = catalog.drills()
    names = catalog.bucket.folders("sets")[-NEWEST:]
    return Overview(
        pipeline=pipeline.name,
        store=catalog.bucket.url,
        now=now,
        targets=[_target_row(pipeline, target, drills, now) for target in pipeline.targets],
        sets=[row for row in (_set_row(pipeline, name, drills) for name in reversed(names)) if row is not None],
        drills=drills[: -NEWEST - 1 : -1],
        restores=catalog.restores()[: -NEWEST - 1 : -1],
    )


def proof(drills: Iterable[DrillReport], target: Target, now: datetime) -> Proof:
    """Say what the newest drill that had *target* in it proves today.  Pure: an old PASS proves nothing any more."""
    last = max((one for one in drills if one.target in (None, target)), key=lambda one: one.finished, default=None)
    if last is None:
        return Proof(verdict=Verdict.UNVERIFIED, why="never drilled")
    if last.verdict is Verdict.PASS and now - last.finished > PROOF_LASTS:
        return Proof(verdict=Verdict.UNVERIFIED, why=f"last drilled {(now - last.finished).days} days ago", drill=last)
    return Proof(verdict=last.verdict, why="last drill", drill=last)


def freshness(age: timedelta | None, rpo: timedelta, *, has_log: bool) -> Verdict:
    """Say whether the newest backup is young enough.  Pure.

    With a log archive the age of the backup says nothing about what would be lost; the drill's RPO does, and it is part of
    the proof.  Without one, all that is younger than the backup is lost.
    """
    if age is None:
        return Verdict.FAIL
    return Verdict.PASS if has_log or age <= rpo else Verdict.FAIL


def verified(found: Sequence[Verification | None]) -> Verdict:
    """Join what was found when the parts of a set were read back.  Pure: a part that was never read back is unverified."""
    return worst([one.verdict if one else Verdict.UNVERIFIED for one in found])


def _target_row(pipeline: Pipeline, target: Target, drills: Sequence[DrillReport], now: datetime) -> TargetRow:
    backups = pipeline.catalog.survey(target).manifests
    newest = backups[-1] if backups else None
    age = now - newest.recoverable_to if newest else None
    objectives = pipeline.terms[target].objectives
    has_log = pipeline.lookup.archive(target) is not None
    return TargetRow(
        target=target,
        objectives=objectives,
        newest=newest,
        age=age,
        has_log=has_log,
        freshness=freshness(age, objectives.rpo, has_log=has_log),
        proof=proof(drills, target, now),
    )


def _set_row(pipeline: Pipeline, set_id: str, drills: Sequence[DrillReport]) -> SetRow | None:
    catalog = pipeline.catalog
    try:
        manifest = catalog.find_set(set_id)
        if manifest is None:  # frozen, and not sealed (yet)
            return None
        kept = catalog.kept(set_id)
        found = [catalog.last_verification(part.target, part.backup) for part in manifest.parts]
    except MainstayError as error:  # one damaged manifest must not hide the others
        return SetRow(id=set_id, manifest=None, problem=error.message, verified=Verdict.FAIL)
    return SetRow(
        id=set_id,
        manifest=manifest,
        verified=verified(found),
        proof=next((one.verdict for one in reversed(drills) if one.set_id == set_id), None),
        kept_by=f"{kept.by}: {kept.reason}" if kept else "",
    )
