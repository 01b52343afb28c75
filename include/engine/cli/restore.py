"""``./mainstay restore``: the plan first, then a question, then the restore."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer
from msgspec import Struct

from include.engine.cli import figures
from include.engine.cli import restore_options as options
from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, emit_json, leave, show, table
from include.engine.cli.progress import ShellProgress
from include.engine.cli.restore_plans import show_plan, show_set_plan
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.errors import Misconfigured, Refused
from include.engine.model import DestinationKind, PointKind, RecoveryPoint, Restored, RestorePlan, Target

if TYPE_CHECKING:
    from include.engine.verbs.pipeline import Pipeline
    from include.engine.verbs.wishes import Wishes

Plan = TypeVar("Plan")
Done = TypeVar("Done")


class _Manner(Struct, frozen=True, kw_only=True):
    """How a planned restore is carried out.

    :param yes: nobody is asked
    """

    reason: str
    checks: bool
    dry_run: bool
    yes: bool
    as_json: bool


@finds_pipeline
def restore(
    whence: Whence,
    *,
    target: options.What,
    at: options.At = None,
    point: options.Point = None,
    backup: options.Backup = None,
    to: options.To = None,
    to_server: options.ToServer = None,
    to_sandbox: options.ToSandbox = False,
    only: options.Only = None,
    rename: options.Rename = None,
    access: options.Access = None,
    append: options.Append = False,
    confirm: options.Confirm = None,
    reason: options.Reason = "",
    checks: options.Checks = True,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    as_json: Json = False,
) -> None:
    """Restore one target, or all parts of a set, from a backup, to any point that the backups and the log archive reach.

    Shows what would be done before it is done.  Needs the bucket only: see --bucket.  The exit code is the verdict of its checks: 3
    when one could not be made, when nothing was checked, and when --no-checks left out what would have been.
    """
    from include.engine.verbs import restore_set
    from include.engine.verbs.wishes import Wishes

    whole = restore_set.is_set(target)
    where = _point(at, point)
    wishes = Wishes(
        destination=_destination(to, to_server, to_sandbox, whole=whole),
        path=str(to.expanduser().absolute()) if to else "",
        servers=to_server or (),
        confirm=confirm or (),
        only=only or (),
        rename=rename or (),
        append=append,
        access=access,
    )
    manner = _Manner(reason=reason, checks=checks, dry_run=dry_run, yes=yes or as_json, as_json=as_json)
    if not whole:
        _restore_one(whence, target, wishes, manner, point=where, backup=backup)
    elif backup is not None:
        raise Misconfigured("--backup goes with one target", hint="name the set: set/<id>")
    else:
        _restore_set(whence, target, wishes, manner, point=where)


def _restore_one(
    whence: Whence, target: str, wishes: Wishes, manner: _Manner, *, point: str, backup: str | None
) -> None:
    from include.engine.verbs import restore as verb

    wanted, wish = Target.parse(target), wishes.of_one()
    pipeline = whence.pipeline()
    plan = verb.plan_wish(pipeline, wanted, wish, point=point, backup=backup, clock=now)
    restored = _carried_out(verb.restore, pipeline, plan, [plan], manner, shown=show_plan)
    if restored is None:
        return
    if not manner.as_json:
        _show(restored)
    leave(restored.verdict)


def _restore_set(whence: Whence, word: str, wishes: Wishes, manner: _Manner, *, point: str) -> None:
    from include.engine.verbs import restore_set

    pipeline = whence.pipeline()
    plan = restore_set.plan(pipeline, restore_set.find(pipeline, word), wishes, point=point, clock=now)
    restored = _carried_out(restore_set.restore_set, pipeline, plan, plan.parts, manner, shown=show_set_plan)
    if restored is None:
        return
    if not manner.as_json:
        for part in restored.parts:
            _show(part)
        show(f"set {restored.set_id}: {restored.verdict}")
    leave(restored.verdict)


def _carried_out(
    restore: Callable[..., Done],
    pipeline: Pipeline,
    plan: Plan,
    parts: Sequence[RestorePlan],
    manner: _Manner,
    *,
    shown: Callable[[Plan], None],
) -> Done | None:
    """Show *plan*, have a person agree to it, and carry it out; nothing when it was only to be shown."""
    if not manner.as_json:
        shown(plan)
    elif manner.dry_run:
        emit_json(plan)
    if manner.dry_run:
        return None
    why = _agreed(parts, manner)
    with stopping() as stop, ShellProgress() as progress:
        done = restore(
            pipeline,
            plan,
            reason=why,
            by=getpass.getuser(),
            progress=progress,
            stop=stop,
            clock=now,
            checks=manner.checks,
        )
    if manner.as_json:
        emit_json(done)
    return done


def _point(at: str | None, point: str | None) -> str:
    """Give the recovery point that the two options say together.

    :raises Misconfigured: when both are given, or --at is no time
    """
    if at is not None and point is not None:
        raise Misconfigured("--at and --point both say where to stop", hint="give one of them")
    if at is not None:
        parsed = RecoveryPoint.parse(at)
        if parsed.kind is not PointKind.TIME:
            raise Misconfigured(f"--at {at} is not a time", hint="write 2026-11-23T14:05:00Z, or use --point")
        return at
    return point or str(PointKind.LATEST)


def _destination(to: Path | None, to_server: Sequence[str] | None, to_sandbox: bool, *, whole: bool) -> DestinationKind:
    given = [
        kind
        for kind, said in (
            (DestinationKind.DIRECTORY, to is not None),
            (DestinationKind.SERVER, bool(to_server)),
            (DestinationKind.SANDBOX, to_sandbox),
        )
        if said
    ]
    if not given or (len(given) > 1 and not whole):  # the parts of a set may go to different places
        raise Misconfigured(
            "a restore needs one destination, not " + ("none" if not given else " and ".join(given)),
            hint="give one of --to DIR, --to-server NAME and --to-sandbox",
        )
    return given[-1]


def _agreed(plans: Sequence[RestorePlan], manner: _Manner) -> str:
    """Give the reason of a restore that a person agreed to.

    A sandbox and an empty directory endanger nothing, so there the reason may go unsaid; a server needs a real one.

    :raises Refused: when nobody agreed
    """
    reason = manner.reason
    harmless = all(plan.destination.kind is not DestinationKind.SERVER and not plan.would_overwrite for plan in plans)
    if not manner.yes:
        if not sys.stdin.isatty():
            raise Refused(
                "nobody is there to agree to the plan", hint="look at it with --dry-run, then say --yes (and --reason)"
            )
        if not reason and not harmless:
            reason = typer.prompt("Why", err=True)
        typer.confirm("Do it?", abort=True, err=True)
    return reason or ("asked for on the command line" if harmless else "")


def _show(restored: Restored) -> None:
    show(
        table(
            ("stage", ">seconds", ">bytes"),
            [
                (stage.name, f"{stage.seconds:.1f}", figures.size(stage.bytes) if stage.bytes else "")
                for stage in restored.stages
            ],
            title=f"{restored.target} from {restored.backup}",
        )
    )
    if restored.checks:
        show(checks_table(restored.checks))
    where = f", serving at {restored.address}" if restored.address else ""
    show(f"recovered to {figures.moment(restored.recovered_to)}{where}: {restored.verdict}")
