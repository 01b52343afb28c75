"""Brings one backup down to earth: assemble, recover, open, look at it, and say how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from include.engine.contracts import RestoreJob
from include.engine.errors import Unreachable
from include.engine.model import Check, DestinationKind, PointKind, RecoveryPoint, Restored, Stage, Target, Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.assembly import Assembly
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.frozen_log import FrozenLog, freeze_log
from include.engine.systems.postgres.lsn import Segment
from include.engine.systems.postgres.recovery import (
    EndedEarly,
    Recovery,
    is_paused,
    is_primary,
    recovery_settings,
    tail,
)
from include.engine.systems.postgres.restored import RestoredServer
from include.engine.systems.postgres.selection import Way, borne_out, reach_along, witness
from include.engine.systems.postgres.spool import WalSpool
from include.engine.systems.postgres.wal_audit import Reach

SPOOL = ".mainstay-wal"  # in the data directory, so that handing a segment over is a rename
_RECOVER = "recover"


class Ground(Struct, frozen=True, kw_only=True):
    """What a landing stands on: the archive, the way through it, and the programs."""

    target: Target
    bucket: Bucket
    identities: tuple[str, ...]
    binaries: PostgresBinaries
    way: Way
    superuser: str
    frozen: FrozenLog | None = None  # of a drill


class Landing:
    """One restore of *job* into the data directory *data*.

    :param sandbox: where the server's log, socket and record are; the data may lie elsewhere
    :param port: of the restored server; a free one when not given
    """

    def __init__(self, ground: Ground, job: RestoreJob, data: Path, *, sandbox: Sandbox, port: int | None) -> None:
        self.ground, self.job, self.data = ground, job, data
        self.sandbox, self.port = sandbox, port
        self.detail = PostgresDetail.of(job.chain[-1])
        self.frozen = ground.frozen
        self.stages: list[Stage] = []
        self.checks: list[Check] = []
        self.notes: list[str] = []
        self.server: RestoredServer
        self._log_bytes = 0
        self._replayed: datetime | None = None  # before the last start: the server forgets it then

    def land(self) -> Restored:
        """Do all of it; the server serves when this returns."""
        self.assemble()
        with self.spool() as spool:
            self.open(spool)
        return self.report()

    def assemble(self) -> None:
        """Build the data directory.

        :raises Corrupt: naming the object or file that is damaged
        """
        assembly = Assembly(
            self.job.chain,
            self.data,
            binaries=self.ground.binaries,
            account=self.sandbox.account,
            progress=self.job.progress,
            stop=self.job.stop,
        )
        assembly.build(self.job.reader)
        self.stages += assembly.stages
        self.checks += assembly.checks

    def spool(self) -> WalSpool:
        """Give what feeds the recovery, from the archive as it is now when that must not change (see ``frozen_log``).

        :raises Corrupt: naming a history file that is damaged
        """
        if self.frozen is None and self.job.plan.point.kind in (PointKind.TIME, PointKind.POSITION):
            bucket, target, size = self.ground.bucket, self.ground.target, self.detail.wal_segment_bytes
            self.frozen = freeze_log(bucket, target, size, self.ground.identities, self.job.clock)
        known_gap = self.ground.way.reach.missing is not None
        return WalSpool(
            self.ground.bucket,
            self.ground.target,
            self.data / SPOOL,
            account=self.sandbox.account,
            identities=self.ground.identities,
            segment_size=self.detail.wal_segment_bytes,
            system_identifier=self.job.chain[-1].source.identity,
            frozen=self.frozen,
            # A gap that was known lies behind the point; the choice of the way has seen to that.
            inside=None if known_gap else Segment.parse(self.detail.stop_wal, self.detail.wal_segment_bytes),
        )

    def pause_at(self, spool: WalSpool, lsn: str) -> None:
        """Recover up to *lsn*, exclusively, and stay there read-only.

        :raises NotFound: when the log ends before
        """
        point = RecoveryPoint(kind=PointKind.POSITION, value=lsn)
        settings = self._settings(spool, point, pause=True, inclusive=False)
        with self.timed(_RECOVER, spool):
            self._recover(spool, point, settings, pause=True)
        with self.server.connect() as connection:
            row = connection.execute("select pg_last_xact_replay_timestamp()").fetchone()
            self._replayed = row[0] if row else None

    def open(self, spool: WalSpool) -> None:
        """Recover to the job's point and take writes.

        :raises NotFound: when the log ends before the point
        """
        point = self.job.plan.point
        with self.timed(_RECOVER, spool):
            try:
                self._recover(spool, point, self._settings(spool, point))
            except EndedEarly as error:
                known = self._witness(point)
                if known is None:
                    raise
                # PostgreSQL wants to see a record behind the point.  There is none, so the end of the log is the point.
                self.notes.append(f"{error.message}; {known}, so nothing is missing")
                latest = RecoveryPoint(kind=PointKind.LATEST)
                self._recover(spool, latest, self._settings(spool, latest))
        with self.timed("ready"):
            self.checks.append(self._opened())

    def complete_at(self) -> datetime | None:
        """Up to when the log that was recovered is known to have everything; None when nobody stated it.

        Only for a recovery to the newest point, which has replayed all of the log.
        """
        if self.frozen is None or self.job.plan.point.kind is not PointKind.LATEST:
            return None
        found = self._reach(self.frozen)
        return max((one.at for one in self.frozen.stated if borne_out(one, found)), default=None)

    def report(self) -> Restored:
        """Say what was done, read back from the server."""
        self.job.stop.check()  # a stop ends the server: it must not look like a server that died
        with self.server.connect() as connection:
            row = connection.execute(
                "select pg_last_xact_replay_timestamp(), pg_current_wal_lsn()::text,"
                " (select timeline_id from pg_control_checkpoint())"
            ).fetchone()
        replayed, lsn, timeline = row or (None, "", 0)
        replayed = replayed or self._replayed
        kind = self.job.plan.destination.kind
        detail = {
            "directory": str(self.data),
            "lsn": lsn,
            "timeline": timeline,
            "log_bytes": self._log_bytes,
            "notes": list(self.notes),
        }
        if kind is DestinationKind.DIRECTORY:
            detail["start"] = f"{self.ground.binaries.tool('pg_ctl')} -D {self.data} -l {self.data}.log start"
        address = "" if kind is DestinationKind.DIRECTORY else f"{self.server.host}:{self.server.port}"
        return Restored(
            target=self.ground.target,
            backup=self.job.plan.backup,
            address=address,
            recovered_to=replayed.astimezone(UTC) if replayed else self._consistent_at,
            stages=joined(self.stages),
            checks=tuple(self.checks),
            detail=detail,
        )

    @contextmanager
    def timed(self, name: str, spool: WalSpool | None = None, *, counts: bool = True) -> Iterator[None]:
        """Measure a stage; *counts* is false for what only a drill does."""
        self.job.stop.check()
        self.job.progress.stage(name)
        served = spool.served_bytes if spool else 0
        started = time.monotonic()
        yield
        fetched = spool.served_bytes - served if spool else 0
        self._log_bytes += fetched
        self.stages.append(Stage(name=name, seconds=time.monotonic() - started, bytes=fetched, counts=counts))

    @cached_property
    def _consistent_at(self) -> datetime:
        return self.job.chain[-1].recoverable_from

    def _witness(self, point: RecoveryPoint) -> str | None:
        """How it is known that the end of the log has all that happened up to the point; None when it is not."""
        if self.frozen is None:
            return None
        return witness(self._reach(self.frozen), point, self.frozen.stated)

    def _reach(self, frozen: FrozenLog) -> Reach:
        return reach_along(self.job.chain[-1], self.ground.way.timeline, frozen.archive, frozen.histories)

    def _settings(
        self, spool: WalSpool, point: RecoveryPoint, *, pause: bool = False, inclusive: bool = True
    ) -> dict[str, str]:
        return recovery_settings(
            point,
            timeline=self.ground.way.timeline,
            restore_command=spool.restore_command,
            pause=pause,
            inclusive=inclusive,
        )

    def _recover(self, spool: WalSpool, point: RecoveryPoint, settings: dict[str, str], *, pause: bool = False) -> None:
        if self.ground.binaries.major >= 17:
            # The summarizer stumbles over a timeline switch ("segment has already been removed"), then sleeps for 10
            # seconds, and a shutdown waits for it.
            settings = {**settings, "summarize_wal": "off"}
        self.server = RestoredServer(
            self.sandbox,
            "restored",
            data_directory=self.data,
            port=self.port,
            superuser=self.ground.superuser,
            settings=settings,
        )
        recovery = Recovery(self.server, spool, point=point, progress=self.job.progress, stop=self.job.stop)
        reached = is_paused if pause else is_primary
        recovery.run(lambda: reached(self.server))

    def _opened(self) -> Check:
        """Write a row and read it back."""
        import psycopg

        started = time.monotonic()
        try:
            with self.server.connect() as connection:
                connection.execute("create table pg_temp.mainstay_written as select pg_current_xact_id() as id")
                written = connection.execute("select count(*) from pg_temp.mainstay_written").fetchone() == (1,)
        except psycopg.Error as error:
            raise Unreachable(f"the restored server takes no writes: {error}", hint=tail(self.server)) from error
        return Check(
            name="promoted",
            verdict=Verdict.PASS if written else Verdict.FAIL,
            detail="it is a primary: a row was written and read back" if written else "a written row did not come back",
            seconds=time.monotonic() - started,
        )


def joined(stages: list[Stage]) -> tuple[Stage, ...]:
    """Add up stages of the same name that follow the same rule: recovery may take two starts."""
    totals: dict[tuple[str, bool], Stage] = {}
    for stage in stages:
        key = (stage.name, stage.counts)
        before = totals.get(key)
        totals[key] = (
            stage
            if before is None
            else Stage(
                name=stage.name,
                seconds=before.seconds + stage.seconds,
                bytes=before.bytes + stage.bytes,
                counts=stage.counts,
            )
        )
    return tuple(totals.values())
