"""Drill: restore into a sandbox, check, judge, measure RPO and RTO, tear down, record.  A check that could not run is no pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import NotFound
from include.engine.inventory import Objectives
from include.engine.model import (
    Check,
    Drilled,
    DrillReport,
    Position,
    Stage,
    System,
    Target,
    Verdict,
    time_of_waves,
    waves,
    worst,
)
from include.engine.store.sets import newest_set
from include.engine.store.signing import key_in
from include.engine.verbs import evidence, restore
from include.engine.verbs.pipeline import Pipeline
from include.engine.verbs.rehearsal import Rehearsals
from include.engine.verbs.restore_set import positions_of


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """What a drill restores: the parts of one set, or one backup."""

    set_id: str | None
    backups: tuple[tuple[Target, str], ...]


def choose(pipeline: Pipeline, *, target: Target | None = None, set_id: str | None = None) -> Exercise:
    """Choose what to drill: a named set, else the newest; all of its parts, or the one of *target*.

    :raises NotFound: when there is no such set, or *target* is not in it
    :raises Corrupt: when its manifest cannot be read; what is wrong with other sets does not matter
    """
    chosen = pipeline.catalog.set(set_id) if set_id else newest_set(pipeline.catalog)
    if chosen is None:
        raise NotFound("there is no set to drill", hint="run a backup first: `./mainstay backup`")
    parts = tuple((part.target, part.backup) for part in chosen.parts if target in (None, part.target))
    if not parts:
        raise NotFound(
            f"the set {chosen.id} has no part {target}",
            hint=f"it has: {', '.join(str(p.target) for p in chosen.parts)}",
        )
    return Exercise(set_id=chosen.id, backups=parts)


def drill(
    pipeline: Pipeline,
    exercise: Exercise,
    *,
    drill_id: str,
    point: str = "latest",
    progress: Progress,
    stop: Stop,
    clock: Clock,
) -> DrillReport:
    """Restore *exercise* into a sandbox, check it and record the verdict.

    Everything that happens is in the report: a restore that fails is a FAIL with its error, what the store or the sandbox
    did not allow to look at is UNVERIFIED.  Only a stop comes through as an error.
    """
    started = clock()
    signer = key_in(pipeline.signer) if pipeline.signer else None  # a damaged key is told before hours of work
    checks, asked = _of_the_set(pipeline, exercise)
    with ExitStack() as sandboxes:
        for target, backup in exercise.backups:  # of all parts: the last of them may have its turn in hours
            sandboxes.enter_context(restore.reading(pipeline, target, backup, progress=progress, clock=clock))
        seen = Rehearsals(
            pipeline=pipeline, point=point, asked=asked, sandboxes=sandboxes, progress=progress, stop=stop, clock=clock
        )
        backups = dict(exercise.backups)
        for wave in waves(backups):
            seen.bring_back({target: backups[target] for target in wave}, alone=len(backups) == 1)
    report = judge(
        drill_id=drill_id,
        exercise=exercise,
        checks=[*seen.checks, *checks] if seen.checks else [],
        stages=seen.stages,
        ages=list(seen.ages.values()),
        objectives=_objectives(pipeline, exercise),
        sizes=seen.sizes,
        started=started,
        finished=clock(),
    )
    report = _recorded(pipeline, report)
    if signer is not None:
        evidence.record(pipeline, evidence.make(pipeline, report, signer, clock=clock))
    return report


def judge(
    *,
    drill_id: str,
    exercise: Exercise,
    checks: Sequence[Check],
    stages: Mapping[Target, Sequence[Stage]],
    ages: Sequence[float | None],
    objectives: Objectives,
    sizes: Mapping[Target, int],
    started: datetime,
    finished: datetime,
) -> DrillReport:
    """Give the verdict.  Pure.

    RTO is the time of all stages that a real restore would take too, of parts that are restored side by side (:func:`to_be_back`);
    RPO is the greatest age of the newest record that came back.  Both are compared with the objectives, and an age that is not
    known leaves the RPO unverified.
    """
    complete = len(ages) == len(exercise.backups)
    rto = to_be_back(stages) if complete else None
    known = [age for age in ages if age is not None]
    rpo = max(known) if complete and len(known) == len(ages) else None
    all_checks = [*checks, _within("rto", rto, objectives.rto), _within("rpo", rpo, objectives.rpo)]
    single = exercise.backups[0] if len(exercise.backups) == 1 else (None, None)
    return DrillReport(
        id=drill_id,
        started=started,
        finished=finished,
        set_id=exercise.set_id,
        target=single[0],
        backup=single[1],
        stages=tuple(
            msgspec.structs.replace(stage, name=f"{target}: {stage.name}")
            for target, some in stages.items()
            for stage in some
        ),
        checks=tuple(all_checks),
        verdict=worst([check.verdict for check in all_checks]) if checks else Verdict.UNVERIFIED,
        bytes=sum(sizes.values()),
        parts=tuple(
            Drilled(target=target, backup=name, bytes=sizes[target], seconds=_counted(stages[target]))
            for target, name in exercise.backups
            if target in stages
        ),
        rto_seconds=rto,
        rpo_seconds=rpo,
        rto_objective=objectives.rto.total_seconds(),
        rpo_objective=objectives.rpo.total_seconds(),
    )


def to_be_back(stages: Mapping[Target, Sequence[Stage]]) -> float:
    """Give the seconds until all targets are back: of those of a wave the slowest one's, and each wave after the other.  Pure."""
    return time_of_waves({target: _counted(some) for target, some in stages.items()})


