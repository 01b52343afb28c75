"""``./mainstay evidence``: drills as signed files, for who must be shown that restores work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, emit_json, leave, show
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.errors import NotFound, Refused
from include.engine.model import worst

evidence = typer.Typer(help="Drills as signed files, and whether such a file can be believed.", no_args_is_help=True)


@evidence.command("key")
def key(
    out: Annotated[Path, typer.Argument(help="file for the secret key; it must not exist")],
    as_json: Json = False,
) -> None:
    """Make a key pair that signs evidence: the secret key goes to a new file of mode 0600, the public key is printed."""
    from include.engine.store.signing import generate_key

    made = generate_key()
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Refused(f"{out} exists", hint="name a new file: an overwritten key signs nothing any more") from error
    except OSError as error:
        raise NotFound(
            f"{out} cannot be written: {error.strerror}", hint="name a file in a directory of yours"
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(made.file_text(now()))
    if as_json:
        emit_json({"public": made.public, "key_file": str(out)})
        return
    show(
        f"public key: {made.public}", f"secret key: in {out}. Give the public key to whoever will check what it signs."
    )


@evidence.command("make")
@finds_pipeline
def make(
    whence: Whence,
    *,
    drill: Annotated[str | None, typer.Argument(help="which drill; the newest by default")] = None,
    key_file: Annotated[Path, typer.Option("--key-file", help="file with the secret key that signs")],
    to: Annotated[Path, typer.Option("--to", help="directory for the two files")] = Path(),
    as_json: Json = False,
) -> None:
    """Sign a drill's report: a document (JSON) and a page (HTML) that say the same."""
    from include.engine.model import encode
    from include.engine.store.signing import key_in
    from include.engine.verbs import evidence as verb
    from include.engine.verbs.evidence_page import page

    signer = key_in(_read(key_file).decode(errors="replace"))
    pipeline = whence.pipeline()
    signed = verb.make(pipeline, verb.drill_of(pipeline, drill), signer, clock=now)
    files = {"json": encode(signed), "html": page(signed).encode()}
    written = [to / f"drill-{signed.evidence.drill.id}.{ending}" for ending in files]
    try:
        to.mkdir(parents=True, exist_ok=True)
        for file, content in zip(written, files.values(), strict=True):
            file.write_bytes(content)
    except OSError as error:
        raise NotFound(f"{to} cannot be written to: {error.strerror}", hint="name a directory of yours") from error
    if as_json:
        emit_json({"files": [str(file) for file in written], "public": signed.key})
        return
    show(*(str(file) for file in written), f"signed with {signed.key}")


@evidence.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="the document or the page")],
    keys: Annotated[
        list[str] | None, typer.Option("--key", help="a public key that you trust, as you were told it. Repeatable")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether evidence is what was signed, and with a key that you trust.  Needs no bucket and no network.

    The exit code is about the evidence, not about the drill: 0 it can be believed, 1 it cannot, 3 nobody said whose key it is.
    """
    from include.engine.verbs import evidence as verb

    signed, agrees = verb.read(_read(file), where=str(file))
    checks = verb.judge(signed, page_agrees=agrees, trusted=tuple(keys or ()))
    verdict = worst([check.verdict for check in checks])
    drill = signed.evidence.drill
    if as_json:
        emit_json({"verdict": verdict, "checks": checks, "drill": drill, "key": signed.key})
    else:
        show(checks_table(checks), f"it says: drill {drill.id} of set {drill.set_id}: {drill.verdict}")
    leave(verdict)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}", hint="name a file that is there") from error
