"""``./mainstay upkeep``: what must be looked after between backups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli import figures
from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, emit_json, leave, show, table
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.model import worst

if TYPE_CHECKING:
    from include.engine.verbs.upkeep import OrphansReport


@finds_pipeline
def upkeep(
    whence: Whence,
    apply: Annotated[
        bool,
        typer.Option("--apply/--dry-run", help="remove the garbage of dead attempts; without, only say what it is"),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the catalog, walk the log archives for gaps, and find what attempts that died left in the bucket."""
    from include.engine.verbs import upkeep as verb

    pipeline = whence.pipeline()
    checks = [*verb.check_catalog(pipeline), *verb.audit_archives(pipeline, clock=now)]
    if not as_json:
        show(checks_table(checks))  # before the sweep, which a damaged manifest ends
    orphans = verb.sweep_orphans(pipeline, dry_run=not apply, clock=now)
    verdict = worst([check.verdict for check in checks])
    if as_json:
        emit_json({"verdict": verdict, "checks": checks, "orphans": orphans})
    else:
        _show_orphans(orphans)
    leave(verdict)


def _show_orphans(found: OrphansReport) -> None:
    rows: list[tuple[object, ...]] = [
        (report.target, len(report.orphans), figures.size(report.bytes), len(report.held)) for report in found.targets
    ]
    rows.append(("unfinished uploads", len(found.uploads.aborted), figures.size(found.uploads.bytes), ""))
    show(table(("garbage of", ">objects", ">bytes", ">attempts running"), rows))
    for report in found.targets:
        for key in report.refused:
            show(f"the store refused to delete {key}")
