"""Reads how safe the data is from the bucket itself, not from a job's word: sets, backups, log archives, drills, coverage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from include.engine.contracts import Clock
from include.engine.errors import Incomplete
from include.engine.model import Check, DrillReport, Manifest, Reading, SetManifest, Target, Verdict, Verification
from include.engine.probing import Once, Probe
from include.engine.store.catalog import Survey
from include.engine.store.clocks import is_ahead
from include.engine.store.drills import newest_first
from include.engine.store.proven import LastWords
from include.engine.verbs.consistency import COVERAGE
from include.engine.verbs.pipeline import Pipeline

LOOKED_BACK = 8  # backups whose manifests are read, and their verifications; those of all are upkeep's
_DOUBT = {Verdict.PASS: 0, Verdict.UNVERIFIED: 1, Verdict.FAIL: 2}

Take = Callable[[Pipeline, datetime], Sequence[Reading]]


class ProofProbe:
    """Reads one thing of the bucket (see ``probing.Probe``).

    The pipeline is opened when it reads, because the store may not answer.
    """

    def __init__(
        self,
        name: str,
        source: str,
        metrics: Sequence[str],
        take: Take,
        pipeline: Callable[[], Pipeline],
        *,
        sometimes: Sequence[str] = (),
    ) -> None:
        self.name, self.source = name, source
        self.metrics: Sequence[str] = tuple(metrics)
        self.sometimes: Sequence[str] = tuple(sometimes)
        self._take, self._pipeline = take, pipeline

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:  # noqa: ARG002 - the store has its own
        """Read it (see ``probing.Probe``)."""
        return self._take(self._pipeline(), clock())


def of_pipeline(pipeline: Callable[[], Pipeline]) -> Sequence[Probe]:
    """Give the probes of the sets and the drills."""
    return [
        ProofProbe(
            "sets",
            "the sets in the bucket",
            ("backups.sets", "backups.set.age"),
            _sets,
            pipeline,
            sometimes=("backups.set.check",),
        ),
        ProofProbe(
            "drills", "the drills in the bucket", ("backups.drill.age", "backups.drill.passed"), _drills, pipeline
        ),
    ]


def of_target(target: Target, pipeline: Callable[[], Pipeline]) -> Sequence[Probe]:
    """Give the probes of one target's backups, whose newest manifests are read once for all of them."""
    survey = Once(lambda: pipeline().catalog.survey(target, newest=LOOKED_BACK))

    def backups(opened: Pipeline, now: datetime) -> Sequence[Reading]:
        return _backups(opened, survey(), now)

    def archive(opened: Pipeline, now: datetime) -> Sequence[Reading]:
        return _archive(opened, target, survey, now)

    def coverage(opened: Pipeline, now: datetime) -> Sequence[Reading]:
        return _coverage(opened, target, now)

    given = ("backups.count", "backups.age", "backups.unreadable")
    read_back = ("backups.verified", "backups.unverified")
    log = ("backups.log.gaps", "backups.log.unproved")
    return [
        ProofProbe("backups", f"the backups of {target} in the bucket", given, backups, pipeline, sometimes=read_back),
        ProofProbe("log archive", f"the log archive of {target} in the bucket", (), archive, pipeline, sometimes=log),
        ProofProbe(
            "coverage",
            f"what {target} holds, against what its backups take",
            ("coverage.gaps",),
            coverage,
            pipeline,
            sometimes=("coverage.gap",),
        ),
    ]


def _sets(pipeline: Pipeline, now: datetime) -> Sequence[Reading]:
    names = pipeline.catalog.set_ids()
    found = [_reading("backups.sets", len(names), "sets", now)]
    if names:
        newest = pipeline.catalog.set(names[-1])
        found.append(_reading("backups.set.age", _age(f"the set {newest.id}", newest.finished, now), "s", now))
        found += _checks(newest, now)
    return found


def _checks(newest: SetManifest, now: datetime) -> Sequence[Reading]:
    """Say how each check of the newest set ended: 0 passed, 1 could not be made, 2 failed.

    What is in no backup is left out: it is read from the live systems, thing by thing (``coverage.gap``).  So are checks of logs
    whose records have all expired: they are not proved, and nobody can do anything about it.
    """
    # A set of an older Mainstay has none, and nobody knows whether its parts fit together.
    checks = newest.checks or (Check(name="all", verdict=Verdict.UNVERIFIED, detail="there are none"),)
    return [
        _reading("backups.set.check", _DOUBT[check.verdict], "1", now, check=check.name)
        for check in checks
        if check.name != COVERAGE
        and (check.verdict is not Verdict.UNVERIFIED or check.name not in newest.nothing_to_look_at)
    ]


