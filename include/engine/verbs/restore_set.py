"""Restore a set: every part planned together, restored in the order in which one needs the other, judged together.

A log (Kafka) gets new offsets when it is restored.  What reads it (a stream's checkpoint) is restored after it, and is told
where its positions are now: they travel as data, so no system knows another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import MainstayError, Misconfigured, NotFound, Refused, TransientError
from include.engine.model import (
    Check,
    DestinationKind,
    Moved,
    Position,
    Restored,
    RestorePlan,
    SetManifest,
    SetPlan,
    SetRestored,
    System,
    Target,
    backup_time,
    waves,
)
from include.engine.replaying import Rests
from include.engine.store.sets import newest_set
from include.engine.verbs import restore
from include.engine.verbs.beside import beside_each_other
from include.engine.verbs.pipeline import Pipeline
from include.engine.verbs.wishes import Wish, Wishes

LATEST = "latest-set"
_PREFIX = "set/"


def is_set(word: str) -> bool:
    """Whether *word* names a set rather than a target."""
    return word == LATEST or word.startswith(_PREFIX)


def find(pipeline: Pipeline, word: str) -> SetManifest:
    """Give the set that ``set/<id>`` or ``latest-set`` names.

    :raises NotFound: when there is none
    """
    if word in (LATEST, f"{_PREFIX}latest"):
        newest = newest_set(pipeline.catalog)
        if newest is None:
            raise NotFound(
                f"{pipeline.catalog.bucket.url} holds no set", hint="check the URL; `./mainstay catalog` lists all"
            )
        return newest
    set_id = word.removeprefix(_PREFIX)
    backup_time(set_id)
    return pipeline.catalog.set(set_id)


def plan(
    pipeline: Pipeline, manifest: SetManifest, wishes: Wishes, *, point: str = "latest", clock: Clock | None = None
) -> SetPlan:
    """Say what the restore of a set would do, all parts together.  Changes nothing.

    :param point: ``latest``, each part as far as its log reaches, or ``backup``, each part at the end of its backup
    :raises Refused: naming every part that cannot be restored, and why
    """
    if point not in ("latest", "backup"):
        raise Misconfigured(
            f"a set is restored to the point that it stands for, not to {point}",
            hint="use latest or backup; to reach another point, restore the target that needs it by itself",
        )
    backups = {part.target: part.backup for part in manifest.parts}
    asked = wishes.of_parts(sorted(backups))
    plans: list[RestorePlan] = []
    wrong: dict[Target, MainstayError] = {}
    for target in (target for wave in waves(asked) for target in wave):
        try:
            plans.append(
                restore.plan_wish(pipeline, target, asked[target], point=point, backup=backups[target], clock=clock)
            )
        except MainstayError as error:
            wrong[target] = error
    if wrong:
        raise _together(manifest, wrong)
    _require_apart(plans)
    require_topics(manifest, asked)
    return SetPlan(set_id=manifest.id, parts=tuple(plans), warnings=_warnings(manifest, asked))


def restore_set(
    pipeline: Pipeline,
    plan: SetPlan,
    *,
    reason: str,
    by: str,
    progress: Progress,
    stop: Stop,
    clock: Clock,
    checks: bool = True,
) -> SetRestored:
    """Do what *plan* says, the parts of a wave side by side, and judge all of them.

    A part that fails ends it, when those beside it have ended: what was restored stays, and the records in the bucket say how
    each part ended.

    :raises Refused: without a reason
    :raises NotFound: when retention has removed the set or a backup since it was planned; nothing was touched then
    """
    restore.require_reason(reason)
    parts = {part.target: part for part in plan.parts}
    done: list[Restored] = []
    with ExitStack() as held:
        for part in plan.parts:  # all of them: the last one may have its turn in hours
            held.enter_context(restore.reading(pipeline, part.target, part.backup, progress=progress, clock=clock))
        _require_there(pipeline, plan)
        rest(pipeline, plan.parts, clock=clock)
        for wave in waves(parts):
            stop.check()
            moved = [one for restored in done for one in restored.moved]

            def one(target: Target, progress: Progress, moved: Sequence[Moved] = moved) -> Restored:
                return restore_part(
                    pipeline,
                    plan.set_id,
                    parts[target],
                    moved=moved,
                    reason=reason,
                    by=by,
                    progress=progress,
                    stop=stop,
                    clock=clock,
                    checks=checks,
                )

            sizes = {target: parts[target].bytes_to_fetch for target in wave}
            done += beside_each_other(sizes, one, what="restore", progress=progress).values()
    return SetRestored(set_id=plan.set_id, parts=tuple(done), checks=checks_of(done))


def rest(pipeline: Pipeline, parts: Iterable[RestorePlan], *, clock: Clock) -> None:
    """Let nobody run on what *parts* overwrite, before the first of them is written (see ``replaying.Rests``).

    A job that was launched meanwhile would write into tables that are being restored, and keep its checkpoint from its turn.

    :raises Refused: when somebody runs there; nothing was touched then
    """
    for part in parts:
        engine: object = pipeline.lookup.engine(part.target)
        if isinstance(engine, Rests):
            engine.rest(part, clock)


def restore_part(
    pipeline: Pipeline,
    set_id: str,
    plan: RestorePlan,
    *,
    moved: Sequence[Moved],
    reason: str,
    by: str,
    progress: Progress,
    stop: Stop,
    clock: Clock,
    checks: bool = True,
) -> Restored:
    """Restore one part of a set, and record it.

    :param moved: what the parts that were restored before have told (``Restored.moved``)
    """
    if plan.destination.kind is DestinationKind.DIRECTORY:
        _make_passable(Path(plan.destination.path).parent)
    return restore.restore(
        pipeline,
        plan,
        reason=reason,
        by=by,
        progress=progress,
        stop=stop,
        clock=clock,
        set_id=set_id,
        positions=positions_of(pipeline.catalog.set(set_id)) if plan.target.system is System.KAFKA else (),
        moved=moved,
        checks=checks,
    )


def _require_there(pipeline: Pipeline, plan: SetPlan) -> None:
    """Check that all that *plan* needs is there before its first part overwrites anything: people take a day to agree."""
    catalog = pipeline.catalog
    catalog.set(plan.set_id)
    for part in plan.parts:
        for backup in part.chain:
            if not catalog.bucket.exists(catalog.manifest_key(part.target, backup)):
                raise NotFound(
                    f"the backup {backup} of {part.target} was removed after the restore of the set {plan.set_id} was planned",
                    hint="nothing was touched: restore another set; `./mainstay keep` pins one while a person looks at its plan",
                )


def _make_passable(top: Path) -> None:
    """Make the directory that the parts share, so that every server's account can get into its own.

    :raises Refused: when it cannot be made
    """
    missing = [one for one in (top, *top.parents) if not one.exists()]
    for one in reversed(missing):
        try:
            one.mkdir(exist_ok=True)
            one.chmod(0o755)  # whatever our umask is: what is private lies below it
        except OSError as error:
            raise Refused(f"{one} cannot be made: {error.strerror}", hint="name a directory of yours") from error


def positions_of(manifest: SetManifest) -> tuple[Position, ...]:
    """Give every position of the set's readers of a log: what the restored log is asked about.  Pure."""
    found = {
        (topic, partition, offset)
        for part in manifest.parts
        if part.target.system is System.SPARK
        for topic, partitions in part.cut.offsets.items()
        for partition, offset in partitions.items()
    }
    return tuple(Position(topic=topic, partition=p, offset=offset) for topic, p, offset in sorted(found))


