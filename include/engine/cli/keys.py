"""``./mainstay key``: the age keys that encrypt backups.  A secret key goes to a file and is never printed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from include.engine.cli.clock import now
from include.engine.cli.output import Json, emit_json, show
from include.engine.errors import NotFound, Refused

keys = typer.Typer(help="Make and look at the keys that encrypt backups.", no_args_is_help=True)


@keys.command("new")
def new(
    out: Annotated[Path, typer.Argument(help="file for the secret key; it must not exist")],
    as_json: Json = False,
) -> None:
    """Make a key pair: the secret key goes to a new file of mode 0600, the public key is printed."""
    from include.engine.store.encryption import generate_identity

    key = generate_identity()
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Refused(f"{out} exists", hint="name a new file: an overwritten key opens nothing any more") from error
    except OSError as error:
        raise NotFound(
            f"{out} cannot be written: {error.strerror}", hint="name a file in a directory of yours"
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(key.file_text(now()))
    if as_json:
        emit_json({"recipient": key.recipient, "identity_file": str(out)})
        return
    show(
        f"public key: {key.recipient}",
        f"secret key: in {out}. Keep copies where the backups are not: without it they cannot be opened.",
        f"inventory:  encryption: {{recipients: [{key.recipient}]}}",
    )


@keys.command("show")
def show_public(
    file: Annotated[Path, typer.Argument(help="file with a secret key")],
    as_json: Json = False,
) -> None:
    """Print the public keys that belong to the secret keys in a file: the key ids that manifests name."""
    from include.engine.store.encryption import identities_in, recipient_of

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"{file} cannot be read: {type(error).__name__}", hint="give a file that `key new` wrote"
        ) from error
    recipients = [recipient_of(identity) for identity in identities_in(text)]
    if as_json:
        emit_json({"recipients": recipients})
        return
    show(*recipients)
