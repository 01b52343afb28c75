"""``./mainstay checklist``: go through one of the checklists from a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from include.engine.cli.clock import now
from include.engine.cli.output import Json, emit_json, leave, show
from include.engine.cli.sweep import opened
from include.engine.cli.whence import Whence, finds_pipeline


@finds_pipeline
def checklist(
    whence: Whence,
    *,
    kind: Annotated[str, typer.Argument(help="morning, evening or predeployment")],
    page: Annotated[Path | None, typer.Option("--page", help="write the report as one HTML file, too")] = None,
    as_json: Json = False,
) -> None:
    """Look at everything and go through a checklist.  Nothing is stored in the bucket, and nobody signs: the DAGs do that."""
    from include.engine import wiring
    from include.engine.health import pages
    from include.engine.model import backup_id
    from include.engine.verbs import checklist as verb

    watch = opened(whence)
    report = verb.inspect(
        kind,
        whence.inventory(),
        whence.pipeline(),
        watch,
        name=backup_id(now()),
        project=wiring.PROJECT,
        clock=now,
    )
    if kind == "predeployment":
        report = verb.unsigned(report)
    if page is not None:
        page.write_text(pages.html(report), encoding="utf-8")
    emit_json(report) if as_json else show(pages.markdown(report))
    leave(report.verdict)