def require_topics(manifest: SetManifest, asked: Mapping[Target, Wish]) -> None:
    """Refuse a stream of whose topics some are restored and others are not: nobody could say where it goes on in those.  Pure.

    :raises Refused: naming them
    """
    restored = {
        topic
        for part in manifest.parts
        if part.target.system is System.KAFKA and part.target in asked
        for topic in asked[part.target].only or part.cut.offsets
    }
    for part in manifest.parts:
        topics = set(part.cut.offsets) if part.target.system is System.SPARK and part.target in asked else set()
        left = sorted(topics - restored)
        if left and len(left) < len(topics):
            raise Refused(
                f"{part.target} reads {', '.join(sorted(topics))}, and {', '.join(left)} would not be restored with the others: "
                "where the stream goes on there could not be said",
                hint="restore all topics that it reads, or leave the stream's checkpoint out with --only",
            )


def checks_of(parts: Sequence[Restored]) -> tuple[Check, ...]:
    """Give the checks of all parts, each with the part's name.  A part that nobody checked is not proved.  Pure."""
    found = []
    for part in parts:
        checks = part.checks or (Check(name="checks", verdict=part.verdict, detail="nothing was checked"),)
        found += [msgspec.structs.replace(check, name=f"{part.target}: {check.name}") for check in checks]
    return tuple(found)


def _together(manifest: SetManifest, wrong: Mapping[Target, MainstayError]) -> MainstayError:
    if len(wrong) == 1:
        (error,) = wrong.values()
        return error
    kind = TransientError if all(isinstance(error, TransientError) for error in wrong.values()) else Refused
    return kind(
        f"{len(wrong)} parts of the set {manifest.id} cannot be restored there: "
        + "; ".join(f"{target}: {error.message}" for target, error in wrong.items()),
        hint="; ".join(f"{target}: {error.hint}" for target, error in wrong.items()),
    )


def _require_apart(plans: Sequence[RestorePlan]) -> None:
    """Refuse two parts of one system at one place.

    :raises Refused: naming them
    """
    seen: dict[tuple[System, str, str], Target] = {}
    for plan in plans:
        place = (plan.target.system, plan.destination.path, plan.destination.name)
        if any(place[1:]) and place in seen:
            raise Refused(
                f"{seen[place]} and {plan.target} would go to the same place, {' '.join(filter(None, place[1:]))}",
                hint="name another server or directory for one of them",
            )
        seen[place] = plan.target


def _warnings(manifest: SetManifest, asked: Iterable[Target]) -> tuple[str, ...]:
    left = sorted(str(part.target) for part in manifest.parts if part.target not in set(asked))
    found = []
    if left:
        found.append(f"not asked for, and left as they are: {', '.join(left)}: the parts may not fit together")
    if manifest.left_out:
        found.append(f"the set was taken without {', '.join(manifest.left_out)}: they do not come back with it")
    return tuple(found)
