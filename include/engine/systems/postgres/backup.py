"""Backs up a PostgreSQL cluster: the whole of it, while it works, over the replication protocol, with no agent and no disk.

What the role needs: LOGIN and REPLICATION; EXECUTE on ``pg_create_restore_point(text)`` for the cut; pg_read_all_data for the
samples that a drill compares.  Without the last two the backup is taken and says in its notes what it lacks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import msgspec
from msgspec import Struct

from include.engine.contracts import Clock, Connection, CopyJob, Stop
from include.engine.errors import Unauthorized, Unsupported
from include.engine.model import Cut, Kind, Manifest, SourceIdentity, Target, backup_time
from include.engine.systems.postgres.basebackup import CHECKSUMS
from include.engine.systems.postgres.chain import Decision, ServerState, choose_kind
from include.engine.systems.postgres.client import application_name, place, sql
from include.engine.systems.postgres.detail import CheckPoint, DatabaseSize, PostgresDetail, Tablespace
from include.engine.systems.postgres.digests import Gap, Instant, Sample
from include.engine.systems.postgres.lsn import Segment, parse_lsn
from include.engine.systems.postgres.replication import ReplicationSession
from include.engine.systems.postgres.samples import take_samples, to_documents
from include.engine.systems.postgres.settings import PostgresSettings
from include.engine.systems.postgres.transfer import Offer, Transferred, transfer

_OLDEST, _NEWEST = 150000, 189999  # server_version_num that this is tested with
_SKEW_NOISE = 1.0  # seconds between two clocks that the question itself may explain
_SKEW_TOLD = 5.0
_CLOCK_AND_SUPERUSER = "SELECT clock_timestamp(), pg_get_userbyid(10)"  # 10 is the role that initdb made
_DATABASES = """
    SELECT datname, CASE WHEN may THEN pg_database_size(oid) END, may AND NOT datistemplate
    FROM (SELECT *, has_database_privilege(oid, 'CONNECT') AS may FROM pg_database WHERE datallowconn) d
    ORDER BY 2 DESC NULLS LAST, 1
