"""``./mainstay drill``: does the newest backup come back, how fast, and how much is lost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli import figures
from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, emit_json, leave, show, table
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.model import DrillReport, Target, backup_id

if TYPE_CHECKING:
    from rich.console import RenderableType


@finds_pipeline
def drill(
    whence: Whence,
    *,
    target: Annotated[str | None, typer.Argument(help="<system>/<name>; every part of the set by default")] = None,
    set_id: Annotated[str | None, typer.Option("--set", help="the set to restore; the newest by default")] = None,
    point: Annotated[
        str, typer.Option("--point", help="latest, backup, a time, position:<LSN> or name:<restore point>")
    ] = "latest",
    as_json: Json = False,
) -> None:
    """Restore a set into a sandbox, check what came back, measure RPO and RTO, and tear the sandbox down.

    The exit code is the verdict: 0 pass, 1 fail, 3 unverified.  The report is stored beside the backups.
    """
    from include.engine.verbs import drill as verb

    pipeline = whence.pipeline()
    exercise = verb.choose(pipeline, target=Target.parse(target) if target else None, set_id=set_id)
    with stopping() as stop, ShellProgress() as progress:
        report = verb.drill(
            pipeline, exercise, drill_id=backup_id(now()), point=point, progress=progress, stop=stop, clock=now
        )
    if as_json:
        emit_json(report)
    else:
        show_report(report)
    leave(report.verdict)


def show_report(report: DrillReport) -> None:
    """Show the stages, the checks and the verdict of a drill."""
    if report.stages:
        show(stages_table(report))
    show(checks_table(report.checks))
    show(objectives_table(report), f"verdict: {report.verdict}")


def stages_table(report: DrillReport) -> RenderableType:
    """Lay out how long each stage took, and whether a real restore would take it too."""
    stages = [
        (
            stage.name,
            f"{stage.seconds:.1f}",
            figures.size(stage.bytes) if stage.bytes else "",
            "yes" if stage.counts else "",
        )
        for stage in report.stages
    ]
    return table(
        ("stage", ">seconds", ">bytes", "part of RTO"), stages, title=f"Drill {report.id} of set {report.set_id}"
    )


def objectives_table(report: DrillReport) -> RenderableType:
    """Lay out what was achieved beside what was promised."""
    return table(
        ("objective", ">achieved", ">promised"),
        [
            ("RPO: newest data lost", figures.duration(report.rpo_seconds), figures.duration(report.rpo_objective)),
            ("RTO: time to be back", figures.duration(report.rto_seconds), figures.duration(report.rto_objective)),
        ],
    )
