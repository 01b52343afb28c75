"""Restore one target: plan, look at the plan, do it.  Needs the bucket only; the source may be gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

import msgspec

from include.engine.contracts import Clock, LooksOnRequest, PlanRequest, Progress, RestoreJob, Stop
from include.engine.errors import MainstayError, NotFound, Refused
from include.engine.model import (
    Check,
    DestinationKind,
    Drilled,
    Moved,
    Position,
    RecoveryPoint,
    Restored,
    RestorePlan,
    RestoreRecord,
    Target,
    Verdict,
)
from include.engine.store import lease
from include.engine.store.drills import measured
from include.engine.store.vault import VaultReader
from include.engine.store.verify import require_sealed
from include.engine.verbs.pipeline import Pipeline, Terms
from include.engine.verbs.wishes import Wish

MINIMUM_REASON = 10  # characters


def plan(
    pipeline: Pipeline,
    target: Target,
    *,
    point: str = "latest",
    backup: str | None = None,
    destination: DestinationKind = DestinationKind.DIRECTORY,
    path: str = "",
    server: str = "",
    confirm: str = "",
    only: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    append: bool = False,
    access: bool | None = None,
    rehearsal: bool = False,
    clock: Clock | None = None,
) -> RestorePlan:
    """Say what a restore would do, how large it is and how long it should take.  Changes nothing.

    A backup whose manifest cannot be read is left out, and the plan warns of it: it must not keep anybody from the others.

    :raises NotFound: when there is no backup, or none that reaches the point
    :raises Corrupt: when the manifest of *backup* cannot be read, or no manifest at all
    :raises Refused: when the destination is in use, is the source, or is not empty and *confirm* does not name it
    """
    RecoveryPoint.parse(point)
    found = pipeline.catalog.survey(target)
    if backup is not None and backup in found.unreadable:
        raise found.unreadable[backup]
    if not found.manifests:
        for error in found.unreadable.values():
            raise error
        raise NotFound(
            f"{pipeline.catalog.bucket.url} holds no backup of {target}",
            hint="check the URL; `./mainstay catalog` lists all",
        )
    made = pipeline.lookup.engine(target).plan(
        PlanRequest(
            manifests=found.manifests,
            backup=backup,
            destination_kind=destination,
            path=path,
            server=server,
            point=point,
            confirm=confirm,
            only=tuple(only),
            rename=dict(rename or {}),
            append=append,
            access=access,
            rehearsal=rehearsal,
            clock=clock,
        )
    )
    left_out = [f"the backup {name} was left out: {error.message}" for name, error in found.unreadable.items()]
    try:
        seconds = expected(made.bytes_to_fetch, measured(pipeline.catalog, target))
    except MainstayError:  # an estimate is not worth a failed plan
        seconds = None
    return msgspec.structs.replace(made, warnings=(*made.warnings, *left_out), seconds_expected=seconds)


def expected(size: int, drilled: Sequence[Drilled]) -> float | None:
    """Say how many seconds a restore of *size* bytes should take, judging by drills; None when there was none.  Pure.

    The median of what they took, and in proportion longer for more bytes; not shorter for less: servers have to start all the same.
    """
    took = sorted(one.seconds * max(1.0, size / one.bytes) if one.bytes else one.seconds for one in drilled)
    return took[len(took) // 2] if took else None


def plan_wish(
    pipeline: Pipeline,
    target: Target,
    wish: Wish,
    *,
    point: str = "latest",
    backup: str | None = None,
    clock: Clock | None = None,
) -> RestorePlan:
    """Plan what a person asked for (see :func:`plan`); each of the names that were typed may be the one that is wanted."""

    def confirmed_by(name: str) -> RestorePlan:
        return plan(
            pipeline,
            target,
            point=point,
            backup=backup,
            destination=wish.destination,
            path=wish.path,
            server=wish.server,
            confirm=name,
            only=wish.only,
            rename=wish.rename,
            append=wish.append,
            access=wish.access,
            clock=clock,
        )

    *others, last = wish.confirm or ("",)
    for name in others:
        with suppress(Refused):
            return confirmed_by(name)
    return confirmed_by(last)


def restore(
    pipeline: Pipeline,
    plan: RestorePlan,
    *,
    reason: str,
    by: str,
    progress: Progress,
    stop: Stop,
    clock: Clock,
    set_id: str | None = None,
    positions: Sequence[Position] = (),
    moved: Sequence[Moved] = (),
    checks: bool = True,
) -> Restored:
    """Do what *plan* says, read back that it was done, and record it in the bucket, however it ended.

    :param reason: why, for the record
    :param by: who approved it, for the record
    :param set_id: the set that it is a part of, for the record
    :param positions: asked of a log (see ``contracts.RestoreJob``)
    :param moved: told to what reads a log (see ``contracts.RestoreJob``)
    :param checks: look at all that came back (see ``contracts.RestoreJob``); what nobody looked at is UNVERIFIED
    :raises Refused: without a reason
    """
    require_reason(reason)
    started = clock()
    restored: Restored | None = None
    failed = ""
    try:
        with reading(pipeline, plan.target, plan.backup, progress=progress, clock=clock):
            work = job(pipeline, plan, progress=progress, stop=stop, clock=clock)
            work = msgspec.structs.replace(work, positions=tuple(positions), moved=tuple(moved), checks=checks)
            engine = pipeline.lookup.engine(plan.target)
            restored = engine.restore(work)
            if not checks and isinstance(engine, LooksOnRequest):
                restored = _unlooked(restored, engine.unlooked)
    except MainstayError as error:
        failed = str(error)
        raise
    finally:
        record = RestoreRecord(
            id=f"{started:%Y%m%dT%H%M%S%fZ}",
            plan=plan,
            reason=reason,
            by=by,
            started=started,
            finished=clock(),
            verdict=restored.verdict if restored is not None else Verdict.FAIL,
            error=failed,
            set_id=set_id,
        )
        try:
            pipeline.catalog.record_restore(record)
        except MainstayError as error:
            # On a bare machine the key pair may be one that can only read: the restore itself must not fail for that.
            progress.say(f"the restore could not be recorded in the bucket: {error}")
    return restored


def _unlooked(restored: Restored, what: str) -> Restored:
    """Say what nobody has looked at: a restore of which that is so is not green, however it is asked for."""
    check = Check(name="what came back", verdict=Verdict.UNVERIFIED, detail=what)
    return msgspec.structs.replace(restored, checks=(*restored.checks, check))


@contextmanager
def reading(pipeline: Pipeline, target: Target, backup: str, *, progress: Progress, clock: Clock) -> Iterator[None]:
    """Keep retention from the backups of *target*, while the context lasts: a restore of an old one may take hours.

    On a bare machine the key pair may be one that can only read: then it is said, and the restore goes on.
    """
    until = clock() + pipeline.terms.get(target, Terms()).timeout
    with ExitStack() as held:
        try:
            held.enter_context(lease.reading(pipeline.catalog.bucket, target, backup, until=until, clock=clock))
        except MainstayError as error:
            progress.say(f"do not run retention meanwhile, nothing keeps it from {target} {backup}: {error.message}")
        yield


def require_reason(reason: str) -> None:
    """Refuse to go on without one.

    :raises Refused: when it is too short to say anything
    """
    if len(reason.strip()) < MINIMUM_REASON:
        raise Refused(
            "a restore needs a reason", hint=f"say why, in at least {MINIMUM_REASON} characters: it is recorded"
        )


def job(pipeline: Pipeline, plan: RestorePlan, *, progress: Progress, stop: Stop, clock: Clock) -> RestoreJob:
    """Put together what a system needs to carry out *plan*.

    :raises Corrupt: when a manifest is not the one that its set was sealed with
    """
    catalog = pipeline.catalog
    identities = pipeline.terms.get(plan.target, Terms()).identities
    chain = [catalog.backup(plan.target, backup) for backup in plan.chain]
    require_sealed(catalog, chain)
    return RestoreJob(
        plan=plan,
        chain=chain,
        reader=VaultReader(catalog.bucket, identities=identities, manifests=chain),
        progress=progress,
        stop=stop,
        clock=clock,
    )
