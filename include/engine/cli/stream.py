"""``./mainstay stream``: look at a streaming job, keep it running, stop it, drain it, run it again."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.output import Json, emit_json, show, table
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.errors import Misconfigured
from include.engine.streaming import StreamSeen


@finds_pipeline
def stream(
    whence: Whence,
    *,
    name: Annotated[str, typer.Argument(metavar="JOB", help="<system>/<name>, as the inventory declares it")],
    action: Annotated[str, typer.Argument(metavar="[ACTION]", help="look, keep, stop, drain or run")] = "look",
    reason: Annotated[str, typer.Option("--reason", help="why it is stopped, drained or run again; it is noted")] = "",
    as_json: Json = False,
) -> None:
    """Look at a streaming job; or keep it running from here, as the DAG does; or stop, drain or run it.

    A wish holds until another: who keeps the job running, here or in Airflow, heeds it.  `run` also forgives launches and
    ends that were before it.
    """
    from include.engine import wiring
    from include.engine.cli.connections import ShellConnections
    from include.engine.verbs import stream as verb

    job = wiring.open_stream(whence.inventory(), ShellConnections(whence.path), name)
    if action == "keep":
        with stopping() as stop, ShellProgress() as progress:
            verb.keep(job, progress=progress, stop=stop, clock=now)
    elif action in verb.WISHES:
        verb.wish(job, action, reason=reason, by=getpass.getuser(), clock=now)
    elif action != "look":
        raise Misconfigured(
            f"{action!r} is nothing that can be done with a stream", hint="look, keep, stop, drain or run"
        )
    seen = job.look(now)
    emit_json(seen) if as_json else _tell(seen)


def _tell(seen: StreamSeen) -> None:
    state = f"{seen.life}, launch {seen.generation}" if seen.generation else "never launched"
    ended = f", ended: {seen.end}: {seen.end_reason}" if seen.end else ""
    rows = [
        (
            flow.name,
            flow.topic,
            str(flow.behind),
            f"{flow.seconds:.1f} s",
            "" if flow.batch is None else str(flow.batch),
            "" if flow.batch_seconds is None else f"{flow.batch_seconds:.1f} s",
            "" if flow.processed_rate is None else f"{flow.processed_rate:.0f}/s",
            str(flow.lost),
        )
        for flow in seen.flows
    ]
    headings = ("flow", "topic", "behind", "oldest", "batch", "took", "rate", "lost")
    if seen.unread:
        show(f"How far it is cannot be told: {seen.unread}")
    show(table(headings, rows, title=f"{seen.job}: {state}{ended}; wished: {seen.wish}"))
