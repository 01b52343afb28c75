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
    from collections.abc import Sequence

    from include.engine.store.sweep import SweepReport


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
    from include.engine.store.sweep import sweep
    from include.engine.verbs import upkeep as verb

    pipeline = whence.pipeline()
    checks = [*verb.check_catalog(pipeline), *verb.audit_archives(pipeline, clock=now)]
    targets = pipeline.catalog.targets()
    swept = [sweep(pipeline.catalog, target, clock=now, dry_run=not apply) for target in targets]
    verdict = worst([check.verdict for check in checks])
    if as_json:
        emit_json({"verdict": verdict, "checks": checks, "sweeps": swept})
    else:
        show(checks_table(checks))
        _show_swept(swept)
    leave(verdict)


def _show_swept(swept: Sequence[SweepReport]) -> None:
    rows = [
        (
            report.target,
            len(report.orphans),
            figures.size(sum(found.bytes for found in report.orphans)),
            "found" if report.dry_run else "removed",
            len(report.held),
        )
        for report in swept
    ]
    if rows:
        show(table(("garbage of", ">objects", ">bytes", "was", ">attempts running"), rows))
    for report in swept:
        for key in report.refused:
            show(f"the store refused to delete {key}")
