"""The PostgreSQL part of a drill: restore into a sandbox, compare rows at the very point they were digested at, go on, check."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from include.engine.contracts import Rehearsal, RestoreJob
from include.engine.errors import MainstayError
from include.engine.model import Check, Restored, Verdict
from include.engine.sandbox.accounts import own
from include.engine.sandbox.home import Home
from include.engine.systems.postgres import heartbeat
from include.engine.systems.postgres.client import sql
from include.engine.systems.postgres.inspection import compare, connection_to, look, readable
from include.engine.systems.postgres.landing import Ground, Landing, joined

_CHECKS = "checks"


@contextmanager
def rehearse(ground: Ground, job: RestoreJob, *, home: Home) -> Iterator[Rehearsal]:
    """Restore *job* into a sandbox of its own, check it, and keep it up until the context ends.

    Nothing is left afterwards, whatever happened.
    """
    with home.for_drill(job.plan.target.name) as sandbox:
        data = sandbox.directory("postgres-restored") / "data"
        data.mkdir()
        own(data, sandbox.account, mode=0o700)  # whatever our umask is, the server's account must get in
        landing = Landing(ground, job, data, sandbox=sandbox, port=None)
        landing.assemble()
        with landing.spool() as spool:
            if obstacle := compare(landing, spool):
                landing.checks.append(Check(name="rows", verdict=Verdict.UNVERIFIED, detail=obstacle))
            landing.open(spool)
        look(landing)
        with landing.timed(_CHECKS, counts=False):
            newest = _newest(landing, readable(landing))
        report = landing.report()
        restored = Restored(
            target=report.target,
            backup=report.backup,
            address=report.address,
            recovered_to=report.recovered_to,
            stages=joined(landing.stages),
            checks=tuple(landing.checks),
            detail=report.detail,
        )
        yield Rehearsal(
            restored=restored,
            checks=tuple(landing.checks),
            newest_record=newest,
            newest_at_source=ground.frozen.at if ground.frozen else job.plan.point.time,
        )


def _newest(landing: Landing, databases: Sequence[str]) -> datetime | None:
    """Give the newest heartbeat of any database, for nobody says in which one it is written; without one, what was stated.

    The heartbeat is written by the source's clock and compared with ours, so what the backup saw between the two is taken out.
    """
    started, table = time.monotonic(), landing.detail.heartbeat
    found = [at for name in databases if table and (at := _asked(landing, name, table)) is not None]
    if found:
        ahead = landing.detail.clock_ahead_seconds
        corrected = f"; the source's clock was {ahead:+.1f} s from ours, which is taken out" if ahead else ""
        detail = f"the newest row is of {max(found).isoformat()}{corrected}"
        landing.checks.append(_heartbeat(Verdict.PASS, detail, started))
        return max(found) - timedelta(seconds=ahead)
    lacking = f"no database has a row in {table}" if table else "the inventory named no heartbeat table"
    stated = landing.complete_at()
    if stated is None:
        detail = f"{lacking}, and no archiver has stated how far the log is complete: the RPO cannot be measured"
        landing.checks.append(_heartbeat(Verdict.UNVERIFIED, detail, started))
        return None
    detail = (
        f"{lacking}; the archiver has stated that all of {stated.isoformat()} is stored, and all of the log came back"
    )
    landing.checks.append(_heartbeat(Verdict.PASS, detail, started))
    return stated


def _asked(landing: Landing, database: str, table: str) -> datetime | None:
    try:
        with sql(connection_to(landing), database=database) as client:
            return heartbeat.newest(client, table)
    except MainstayError:
        return None  # a template that takes no connections, or one that is gone at this point in time


def _heartbeat(verdict: Verdict, detail: str, started: float) -> Check:
    return Check(name="heartbeat", verdict=verdict, detail=detail, seconds=time.monotonic() - started)
