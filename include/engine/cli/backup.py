"""``./mainstay backup``: one set, step by step, as the DAG takes it."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli import figures
from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, emit_json, leave, show, table
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.contracts import Prepares, Progress, Stop
from include.engine.errors import MainstayError, Misconfigured
from include.engine.model import Check, SetManifest, Target, Verdict, Verification, backup_id, worst

if TYPE_CHECKING:
    from include.engine.verbs.pipeline import Pipeline


@finds_pipeline
def backup(
    whence: Whence,
    *,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[TARGET]...", help="<system>/<name>; all of the inventory by default")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="take no incremental backup")] = False,
    set_id: Annotated[
        str | None, typer.Option("--id", help="finish this set, which an earlier run could not: 20261123T020000Z")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify/--no-verify", help="read everything back afterwards; a set that was not is unverified"),
    ] = True,
    as_json: Json = False,
) -> None:
    """Take a backup set: fix the cut, copy every target, seal the set, read it back.

    Nothing counts until the set is sealed.  A run that was interrupted is finished with --id.  The exit code is the verdict of
    what was read back and of whether the parts fit together: with --no-verify a set that is sealed is unverified, 3, at best.
    """
    if set_id is not None and targets:
        raise Misconfigured("a set that is finished has its targets already", hint="give either --id or targets")
    pipeline = whence.pipeline()
    chosen = pipeline.choose(targets or [])
    _ahead(pipeline, chosen)
    with stopping() as stop, ShellProgress() as progress:
        sealed = take(pipeline, set_id or backup_id(now()), chosen, full=full, progress=progress, stop=stop)
        checks = whole(pipeline, sealed) if verify else ()
        proofs = read_back(pipeline, sealed, progress=progress, stop=stop) if verify else ()
    _tell(pipeline, sealed, checks, proofs, as_json=as_json)
    unread = [] if verify else [Verdict.UNVERIFIED]
    leave(worst([sealed.verdict, *unread, *(check.verdict for check in checks), *(proof.verdict for proof in proofs)]))


def _ahead(pipeline: Pipeline, targets: tuple[Target, ...]) -> None:
    """Begin what would be waited for later: logins, and the import of the table library, which only the end needs."""
    for target in targets:
        source: object = pipeline.lookup.source(target)
        if isinstance(source, Prepares):
            source.prepare()
    threading.Thread(target=import_module, args=("rich.table",), name="import", daemon=True).start()


def take(
    pipeline: Pipeline, set_id: str, targets: tuple[Target, ...], *, full: bool, progress: Progress, stop: Stop
) -> SetManifest:
    """Freeze, copy and seal a set; what was left on the servers is cleared whatever happened."""
    from include.engine.verbs import backup as verb

    def release() -> None:
        try:
            left = verb.release(pipeline, set_id, targets)
            for target in left:
                progress.say(
                    f"{target}: another run of the set {set_id} is still at it, and clears the server afterwards"
                )
        except MainstayError as error:
            # It neither undoes a set that is sealed nor explains one that is not.
            progress.say(f"something of the set {set_id} was left on a server: {error}")

    progress.say(f"Set {set_id}")
    releasing = threading.Thread(target=release, name="release")
    try:
        frozen = verb.freeze(pipeline, set_id, targets, clock=now)
        for name in frozen.cuts:
            stop.check()
            verb.copy(pipeline, set_id, Target.parse(name), progress=progress, stop=stop, clock=now, full=full)
        releasing.start()  # the seal asks for nothing of what the copies needed
        return verb.seal(pipeline, set_id, clock=now)
    finally:
        if releasing.ident is None:
            releasing.start()
        releasing.join()


def read_back(pipeline: Pipeline, sealed: SetManifest, *, progress: Progress, stop: Stop) -> tuple[Verification, ...]:
    """Verify every part of a set; objects that backups share are not read again when they were read lately."""
    from include.engine.verbs import verify as verb

    return verb.verify_parts(pipeline, sealed.id, progress=progress, stop=stop, clock=now, trust=verb.LATELY)


def whole(pipeline: Pipeline, sealed: SetManifest) -> tuple[Check, ...]:
    """Check that every part of a set, and what it builds on, is there as it was sealed."""
    from include.engine.verbs import verify as verb

    return verb.check_set(pipeline, sealed.id)


def _tell(
    pipeline: Pipeline,
    sealed: SetManifest,
    checks: tuple[Check, ...],
    proofs: tuple[Verification, ...],
    *,
    as_json: bool,
) -> None:
    if as_json:
        emit_json({"set": sealed, "checks": checks, "verifications": proofs})
        return
    verdicts = {(proof.target, proof.backup): proof.verdict for proof in proofs}
    rows, notes = [], []
    for part in sealed.parts:
        manifest = pipeline.catalog.backup(part.target, part.backup)
        notes += [f"{part.target}: {note}" for note in manifest.notes]
        seconds = (manifest.finished - manifest.started).total_seconds()
        rows.append(
            (
                part.target,
                manifest.kind,
                figures.size(manifest.original_bytes),
                figures.size(manifest.bytes),
                figures.ratio(manifest.original_bytes, manifest.bytes),
                figures.duration(seconds),
                figures.moment(manifest.recoverable_to),
                verdicts.get((part.target, part.backup), Verdict.UNVERIFIED),
            )
        )
    columns = ("target", "kind", ">original", ">stored", ">ratio", ">took", "recoverable to", "read back")
    show(table(columns, rows, title=f"Set {sealed.id}"))
    show(*notes)
    for proof in proofs:
        if told := figures.trusted(proof):
            show(f"{proof.target}: {told}")
    show(checks_table(sealed.checks, title="Do the parts fit together?"))
    lacking = [check for check in checks if check.verdict is not Verdict.PASS]
    if lacking:
        show(checks_table(lacking, title="Is all of it there?"))
    if not proofs:
        show(f"Nothing was read back: `./mainstay verify {sealed.id}` does that")
    if sealed.left_out:
        show(f"Not in this set: {', '.join(sealed.left_out)}")
