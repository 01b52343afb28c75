"""``./mainstay wal-archive``: the process beside a PostgreSQL server that ships its log."""

from __future__ import annotations

from typing import Annotated

import typer

from include.engine.cli.boundary import stopping
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.errors import Unsupported
from include.engine.model import System, Target


@finds_pipeline
def wal_archive(
    whence: Whence,
    target: Annotated[str, typer.Argument(help="postgres/<name>")],
) -> None:
    """Receive the log of a PostgreSQL server and ship it to the bucket, until SIGTERM.

    Runs in the foreground, one per server, under a supervisor: deploy/systemd/mainstay-wal-archive@.service.
    Started again, it goes on where it was without a gap, as its replication slot keeps what was not shipped.
    """
    wanted = Target.parse(target)
    if wanted.system is not System.POSTGRES:
        raise Unsupported(f"{wanted} has no write-ahead log to ship", hint="name a target postgres/<name>")
