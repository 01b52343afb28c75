"""The PostgreSQL part of a drill: restore into a sandbox, compare rows at the very point they were digested at, go on, check."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from include.engine.contracts import Connection, Rehearsal, RestoreJob
from include.engine.errors import MainstayError
from include.engine.model import Check, PointKind, RecoveryPoint, Restored, Verdict
from include.engine.sandbox.accounts import own
from include.engine.sandbox.home import Home
from include.engine.systems.postgres import checks, heartbeat
from include.engine.systems.postgres.client import sql
from include.engine.systems.postgres.landing import Ground, Landing, joined
from include.engine.systems.postgres.lsn import parse_lsn
from include.engine.systems.postgres.recovery import EndedEarly
from include.engine.systems.postgres.spool import WalSpool

_CHECKS = "checks"


@contextmanager
def rehearse(ground: Ground, job: RestoreJob, *, home: Home) -> Iterator[Rehearsal]:
    """Restore *job* into a sandbox of its own, check it, and keep it up until the context ends.

    Nothing is left afterwards, whatever happened.
    """
    with home.sandbox(f"drill-{job.plan.target.name[:24]}-{secrets.token_hex(4)}") as sandbox:
        data = sandbox.directory("postgres-restored") / "data"
        data.mkdir()
        own(data, sandbox.account, mode=0o700)  # whatever our umask is, the server's account must get in
        landing = Landing(ground, job, data, sandbox=sandbox, port=None)
        landing.assemble()
        with landing.spool() as spool:
            _compare(landing, spool)
            landing.open(spool)
        newest = _look(landing, landing.detail.heartbeat)
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


def connection_to(landing: Landing) -> Connection:
    """Say how to reach the restored server: over its socket, as its superuser."""
    server = landing.server
    return Connection(
        host=str(server.socket_directory), port=server.port, login=landing.ground.superuser, schema="postgres"
    )


def _compare(landing: Landing, spool: WalSpool) -> None:
    """Stop where the samples were taken and compare; what cannot be compared is said, and the drill goes on."""
    check = landing.detail.check
    obstacle = check.reason or ("" if check.lsn else "the backup has no samples")
    if not obstacle:
        obstacle = _too_early(landing, landing.job.plan.point)
    if not obstacle:
        try:
            landing.pause_at(spool, check.lsn)
        except EndedEarly:
            obstacle = f"the archived log ends before {check.lsn}, where the samples were taken"
    if obstacle:
        landing.checks.append(Check(name="rows", verdict=Verdict.UNVERIFIED, detail=obstacle))
        return
    source = connection_to(landing)
    with landing.timed(_CHECKS, counts=False):
        landing.checks += checks.compare_samples(
            lambda database: sql(source, database=database), landing.job.chain[-1].samples
        )
    with landing.timed("restart for the checks", counts=False):
        landing.server.stop()


def _too_early(landing: Landing, point: RecoveryPoint) -> str:
    """Say when the wanted point lies before the samples: recovery cannot go back."""
    position = landing.detail.check.lsn
    before = {
        PointKind.LATEST: False,
        PointKind.BACKUP: True,
        PointKind.NAME: point.value != landing.detail.check.restore_point,
        PointKind.TIME: point.time is not None and point.time <= landing.job.chain[-1].finished,
        PointKind.POSITION: point.kind is PointKind.POSITION and parse_lsn(point.value) <= parse_lsn(position),
    }[point.kind]
    return f"the samples were taken at {position}, which may lie behind {point}" if before else ""


def _look(landing: Landing, table: str | None) -> datetime | None:
    """Check the open server; give the newest heartbeat."""
    with landing.timed(_CHECKS, counts=False):
        landing.checks.append(
            checks.amcheck(
                connection_to(landing),
                landing.ground.binaries.tool("pg_amcheck"),
                environment=landing.ground.binaries.environment,
            )
        )
        databases = [database.name for database in landing.detail.databases if database.bytes is not None]
        landing.checks += _readable(landing, databases)
        return _newest(landing, databases, table)


def _readable(landing: Landing, databases: Sequence[str]) -> list[Check]:
    """Databases whose rows were compared were read already; of the others every row is read once."""
    compared = {check.name for check in landing.checks}
    left = [name for name in databases if f"rows of {name}" not in compared and name not in ("template0", "template1")]
    source = connection_to(landing)
    return checks.counts(lambda database: sql(source, database=database), left)


def _newest(landing: Landing, databases: Sequence[str], table: str | None) -> datetime | None:
    """Give the newest heartbeat of any database: nobody says in which one it is written."""
    if table is None:
        landing.checks.append(
            _heartbeat(
                Verdict.UNVERIFIED, "the inventory named no heartbeat table when the backup was taken", time.monotonic()
            )
        )
        return None
    started = time.monotonic()
    found = [at for name in databases if (at := _asked(landing, name, table)) is not None]
    if not found:
        detail = f"no database has a row in {table}: the RPO cannot be measured in the data"
        landing.checks.append(_heartbeat(Verdict.UNVERIFIED, detail, started))
        return None
    landing.checks.append(_heartbeat(Verdict.PASS, f"the newest row is of {max(found).isoformat()}", started))
    return max(found)


def _asked(landing: Landing, database: str, table: str) -> datetime | None:
    try:
        with sql(connection_to(landing), database=database) as client:
            return heartbeat.newest(client, table)
    except MainstayError:
        return None  # a template that takes no connections, or one that is gone at this point in time


def _heartbeat(verdict: Verdict, detail: str, started: float) -> Check:
    return Check(name="heartbeat", verdict=verdict, detail=detail, seconds=time.monotonic() - started)
