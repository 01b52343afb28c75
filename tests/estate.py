"""A PostgreSQL with its archiver and its bucket, and whatever is restored from it, for tests."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from include.engine.contracts import Connection, CopyJob, PlanRequest, RestoreJob, Stop
from include.engine.errors import MainstayError
from include.engine.model import Cut, DestinationKind, Manifest, Restored, RestorePlan, System, Target
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.shared import SharedFolder
from include.engine.store.vault import VaultReader, VaultWriter
from include.engine.systems.postgres.archive import WalArchive
from include.engine.systems.postgres.backup import PostgresBackup
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.lsn import parse_lsn
from include.engine.systems.postgres.restore import PostgresRestore
from include.engine.systems.postgres.restored import RestoredServer
from include.engine.systems.postgres.roles import BACKUP_ROLE
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.settings import PostgresSettings
from include.engine.systems.postgres.wal_archive import WalArchiver, read_status, run

TARGET = Target(System.POSTGRES, "main")
HEARTBEAT = "mainstay.heartbeat"


def clock() -> datetime:
    return datetime.now(UTC)


def eventually(true: Callable[[], Any], *, within: float = 60.0, what: str = "") -> Any:
    """Wait until *true* gives something true, and give that."""
    deadline = time.monotonic() + within
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what or true}"
        time.sleep(0.02)
    return found


class Quiet:
    """A progress that nobody looks at."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[str] = []
        self.bytes = 0

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self.stages.append(name)

    def advance(self, bytes_: int) -> None:
        self.bytes += bytes_

    def say(self, text: str) -> None:
        self.said.append(text)


