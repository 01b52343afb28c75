"""``./mainstay verify``: is what was stored still what is there?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

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
    """Read every object of a set or of one backup back and compare it with its manifest, which needs no key.

    Of the archived log of PostgreSQL it reads what the backup needs, from its start to its stop, and follows it from there; when it
    is encrypted that needs the key.  What was found is recorded beside the backups; retention never removes the newest that was
    verified.
    """
    pipeline = whence.pipeline()
    with stopping() as stop, ShellProgress() as progress:
        found = _read_back(pipeline, what, progress=progress, stop=stop)
    verdict = worst([*(check.verdict for check in found.checks), *(proof.verdict for proof in found.verifications)])
    if as_json:
        emit_json(
            {
                "verdict": verdict,
                "checks": found.checks,
                "verifications": found.verifications,
                "unread": found.unread,
            }
        )
    else:
        _show(found)
    leave(verdict)


class Found(Struct, frozen=True, kw_only=True):
    """What reading back has found.

    :param unread: the logs that were not read, and why
    """

    checks: tuple[Check, ...]
    verifications: tuple[Verification, ...]
    unread: tuple[str, ...]


def _read_back(pipeline: Pipeline, what: str | None, *, progress: Progress, stop: Stop) -> Found:
    from include.engine.verbs import verify as verb

    target, at, backup = (what or "").rpartition("@")
    name = backup if at else backup or newest_set(pipeline)
    backup_time(name)
    if at:
        checks: tuple[Check, ...] = ()
        parts = [(Target.parse(target), name)]
    else:
        checks = verb.check_set(pipeline, name)
        parts = [(part.target, part.backup) for part in pipeline.catalog.set(name).parts]
    proofs: list[Verification] = []
    unread: list[str] = []
    for part, taken in parts:
        log = verb.read_log(pipeline, part, taken, progress=progress, stop=stop)
        proofs.append(
            verb.verify_part(pipeline, part, taken, progress=progress, stop=stop, clock=now, besides=log.damage)
        )
        checks = (*checks, *log.checks)
        unread += [log.unread] if log.unread else []
    return Found(checks=checks, verifications=tuple(proofs), unread=tuple(unread))


def newest_set(pipeline: Pipeline) -> str:
    """Name the newest set.

    :raises NotFound: when there is none
    """
    from include.engine.store import sets

    found = sets.newest_set(pipeline.catalog)
    if found is None:
        raise NotFound("there is no set yet", hint="`./mainstay backup` takes the first")
    return found.id


def _show(found: Found) -> None:
    proofs = found.verifications
    if found.checks:
        show(checks_table(found.checks))
    rows = [
        (proof.target, proof.backup, proof.objects, figures.size(proof.bytes), coloured(proof.verdict))
        for proof in proofs
    ]
    show(table(("target", "backup", ">objects", ">read", "verdict"), rows))
    for problem in (problem for proof in proofs for problem in proof.problems):
        show(f"  {problem}")
    for unread in found.unread:
        show(f"not read: {unread}")