def _counted(stages: Sequence[Stage]) -> float:
    return sum(stage.seconds for stage in stages if stage.counts)


def _within(name: str, achieved: float | None, objective: timedelta) -> Check:
    limit = objective.total_seconds()
    if achieved is None:
        return Check(
            name=name, verdict=Verdict.UNVERIFIED, detail=f"could not be measured; the objective is {limit:.0f} s"
        )
    verdict = Verdict.PASS if achieved <= limit else Verdict.FAIL
    return Check(name=name, verdict=verdict, detail=f"achieved {achieved:.1f} s, the objective is {limit:.0f} s")


def _recorded(pipeline: Pipeline, report: DrillReport) -> DrillReport:
    """Store the report, and give it as it is stored: two drills of the same second get different names."""
    named, number = report, 1
    while not pipeline.catalog.record_drill(named):
        number += 1
        named = msgspec.structs.replace(report, id=f"{report.id}_{number}")  # sorts behind the first
    return named


def _of_the_set(pipeline: Pipeline, exercise: Exercise) -> tuple[list[Check], tuple[Position, ...]]:
    """Give what can be said of a set before it is restored, and what its log has to be asked about.

    A drill of one target says nothing about the pipeline, and is not held against it.
    """
    if exercise.set_id is None:
        return [], ()
    sealed = pipeline.catalog.set(exercise.set_id)
    if {target for target, _ in exercise.backups} != {part.target for part in sealed.parts}:
        return [], ()
    streams = {target for target, _ in exercise.backups if target.system is System.SPARK}
    checks = []
    if streams and sealed.consistency is None:
        detail = "it was sealed by a Mainstay that did not judge whether its parts fit together"
        checks = [Check(name="set: consistency", verdict=Verdict.UNVERIFIED, detail=detail)]
    elif streams and sealed.consistency is not None:
        checks = [msgspec.structs.replace(one, name=f"set: {one.name}") for one in sealed.consistency.checks]
    missing = sorted(str(one) for one in pipeline.targets if one.system is System.SPARK and one not in streams)
    if missing:
        detail = (
            f"{', '.join(missing)} is declared and is not in the set: nobody knows whether the pipeline would run again"
        )
        checks.append(Check(name="pipeline: stream", verdict=Verdict.UNVERIFIED, detail=detail))
    return [*checks, *_left_out(pipeline, exercise)], positions_of(sealed)


def _left_out(pipeline: Pipeline, exercise: Exercise) -> Iterator[Check]:
    """Say of a set of several targets which others the pipeline has: that these parts come back is not that it does."""
    drilled = {target for target, _ in exercise.backups}
    others = [one for one in pipeline.targets if one not in drilled and one.system is not System.SPARK]
    if others and len(drilled) > 1:
        detail = f"declared, and not in the set: {', '.join(map(str, others))}: nobody knows whether the pipeline would come back"
        yield Check(name="pipeline: targets", verdict=Verdict.UNVERIFIED, detail=detail)


def _objectives(pipeline: Pipeline, exercise: Exercise) -> Objectives:
    if len(exercise.backups) == 1 and exercise.backups[0][0] in pipeline.terms:
        return pipeline.terms[exercise.backups[0][0]].objectives
    return pipeline.objectives
