"""Looks at what came back: rows at the very point they were digested at, then the structure of tables and indexes, and every row.

A drill and a restore look alike.  What could not be looked at is UNVERIFIED in a drill, which is there to prove; a restore that was
asked for an earlier point says so in a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from include.engine.contracts import Connection
from include.engine.model import PointKind, RecoveryPoint, Restored
from include.engine.systems.postgres import checks
from include.engine.systems.postgres.client import sql
from include.engine.systems.postgres.landing import Landing
from include.engine.systems.postgres.lsn import parse_lsn
from include.engine.systems.postgres.recovery import EndedEarly
from include.engine.systems.postgres.spool import WalSpool

_CHECKS = "checks"
_TEMPLATES = ("template0", "template1")


def connection_to(landing: Landing) -> Connection:
    """Say how to reach the restored server: over its socket, as its superuser."""
    server = landing.server
    return Connection(
        host=str(server.socket_directory), port=server.port, login=landing.ground.superuser, schema="postgres"
    )


def land_and_look(landing: Landing) -> Restored:
    """Restore, compare, open and check; the server serves when this returns, and holds nothing that the source did not hold."""
    landing.assemble()
    with landing.spool() as spool:
        if obstacle := compare(landing, spool):
            landing.notes.append(f"rows were not compared with those of the backup: {obstacle}")
        landing.open(spool)
    databases = _databases(landing)
    source = connection_to(landing)
    lacking = checks.without_amcheck(lambda name: sql(source, database=name), databases)
    look(landing)
    checks.drop_amcheck(lambda name: sql(source, database=name), lacking)
    return landing.report()


def compare(landing: Landing, spool: WalSpool) -> str:
    """Recover to where the samples were taken and compare; give what made that impossible, the server untouched then."""
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
        return obstacle
    source = connection_to(landing)
    with landing.timed(_CHECKS, counts=False):
        landing.checks += checks.compare_samples(
            lambda database: sql(source, database=database), landing.job.chain[-1].samples
        )
    with landing.timed("restart for the checks", counts=False):
        landing.server.stop()
    return ""


def look(landing: Landing) -> None:
    """Check the open server: its structure, and every row of what was not compared."""
    with landing.timed(_CHECKS, counts=False):
        landing.checks.append(
            checks.amcheck(
                connection_to(landing),
                landing.ground.binaries.tool("pg_amcheck"),
                environment=landing.ground.binaries.environment,
            )
        )
        compared = {check.name for check in landing.checks}
        left = [name for name in readable(landing) if f"rows of {name}" not in compared and name not in _TEMPLATES]
        source = connection_to(landing)
        landing.checks += checks.counts(lambda database: sql(source, database=database), left)


def readable(landing: Landing) -> Sequence[str]:
    """Give the databases that the backup could look into."""
    return [database.name for database in landing.detail.databases if database.bytes is not None]


def _databases(landing: Landing) -> Sequence[str]:
    with landing.server.connect() as connection:
        found = connection.execute("select datname from pg_database where datallowconn order by 1").fetchall()
    return [name for (name,) in found]


def _too_early(landing: Landing, point: RecoveryPoint) -> str:
    """Say when the wanted point lies before the samples: recovery cannot go back."""
    position = landing.detail.check.lsn
    # Times in the log are the source's; when the samples were taken is known by the clock of who took the backup.
    taken = landing.job.chain[-1].finished + timedelta(seconds=landing.detail.clock_ahead_seconds + 1)
    before = {
        PointKind.LATEST: False,
        PointKind.BACKUP: True,
        PointKind.NAME: point.value != landing.detail.check.restore_point,
        PointKind.TIME: point.time is not None and point.time <= taken,
        PointKind.POSITION: point.kind is PointKind.POSITION and parse_lsn(point.value) <= parse_lsn(position),
    }[point.kind]
    return f"the samples were taken at {position}, which may lie behind {point}" if before else ""
