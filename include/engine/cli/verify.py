"""``./mainstay verify``: is what was stored still what is there?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli import figures
from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, coloured, emit_json, leave, show, table
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.contracts import Progress, Stop
from include.engine.errors import NotFound
from include.engine.model import Check, Target, Verification, backup_time, worst

if TYPE_CHECKING:
    from include.engine.verbs.pipeline import Pipeline


@finds_pipeline
def verify(
    whence: Whence,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[SET|TARGET@BACKUP]", help="a set, or one backup; the newest set by default"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every object of a set or of one backup back and compare it with its manifest.  Needs no key.

    What was found is recorded beside the backups; retention never removes the newest that was verified.
    """
    pipeline = whence.pipeline()
    with stopping() as stop, ShellProgress() as progress:
        checks, proofs = _read_back(pipeline, what, progress=progress, stop=stop)
    verdict = worst([*(check.verdict for check in checks), *(proof.verdict for proof in proofs)])
    if as_json:
        emit_json({"verdict": verdict, "checks": checks, "verifications": proofs})
    else:
        _show(checks, proofs)
    leave(verdict)


def _read_back(
    pipeline: Pipeline, what: str | None, *, progress: Progress, stop: Stop
) -> tuple[tuple[Check, ...], tuple[Verification, ...]]:
    from include.engine.verbs import verify as verb

    target, at, backup = (what or "").rpartition("@")
    if at:
        found = Target.parse(target)
        backup_time(backup)
        return (), (verb.verify_part(pipeline, found, backup, progress=progress, stop=stop, clock=now),)
    set_id = backup or newest_set(pipeline)
    backup_time(set_id)
    checks = verb.check_set(pipeline, set_id)
    return tuple(checks), verb.verify_parts(pipeline, set_id, progress=progress, stop=stop, clock=now)


def newest_set(pipeline: Pipeline) -> str:
    """Name the newest set.

    :raises NotFound: when there is none
    """
    from include.engine.store import sets

    found = sets.newest_set(pipeline.catalog)
    if found is None:
        raise NotFound("there is no set yet", hint="`./mainstay backup` takes the first")
    return found.id


def _show(checks: tuple[Check, ...], proofs: tuple[Verification, ...]) -> None:
    if checks:
        show(checks_table(checks))
    rows = [
        (proof.target, proof.backup, proof.objects, figures.size(proof.bytes), coloured(proof.verdict))
        for proof in proofs
    ]
    show(table(("target", "backup", ">objects", ">read", "verdict"), rows))
    for problem in (problem for proof in proofs for problem in proof.problems):
        show(f"  {problem}")