def _drills(pipeline: Pipeline, now: datetime) -> Sequence[Reading]:
    seen: list[DrillReport] = []  # back to the newest of everything that has passed: older ones are no news
    for drill in newest_first(pipeline.catalog):
        seen.insert(0, drill)
        if whole(drill, pipeline.targets) and drill.verdict is Verdict.PASS:
            break
    count = newest(seen, pipeline.targets)
    passed = [drill for drill in seen if whole(drill, pipeline.targets) and drill.verdict is Verdict.PASS]
    found = []
    if count:
        found.append(_reading("backups.drill.passed", all(drill.verdict is Verdict.PASS for drill in count), "1", now))
    if passed:
        found.append(_reading("backups.drill.age", (now - passed[-1].finished).total_seconds(), "s", now))
    return found


def whole(drill: DrillReport, targets: Sequence[Target]) -> bool:
    """Say whether a drill was of all that there is: one of a single target proves nothing about the others.  Pure."""
    return drill.target is None or list(targets) == [drill.target]


def newest(drills: Sequence[DrillReport], targets: Sequence[Target]) -> list[DrillReport]:
    """Give the drills that count: the newest of everything, and the newest of each single target since then.  Pure."""
    found: dict[Target | None, DrillReport] = {}
    for drill in drills:
        if whole(drill, targets):
            found = {None: drill}
        elif drill.target in targets:
            found[drill.target] = drill
    return list(found.values())


def _backups(pipeline: Pipeline, survey: Survey, now: datetime) -> Sequence[Reading]:
    found = [
        _reading("backups.count", len(survey.manifests) + survey.older, "backups", now),
        _reading("backups.unreadable", len(survey.unreadable), "backups", now),
    ]
    if survey.manifests:
        newest = survey.manifests[-1]
        age = _age(f"the backup {newest.id} of {newest.target}", newest.finished, now)
        found.append(_reading("backups.age", age, "s", now))
        said = _read_back(pipeline, survey.manifests)
        if said:
            # The newest that was read back, unless an older one is known to be bad: a person may want to restore it.
            good = said[0].verdict is Verdict.PASS and all(one.verdict is not Verdict.FAIL for one in said)
            found.append(_reading("backups.verified", good, "1", now))
        waits = not said or said[0].backup != newest.id
        found.append(_reading("backups.unverified", age if waits else 0, "s", now))
    return found


def _read_back(pipeline: Pipeline, manifests: Sequence[Manifest]) -> Sequence[Verification]:
    """Give what was said last of the newest backups that were read back, newest first."""
    words = LastWords(pipeline.catalog)
    return [said for one in reversed(manifests) if (said := words.of(one.target, one.id)) is not None]


def _archive(pipeline: Pipeline, target: Target, survey: Callable[[], Survey], now: datetime) -> Sequence[Reading]:
    archive = pipeline.lookup.archive(target)
    if archive is None:
        return ()
    kept = survey().manifests[-1:]
    checks = archive.audit(kept, lambda: now)
    failed = sum(check.verdict is Verdict.FAIL for check in checks)
    unproved = sum(check.verdict is Verdict.UNVERIFIED for check in checks)
    return [
        _reading("backups.log.gaps", failed, "gaps", now),
        _reading("backups.log.unproved", unproved, "checks", now),
    ]


def _coverage(pipeline: Pipeline, target: Target, now: datetime) -> Sequence[Reading]:
    gaps = pipeline.lookup.source(target).inventory_gaps()
    found = [_reading("coverage.gaps", len(gaps), "gaps", now)]
    return [*found, *(_reading("coverage.gap", 1, "1", now, what=gap) for gap in gaps)]


def _age(what: str, at: datetime, now: datetime) -> float:
    """Give the seconds since *at*.

    :raises Incomplete: when it is to come: such an age would be within every limit, for as long as the clock was ahead
    """
    if is_ahead(at, now):
        raise Incomplete(
            f"{what} is stamped {at:%Y-%m-%d %H:%M:%SZ}, which is to come: nobody knows how old it is",
            hint="set the clock of the worker that wrote it, or this one's, and take a new set",
        )
    return (now - at).total_seconds()


def _reading(metric: str, value: float, unit: str, now: datetime, **labels: str) -> Reading:
    return Reading(metric=metric, value=float(value), unit=unit, at=now, labels=labels)
