"""``./mainstay commit-log-archive``: the process that ships the commit logs of a Cassandra cluster."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from include.engine.cli.boundary import stopping
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.errors import Misconfigured, Unsupported
from include.engine.model import System, Target


@finds_pipeline
def commit_log_archive(
    whence: Whence,
    target: Annotated[str, typer.Argument(help="cassandra/<name>")],
    once: Annotated[bool, typer.Option("--once", help="ship what is there now, and end")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, help="seconds between two looks at the nodes")] = 10.0,
) -> None:
    """Ship the finished commit log segments of all nodes of a Cassandra cluster to the bucket, until SIGTERM.

    Runs in the foreground, one per cluster, under a supervisor. Cassandra's archive_command makes hard links in the
    directory that the inventory names (commitlog_archive); nodes send them by signed URL, and links go when they arrived.
    """
    from include.engine.cli.connections import ShellConnections
    from include.engine.systems.cassandra.settings import Settings
    from include.engine.systems.cassandra.shipper import CommitLogShipper

    wanted = Target.parse(target)
    if wanted.system is not System.CASSANDRA:
        raise Unsupported(f"{wanted} has no commit log to ship", hint="name a target cassandra/<name>")
    if whence.bucket:
        raise Misconfigured(
            "a log is archived for a target of the inventory, not for a bucket alone", hint="leave --bucket out"
        )
    pipeline = whence.pipeline()
    settings = whence.inventory().settings(wanted)
    assert isinstance(settings, Settings)
    with stopping() as stop, ShellProgress() as progress:
        connection = ShellConnections(whence.path).get(settings.connection)
        shipper = CommitLogShipper(wanted, settings, connection, pipeline.catalog.bucket, progress)
        if once:
            progress.say(f"{wanted}: {shipper.ship(stop)} segments shipped")
            return
        progress.say(f"{wanted}: archiving to {pipeline.catalog.bucket.url}")
        shipper.run(stop, every=timedelta(seconds=every))
        progress.say(f"{wanted}: stopped")