class Estate:
    """One running primary, its bucket, and how to back up and restore it.

    :param recipients: age public keys; empty stores in the clear
    """

    def __init__(
        self,
        server: PostgresServer,
        bucket: Bucket,
        spool: Path,
        *,
        recipients: Sequence[str] = (),
        identities: Sequence[str] = (),
    ) -> None:
        self.server, self.bucket, self.spool = server, bucket, spool
        self.recipients, self.identities = tuple(recipients), tuple(identities)
        self.catalog = Catalog(bucket)
        self.connection = Connection(
            host=server.host,
            port=server.port,
            login=BACKUP_ROLE,
            password=server.create_backup_role(),
            schema="postgres",
        )
        self.settings = PostgresSettings.model_validate({"connection": "postgres_main", "heartbeat": HEARTBEAT})
        self.slot = "mainstay_wal"
        self._names = itertools.count(1)

    # the source ------------------------------------------------------------------------------------------------------

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.server.connect() as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def now(self) -> datetime:
        """The source's own clock."""
        found: datetime = self.sql("select clock_timestamp()")[0][0]
        return found

    def backup(self, *, full: bool = False) -> Manifest:
        backup = f"20261123T{next(self._names):06d}Z"
        source = PostgresBackup(TARGET, self.settings, self.connection)
        writer = VaultWriter(self.bucket, f"{self.catalog.folder(TARGET, backup)}/attempt", recipients=self.recipients)
        cut: Cut = source.freeze(backup, clock)
        manifest = source.copy(
            CopyJob(
                id=backup,
                target=TARGET,
                cut=cut,
                writer=writer,
                reader=VaultReader(self.bucket, identities=self.identities),
                shared=SharedFolder(self.bucket, TARGET),
                history=self.catalog.backups(TARGET),
                progress=Quiet(),
                stop=Stop(),
                clock=clock,
                full=full,
            )
        )
        return self.catalog.commit(msgspec.structs.replace(manifest, encryption=writer.encryption))

    # the archive -----------------------------------------------------------------------------------------------------

    @property
    def archive(self) -> WalArchive:
        return WalArchive(TARGET, self.bucket)

    def archiver(self, **options: Any) -> WalArchiver:
        return WalArchiver(
            TARGET,
            self.bucket,
            options.pop("connection", self.connection),
            spool=options.pop("spool", self.spool),
            slot=options.pop("slot", self.slot),
            binaries=lambda major: PostgresBinaries.find(major, Shelf.of(self.server.sandbox.home)),
            clock=clock,
            progress=options.pop("progress", None) or Quiet(),
            recipients=self.recipients,
            partial_seconds=0.2,
            **options,
        )

    @contextmanager
    def archiving(self, **options: Any) -> Iterator[WalArchiver]:
        """Run an archiver in a thread of this process."""
        stop, failed = Stop(), []
        archiver = self.archiver(**options)

        def work() -> None:
            try:
                run(archiver, stop)
            except MainstayError as error:
                failed.append(error)

        thread = threading.Thread(target=work, name="archiver")
        thread.start()
        try:
            yield archiver
        finally:
            stop.stop("the test is over")
            thread.join()
        if failed:
            raise failed[0]

    def archived(self, lsn: str | None = None) -> str:
        """Wait until the bucket has the log up to *lsn*, by default up to now; give that position."""
        wanted = lsn or self.sql("select pg_current_wal_flush_lsn()::text")[0][0]
        timeline = self.sql("select left(pg_walfile_name(pg_current_wal_lsn()), 8)")[0][0]

        def there() -> bool:
            try:
                status = read_status(self.spool)
            except MainstayError:
                return False
            reached = parse_lsn(status.last_shipped_lsn or "0/0")
            return status.last_shipped[:8] == timeline and reached >= parse_lsn(wanted)

        # The end of a page may be zeros: what is shipped ends with the last byte that is not.
        self.sql("select pg_logical_emit_message(true, 'test', 'the log goes on')")
        eventually(there, what=f"the log up to {wanted} is in the bucket")
        return str(wanted)

    # what comes back -------------------------------------------------------------------------------------------------

    @property
    def engine(self) -> PostgresRestore:
        return PostgresRestore(
            TARGET,
            self.catalog,
            self.server.sandbox.home,
            identities=self.identities,
        )

    def plan(
        self,
        path: Path | None,
        point: str = "latest",
        *,
        backup: str | None = None,
        confirm: str = "",
        kind: DestinationKind | None = None,
        rehearsal: bool = False,
    ) -> RestorePlan:
        wanted = kind or (DestinationKind.DIRECTORY if path else DestinationKind.SANDBOX)
        return self.engine.plan(
            PlanRequest(
                manifests=self.catalog.backups(TARGET),
                backup=backup,
                destination_kind=wanted,
                path=str(path or ""),
                server="",
                point=point,
                confirm=confirm,
                rehearsal=rehearsal,
            )
        )

    def job(self, plan: RestorePlan, *, stop: Stop | None = None, checks: bool = False) -> RestoreJob:
        chain = [self.catalog.backup(TARGET, backup) for backup in plan.chain]
        return RestoreJob(
            plan=plan,
            chain=chain,
            reader=VaultReader(self.bucket, identities=self.identities, manifests=chain),
            progress=Quiet(),
            stop=stop or Stop(),
            clock=clock,
            checks=checks,
        )

    def restore(self, path: Path, point: str = "latest", **options: Any) -> Restored:
        return self.engine.restore(self.job(self.plan(path, point, **options)))

    @contextmanager
    def serving(self, path: Path, name: str) -> Iterator[psycopg.Connection]:
        """Start a restored directory and give a connection to it."""
        server = RestoredServer(self.server.sandbox, f"copy-{name}", data_directory=path)
        server.start()
        try:
            with server.connect() as connection:
                yield connection
        finally:
            server.stop()


def new_estate(sandbox: Sandbox, name: str, folder: Path, **options: Any) -> Estate:
    """Start a primary of its own, with an empty bucket in *folder*."""
    settings = {"checkpoint_timeout": "1h", "max_wal_size": "256MB", **options.pop("settings", {})}
    server = PostgresServer(sandbox, name, major=options.pop("major", 17), settings=settings).start()
    return Estate(server, Bucket.open(f"file://{folder}/bucket"), folder / "spool", **options)
