"""``./mainstay wal-archive``: the process beside a PostgreSQL server that ships its log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.contracts import Progress
from include.engine.errors import Misconfigured, Unsupported
from include.engine.model import System, Target

if TYPE_CHECKING:
    from include.engine.systems.postgres.wal_archive import WalArchiver


@finds_pipeline
def wal_archive(
    whence: Whence,
    target: Annotated[str, typer.Argument(help="postgres/<name>")],
    spool: Annotated[
        Path | None,
        typer.Option(
            "--spool",
            help="directory for what waits to be shipped, with room for a night without the store; "
            "below MAINSTAY_HOME by default",
        ),
    ] = None,
) -> None:
    """Receive the log of a PostgreSQL server and ship it to the bucket, until SIGTERM.

    Runs in the foreground, one per server, under a supervisor: deploy/systemd/mainstay-wal-archive@.service.
    Started again, it goes on where it was without a gap, as its replication slot keeps what was not shipped.
    """
    from include.engine.systems.postgres.wal_archive import run

    wanted = Target.parse(target)
    if wanted.system is not System.POSTGRES:
        raise Unsupported(f"{wanted} has no write-ahead log to ship", hint="name a target postgres/<name>")
    if whence.bucket:
        raise Misconfigured(
            "a log is archived for a target of the inventory, not for a bucket alone", hint="leave --bucket out"
        )
    with stopping() as stop, ShellProgress() as progress:
        archiver = _open(whence, wanted, spool, progress)
        progress.say(f"{wanted}: archiving to {archiver.bucket.url}, spool {archiver.spool}")
        run(archiver, stop)
        progress.say(f"{wanted}: stopped")


def _open(whence: Whence, target: Target, spool: Path | None, progress: Progress) -> WalArchiver:
    from include.engine.cli.connections import ShellConnections
    from include.engine.sandbox.distributions import Shelf
    from include.engine.sandbox.home import Home
    from include.engine.systems.postgres.binaries import PostgresBinaries
    from include.engine.systems.postgres.settings import PostgresSettings
    from include.engine.systems.postgres.wal_archive import WalArchiver
    from include.engine.wiring import PROJECT

    pipeline = whence.pipeline()
    settings = whence.inventory().settings(target)
    assert isinstance(settings, PostgresSettings)
    home = Home.of(PROJECT)
    return WalArchiver(
        target,
        pipeline.catalog.bucket,
        ShellConnections(whence.path).get(settings.connection),
        spool=spool.expanduser().absolute() if spool else home.root / "spool" / target.name,
        slot=settings.slot,
        binaries=lambda major: PostgresBinaries.find(major, Shelf.of(home)),
        clock=now,
        progress=progress,
        recipients=pipeline.terms[target].recipients,
    )