"""


class _Server(Struct, frozen=True, kw_only=True):
    """What the replication connection says of the server."""

    state: ServerState
    version: str
    segment_bytes: int
    checksums: bool


class _Looked(Struct, frozen=True, kw_only=True):
    """What SQL says at the end of a backup."""

    at: datetime
    ahead: float = 0.0
    superuser: str = "postgres"
    databases: tuple[DatabaseSize, ...] = ()
    samples: Sequence[Sample] = ()
    notes: tuple[str, ...] = ()


class PostgresBackup:
    """The live cluster behind one connection (see ``contracts.BackupSource``)."""

    def __init__(self, target: Target, settings: PostgresSettings, connection: Connection) -> None:
        self.target = target
        self._settings = settings
        self._connection = connection

    def freeze(self, backup: str, clock: Clock) -> Cut:
        """Write a restore point into the log and give its position.

        A second call writes a second restore point of the same name, which PostgreSQL allows and nobody can look for.  It is
        harmless: the position in the cut tells them apart, the verb keeps the cut that was first, and a recovery to the name
        stops at the first record of that name that it meets.

        A role without the right gives the current position instead, and says so in the cut's detail.
        """
        name = f"mainstay_{backup}"
        try:
            with sql(
                self._connection, database=self._settings.database, application=application_name(backup)
            ) as client:
                row = client.execute(
                    "SELECT p::text, ('x' || left(pg_walfile_name(p), 8))::bit(32)::int, clock_timestamp()"
                    " FROM pg_create_restore_point(%s) p",
                    (name,),
                ).fetchone()
        except (Unauthorized, Unsupported) as error:  # no right to it, or a standby
            return self._plain_cut(backup, clock, str(error))
        if row is None:
            raise Unsupported(f"{place(self._connection)} gave no restore point", hint="connect to the server itself")
        detail = {
            "lsn": row[0],
            "timeline": row[1],
            "restore_point": name,
            "server_time": row[2].astimezone(UTC).isoformat(),
        }
        return Cut(at=clock(), position=row[0], detail=detail)

    def copy(self, job: CopyJob) -> Manifest:
        """Take a base backup, full or incremental, then the digests that a drill compares.

        :raises Unreachable: when the server or the store broke off; nothing was committed, and a base backup cannot be resumed
        :raises Unauthorized: when the role may not replicate
        :raises Contended: when the server has no WAL sender or slot to spare
        :raises Incomplete: when the server recycled WAL that the backup needs
        :raises Corrupt: when the server found a damaged page
        """
        job.stop.check()
        started = job.clock()
        with ReplicationSession(self._connection, application=application_name(job.id), stop=job.stop) as holder:
            server = self._server(holder)
            now, full = backup_time(job.id), job.full
            decision = choose_kind(job.history, self._settings, server.state, now, asked_full=full, doubted=job.doubted)
            job.progress.say(f"{decision.kind}: {decision.reason}")
            # Two attempts at one backup may run at once, so the process tells their slots apart.
            holder.hold_wal(f"mainstay_{job.id.lower()}_{holder.backend_pid}")
            done = transfer(job, self._connection, self._settings, Offer.first(self._settings, decision.parent))
            job.progress.stage("samples")
            looked = self._look(job)
        return self._manifest(job, started=started, server=server, decision=decision, done=done, looked=looked)

    def release(self, backup: str) -> None:
        """End what a dead worker left on the server: its WAL senders, and with them their temporary slots."""
        with sql(self._connection, database=self._settings.database) as client:
            client.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = %s AND pid <> pg_backend_pid() AND usename = current_user",
                (application_name(backup),),
            )

    def inventory_gaps(self) -> Sequence[str]:
        """Give nothing: a physical backup holds the whole cluster, whatever databases and tablespaces are added."""
        return ()

    def _plain_cut(self, backup: str, clock: Clock, reason: str) -> Cut:
        with ReplicationSession(self._connection, application=application_name(backup), stop=Stop()) as session:
            found = session.identify()
        detail = {"lsn": found.position, "timeline": found.timeline, "restore_point": "", "note": reason}
        return Cut(at=clock(), position=found.position, detail=detail)

    def _server(self, session: ReplicationSession) -> _Server:
        number = session.server_version
        if number < _OLDEST:
            raise Unsupported(
                f"{place(self._connection)} is PostgreSQL {session.server_version_text}",
                hint="Mainstay backs up 15 and later: upgrade the server, or use its own pg_basebackup",
            )
        return _Server(
            state=ServerState(
                version_num=number,
                identity=session.identify().system_identifier,
                summarizing=number >= 170000 and session.show("summarize_wal") == "on",
            ),
            version=session.server_version_text,
            segment_bytes=_bytes(session.show("wal_segment_size")),
            checksums=session.show("data_checksums") == "on",
        )

    def _look(self, job: CopyJob) -> _Looked:
        """Ask by SQL what the replication protocol cannot tell.  Without the right to, the backup is as good and says less."""
        name = application_name(job.id)
        try:
            with sql(self._connection, database=self._settings.database, application=name, stop=job.stop) as client:
                asked = job.clock()
                row = client.execute(_CLOCK_AND_SUPERUSER).fetchone()
                answered = job.clock()
                found = client.execute(_DATABASES).fetchall()
                at, superuser = (row[0].astimezone(UTC), row[1]) if row else (answered, "postgres")
                first = client.info.dbname
        except Unauthorized as error:
            return _Looked(at=job.clock(), samples=[Gap(reason=str(error))], notes=(f"no SQL: {error}",))
        # A connection to a template would make CREATE DATABASE fail, so templates are not sampled.  Sorting is stable: the one
        # with the right to restore points leads.
        names = sorted((datname for datname, _, may in found if may), key=lambda datname: datname != first)
        samples = take_samples(
            lambda database: sql(self._connection, database=database, application=name, stop=job.stop),
            names,
            restore_point=f"mainstay_check_{job.id}",
            settings=self._settings.samples,
            stop=job.stop,
        )
        ahead = clock_ahead(at, asked, answered)
        notes = (
            (f"the server's clock and this machine's differ by {abs(ahead):.0f} s",) if abs(ahead) > _SKEW_TOLD else ()
        )
        sizes = tuple(DatabaseSize(name=datname, bytes=size) for datname, size, _ in found)
        return _Looked(at=at, ahead=ahead, superuser=superuser, databases=sizes, samples=samples, notes=notes)

    def _manifest(
        self,
        job: CopyJob,
        *,
        started: datetime,
        server: _Server,
        decision: Decision,
        done: Transferred,
        looked: _Looked,
    ) -> Manifest:
        parent = done.offer.parent
        detail = _detail(job, self._settings, server, done, looked)
        lacking = str(job.cut.detail.get("note", ""))
        reasons = (decision.reason, *done.notes, *looked.notes, f"no restore point: {lacking}" if lacking else "")
        if server.state.version_num > _NEWEST:
            reasons = (*reasons, f"PostgreSQL {server.version} is newer than this Mainstay was tested with")
        return Manifest(
            id=job.id,
            target=self.target,
            kind=Kind.INCREMENTAL if parent else Kind.FULL,
            parent=parent.id if parent else None,
            started=started,
            finished=job.clock(),
            # The server's clock, because recovery compares times with those in the log.
            recoverable_from=looked.at,
            recoverable_to=looked.at,
            cut=job.cut,
            entries=done.entries,
            source=SourceIdentity(
                identity=server.state.identity, version=server.version, address=place(self._connection)
            ),
            tools={"postgresql": server.version, "mainstay": _own_version()},
            samples=to_documents(looked.samples),
            notes=tuple(reason for reason in reasons if reason),
            detail=msgspec.to_builtins(detail),
        )


def clock_ahead(at: datetime, asked: datetime, answered: datetime) -> float:
    """Give how many seconds the clock that said *at* is ahead of the one that says when it was asked and answered.  Pure.

    0 when the clocks may be equal: what lies within the time of the question, and a second, is no difference.
    """
    ahead = (at - (asked + (answered - asked) / 2)).total_seconds()
    doubt = (answered - asked).total_seconds() / 2 + _SKEW_NOISE
    return round(ahead, 3) if abs(ahead) > doubt else 0.0


def open_source(target: Target, settings: PostgresSettings, connection: Connection) -> PostgresBackup:
    """Give the live target, for ``wiring``."""
    return PostgresBackup(target, settings, connection)


def _detail(
    job: CopyJob, settings: PostgresSettings, server: _Server, done: Transferred, looked: _Looked
) -> PostgresDetail:
    archives = {entry.name.split(".")[0]: entry.name for entry in done.entries}
    size = server.segment_bytes
    # The log ends just before the stop position: at a boundary the segment before is the last one.
    last = Segment.at(max(parse_lsn(done.stop_lsn) - 1, 0), done.stop_timeline, size)
    return PostgresDetail(
        server_version_num=server.state.version_num,
        timeline=done.timeline,
        stop_timeline=done.stop_timeline,
        start_lsn=done.start_lsn,
        stop_lsn=done.stop_lsn,
        start_wal=Segment.at(parse_lsn(done.start_lsn), done.timeline, size).name,
        stop_wal=last.name,
        wal_segment_bytes=size,
        data_checksums=server.checksums,
        manifest_checksums=CHECKSUMS,
        compression=str(done.offer.compression),
        compressed_on="server" if done.offer.on_server else "client",
        base=archives["base"],
        tablespaces=tuple(
            Tablespace(oid=found.oid, path=found.path, archive=archives[str(found.oid)], bytes=found.bytes)
            for found in done.tablespaces
            if found.oid is not None
        ),
        databases=looked.databases,
        superuser=looked.superuser,
        heartbeat=settings.heartbeat,
        clock_ahead_seconds=looked.ahead,
        restore_point=str(job.cut.detail.get("restore_point", "")),
        check=_check_point(looked.samples),
    )


def _check_point(samples: Sequence[Sample]) -> CheckPoint:
    for sample in samples:
        if isinstance(sample, Instant):
            return CheckPoint(lsn=sample.lsn, restore_point=sample.restore_point)
        if isinstance(sample, Gap):
            return CheckPoint(reason=sample.reason)
    return CheckPoint(reason="no samples were taken")


def _bytes(setting: str) -> int:
    """Read ``16MB`` or ``1GB``, as SHOW prints wal_segment_size."""
    match = re.fullmatch(r"(\d+)\s*(B|kB|MB|GB)", setting)
    if not match:
        raise Unsupported(f"{setting!r} is not a size that is known", hint="report it with the server's version")
    return int(match[1]) << {"B": 0, "kB": 10, "MB": 20, "GB": 30}[match[2]]


def _own_version() -> str:
    try:
        return version("mainstay")
    except PackageNotFoundError:  # run from a checkout, as an Airflow project is
        return "checkout"
