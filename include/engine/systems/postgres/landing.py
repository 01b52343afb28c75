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
from include.engine.errors import MainstayError, Unreachable
from include.engine.model import Check, DestinationKind, PointKind, RecoveryPoint, Restored, Stage, Target, Verdict
from include.engine.sandbox.accounts import Account, own
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.assembly import Assembly
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.frozen_log import FrozenLog
from include.engine.systems.postgres.lsn import parse_lsn
from include.engine.systems.postgres.recovery import EndedEarly, Recovery, is_paused, is_primary, recovery_settings
from include.engine.systems.postgres.restored import RestoredServer
from include.engine.systems.postgres.selection import Way
from include.engine.systems.postgres.spool import WalSpool

SPOOL = ".mainstay-wal"  # in the data directory, so that handing a segment over is a rename
_RECOVER = "recover"
# What a source's configuration may say and a copy must not do; written last, so it wins, and easily taken out again.
_QUIETED = {
    "archive_mode": "off",
    "archive_command": "",
    "archive_library": "",
    "restore_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    **{f"recovery_target{kind}": "" for kind in ("", "_time", "_lsn", "_name", "_xid")},
}


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
        self.stages: list[Stage] = []
        self.checks: list[Check] = []
        self.notes: list[str] = []
        self.server: RestoredServer
        self._log_bytes = 0

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
        """Give what feeds the recovery."""
        return WalSpool(
            self.ground.bucket,
            self.ground.target,
            self.data / SPOOL,
            account=self.sandbox.account,
            identities=self.ground.identities,
            segment_size=self.detail.wal_segment_bytes,
            system_identifier=self.job.chain[-1].source.identity,
            frozen=self.ground.frozen,
        )

    def pause_at(self, spool: WalSpool, lsn: str) -> None:
        """Recover up to *lsn*, exclusively, and stay there read-only.

        :raises NotFound: when the log ends before
        """
        point = RecoveryPoint(kind=PointKind.POSITION, value=lsn)
        settings = self._settings(spool, point, pause=True, inclusive=False)
        with self.timed(_RECOVER, spool):
            self._recover(spool, point, settings, pause=True)

    def open(self, spool: WalSpool) -> None:
        """Recover to the job's point and take writes.

        :raises NotFound: when the log ends before the point
        """
        point = self.job.plan.point
        with self.timed(_RECOVER, spool):
            try:
                self._recover(spool, point, self._settings(spool, point))
            except EndedEarly as error:
                if not self._covered(point):
                    raise
                # PostgreSQL wants to see a record behind the point.  There is none, so the end of the log is the point.
                self.notes.append(f"{error.message}; the archive goes beyond the point, so nothing is missing")
                latest = RecoveryPoint(kind=PointKind.LATEST)
                self._recover(spool, latest, self._settings(spool, latest))
        with self.timed("ready"):
            self.checks.append(self._opened())

    def report(self) -> Restored:
        """Say what was done, read back from the server."""
        with self.server.connect() as connection:
            row = connection.execute(
                "select pg_last_xact_replay_timestamp(), pg_current_wal_lsn()::text,"
                " (select timeline_id from pg_control_checkpoint())"
            ).fetchone()
        replayed, lsn, timeline = row or (None, "", 0)
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

    def _covered(self, point: RecoveryPoint) -> bool:
        """Whether the archive goes beyond the point: then its end has all that happened up to there, and no more."""
        within = self.ground.way.reach
        if point.kind is PointKind.POSITION:
            return within.to_lsn >= parse_lsn(point.value)
        return point.time is not None and within.newest is not None and within.newest >= point.time

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
            raise Unreachable(
                f"the restored server takes no writes: {error}", hint=f"read {self.server.log}"
            ) from error
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


def tidy(data: Path, account: Account) -> None:
    """Leave a directory that a stock PostgreSQL can start: it recovers to nowhere, archives nothing, waits for no standby.

    :raises MainstayError: when a file cannot be written
    """
    automatic = data / "postgresql.auto.conf"
    try:
        kept = [
            line
            for line in (automatic.read_text().splitlines() if automatic.exists() else [])
            if line.partition("=")[0].strip().lower() not in _QUIETED
        ]
        settings = [f"{name} = '{value}'" for name, value in _QUIETED.items() if value or name != "archive_library"]
        automatic.write_text("\n".join([*kept, *settings]) + "\n")
        own(automatic, account, mode=0o600)
        for name, text in (("postgresql.conf", ""), ("pg_hba.conf", _HBA), ("pg_ident.conf", "")):
            if not (data / name).exists():  # Debian keeps them in /etc, where no backup looks
                (data / name).write_text(text)
                own(data / name, account, mode=0o600)
        for name in ("recovery.done", "postmaster.opts"):
            (data / name).unlink(missing_ok=True)
    except OSError as error:
        raise MainstayError(
            f"{data} is restored, but its configuration cannot be written: {error}",
            hint="set archive_mode = off and synchronous_standby_names = '' before starting it",
        ) from error


_HBA = "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"
