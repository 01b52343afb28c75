"""``./mainstay mirror`` and ``./mainstay failover``: a running copy on another cluster, kept, proved and used."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, emit_json, leave, show
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.mirroring import Mirror

Name = Annotated[str, typer.Argument(metavar="MIRROR", help="<system>/<name>/<mirror>, as the inventory declares it")]
Patience = Annotated[float, typer.Option("--patience", help="minutes that the copy may take to catch up")]


@finds_pipeline
def mirror(
    whence: Whence,
    *,
    name: Name,
    patience: Patience = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would change and stop")] = False,
    confirm: Annotated[
        str, typer.Option("--confirm", help="the mirror's name again: a stopped one may copy on, after a fail-over too")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a mirror what was declared, wait until it has caught up, and prove that it is a copy."""
    from include.engine.verbs import mirror as verb

    opened = _opened(whence, name)
    if dry_run:
        plan = verb.plan(opened, resume=True)
        emit_json(plan) if as_json else show(*(plan.changes or ("nothing would change",)), *plan.warnings)
        return
    with stopping() as stop, ShellProgress() as progress:
        limit = timedelta(minutes=patience)
        resume = confirm == name
        report = verb.mirror(opened, patience=limit, progress=progress, stop=stop, clock=now, resume=resume)
    emit_json(report) if as_json else show(checks_table(report.checks, title=f"Mirror {name}"))
    leave(report.verdict)


@finds_pipeline
def failover(
    whence: Whence,
    *,
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="why; it is reported")],
    confirm: Annotated[str, typer.Option("--confirm", help="the mirror's name again, typed to allow it")] = "",
    patience: Patience = 5.0,
    as_json: Json = False,
) -> None:
    """Fail over to a mirror: catch up as far as the source answers, move the groups, stop the copying, say what is missing."""
    from include.engine.errors import Refused
    from include.engine.verbs import failover as verb

    if confirm != name:
        raise Refused(f"a fail-over to {name} was not confirmed", hint=f"type its name: --confirm {name}")
    opened = _opened(whence, name)
    with stopping() as stop, ShellProgress() as progress:
        limit = timedelta(minutes=patience)
        report = verb.failover(opened, reason=reason, patience=limit, progress=progress, stop=stop, clock=now)
    emit_json(report) if as_json else show(checks_table(report.checks, title=f"Fail-over to {name}"))
    leave(report.verdict)


def _opened(whence: Whence, name: str) -> Mirror:
    from include.engine import wiring
    from include.engine.cli.connections import ShellConnections

    return wiring.open_mirror(whence.inventory(), ShellConnections(whence.path), name)
