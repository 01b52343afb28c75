"""``./mainstay restore``: the plan first, then a question, then the restore."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from include.engine.cli import figures
from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, emit_json, leave, show, table
from include.engine.cli.progress import ShellProgress
from include.engine.cli.restore_plans import show_plan, show_set_plan
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.errors import Misconfigured, Refused
from include.engine.model import (
    DestinationKind,
    PointKind,
    RecoveryPoint,
    Restored,
    RestorePlan,
    SetPlan,
    Target,
    Verdict,
)

if TYPE_CHECKING:
    from include.engine.verbs.pipeline import Pipeline


@finds_pipeline
def restore(
    whence: Whence,
    *,
    target: Annotated[
        str, typer.Argument(help="<system>/<name>, or a whole set: set/<id>, or latest-set for the newest")
    ],
    at: Annotated[
        str | None, typer.Option("--at", help="recover to this time, with its zone: 2026-11-23T14:05:00Z")
    ] = None,
    point: Annotated[
        str | None, typer.Option("--point", help="latest (the default), backup, position:<LSN> or name:<restore point>")
    ] = None,
    backup: Annotated[
        str | None, typer.Option("--backup", help="start from this backup, not from the best one")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="into this directory, new or empty; each part of a set into a folder of its own in it"
        ),
    ] = None,
    to_server: Annotated[
        list[str] | None,
        typer.Option(
            "--to-server",
            "--server",
            help="onto a server that the inventory names, or into the running cluster of this connection; for a set "
            "TARGET:NAME, once per part",
        ),
    ] = None,
    to_sandbox: Annotated[bool, typer.Option("--to-sandbox", help="into a throw-away server")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="only this topic, keyspace or table; for a set TARGET or TARGET:PART. Repeatable"),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename", help="OLD=NEW: bring it back under another name; for a set TARGET:OLD=NEW. Repeatable"
        ),
    ] = None,
    access: Annotated[
        bool | None,
        typer.Option(
            "--access/--no-access",
            help="put access rules and quotas of Kafka back; by default only into a server that the restore starts",
        ),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="add to topics and tables that hold something, instead of refusing them")
    ] = False,
    confirm: Annotated[
        list[str] | None,
        typer.Option("--confirm", help="the name of what would be overwritten, typed to allow it. Repeatable"),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="why; it is recorded")] = "",
    checks: Annotated[
        bool,
        typer.Option(
            "--checks/--no-checks",
            help="look at all that PostgreSQL brought back: compare rows with the backup's digests, pg_amcheck, read every row",
        ),
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and stop")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask; --json does not either")] = False,
    as_json: Json = False,
) -> None:
    """Restore one target, or all parts of a set, from a backup, to any point that the backups and the log archive reach.

    Shows what would be done before it is done.  Needs the bucket only: see --bucket.
    """
    from include.engine.verbs import restore as verb
    from include.engine.verbs import restore_set
    from include.engine.verbs.wishes import Wishes

    whole = restore_set.is_set(target)
    stopping_point = _point(at, point)
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
    if whole:
        if backup is not None:
            raise Misconfigured("--backup goes with one target", hint="name the set: set/<id>")
        pipeline = whence.pipeline()
        _restore_set(
            pipeline,
            restore_set.plan(pipeline, restore_set.find(pipeline, target), wishes, point=stopping_point, clock=now),
            reason,
            checks=checks,
            dry_run=dry_run,
            yes=yes,
            as_json=as_json,
        )
    wanted, wish = Target.parse(target), wishes.of_one()
    pipeline = whence.pipeline()
    plan = verb.plan_wish(pipeline, wanted, wish, point=stopping_point, backup=backup, clock=now)
    if dry_run:
        emit_json(plan) if as_json else show_plan(plan)
        return
    if not as_json:
        show_plan(plan)
    why = _agreed([plan], reason, yes=yes or as_json)
    _leave_with(_carry_out(pipeline, plan, why, checks=checks), as_json=as_json)


def _restore_set(
    pipeline: Pipeline, plan: SetPlan, reason: str, *, checks: bool, dry_run: bool, yes: bool, as_json: bool
) -> NoReturn:
    from include.engine.verbs import restore_set

    if as_json and dry_run:
        emit_json(plan)
    elif not as_json:
        show_set_plan(plan)
    if dry_run:
        raise typer.Exit
    why = _agreed(plan.parts, reason, yes=yes or as_json)
    with stopping() as stop, ShellProgress() as progress:
        restored = restore_set.restore_set(
            pipeline, plan, reason=why, by=getpass.getuser(), progress=progress, stop=stop, clock=now, checks=checks
        )
    if as_json:
        emit_json(restored)
    else:
        for part in restored.parts:
            _show(part)
        show(f"set {restored.set_id}: {restored.verdict}")
    raise typer.Exit(restored.verdict.exit_code)


def _carry_out(pipeline: Pipeline, plan: RestorePlan, reason: str, *, checks: bool) -> Restored:
    from include.engine.verbs import restore as verb

    with stopping() as stop, ShellProgress() as progress:
        return verb.restore(
            pipeline, plan, reason=reason, by=getpass.getuser(), progress=progress, stop=stop, clock=now, checks=checks
        )


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


def _agreed(plans: Sequence[RestorePlan], reason: str, *, yes: bool) -> str:
    """Give the reason of a restore that a person agreed to.

    A sandbox and an empty directory endanger nothing, so there the reason may go unsaid; a server needs a real one.

    :raises Refused: when nobody agreed
    """
    harmless = all(plan.destination.kind is not DestinationKind.SERVER and not plan.would_overwrite for plan in plans)
    if not yes:
        if not sys.stdin.isatty():
            raise Refused(
                "nobody is there to agree to the plan", hint="look at it with --dry-run, then say --yes (and --reason)"
            )
        if not reason and not harmless:
            reason = typer.prompt("Why", err=True)
        typer.confirm("Do it?", abort=True, err=True)
    return reason or ("asked for on the command line" if harmless else "")


def _leave_with(restored: Restored, *, as_json: bool) -> None:
    if as_json:
        emit_json(restored)
    else:
        _show(restored)
    # A restore without checks is a restore that nobody has looked at: not green.
    leave(restored.verdict if restored.checks else Verdict.UNVERIFIED)


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
