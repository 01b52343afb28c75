"""``./mainstay backup``: one set, step by step, as the DAG takes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli import figures
from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, emit_json, leave, load_ahead, show, table
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.contracts import Progress, Stop
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
    whence.log_in_ahead(targets or [])
    pipeline = whence.pipeline()
    chosen, name = pipeline.choose(targets or []), set_id or backup_id(now())
    load_ahead()
    with stopping() as stop, ShellProgress() as progress, clearing(pipeline, name, chosen, progress) as release:
        sealed = take(pipeline, name, chosen, full=full, progress=progress, stop=stop, release=release)
        checks = whole(pipeline, sealed) if verify else ()
        proofs = read_back(pipeline, sealed, progress=progress, stop=stop) if verify else ()
        progress.close()
        _tell(pipeline, sealed, checks, proofs, as_json=as_json)
    unread = [] if verify else [Verdict.UNVERIFIED]
    leave(worst([sealed.verdict, *unread, *(check.verdict for check in checks), *(proof.verdict for proof in proofs)]))


@contextmanager
def clearing(
    pipeline: Pipeline, set_id: str, targets: Sequence[Target], progress: Progress
) -> Iterator[threading.Thread]:
    """Give the thread that clears what a set left on the servers.  It is begun at the latest, and waited for, at the end."""
    from include.engine.verbs import backup as verb

    def clear() -> None:
        try:
            left = verb.release(pipeline, set_id, targets)
            for target in left:
                progress.say(
                    f"{target}: another run of the set {set_id} is still at it, and clears the server afterwards"
                )
        except MainstayError as error:
            # It neither undoes a set that is sealed nor explains one that is not.
            progress.say(f"something of the set {set_id} was left on a server: {error}")

    release = threading.Thread(target=clear, name="release")
    try:
        yield release
    finally:
        if release.ident is None:
            release.start()
        release.join()


def take(
    pipeline: Pipeline,
    set_id: str,
    targets: tuple[Target, ...],
    *,
    full: bool,
    progress: Progress,
    stop: Stop,
    release: threading.Thread,
) -> SetManifest:
    """Freeze, copy and seal a set.

    :param release: is begun as soon as nothing of what was left on the servers is needed any more
    """
    from include.engine.verbs import backup as verb

    progress.say(f"Set {set_id}")
    frozen = verb.freeze(pipeline, set_id, targets, clock=now)
    for name in frozen.cuts:
        stop.check()
        verb.copy(pipeline, set_id, Target.parse(name), progress=progress, stop=stop, clock=now, full=full)
    release.start()  # the seal asks for nothing of what the copies needed
    return verb.seal(pipeline, set_id, clock=now)


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
