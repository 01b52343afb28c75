"""A PostgreSQL that runs on a restored data directory, cut off from the world that the copy came from.

::

    copy = RestoredServer(sandbox, "copy", data_directory=sandbox.directory("restored") / "data", settings={
        "restore_command": "...", "recovery_target_name": "cut", "recovery_target_action": "promote"})
    copy.start(timeout=600)
    copy.wait_until_primary()
    with copy.connect("orders") as connection: ...
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from include.engine.errors import NotFound, Refused
from include.engine.sandbox.accounts import own, own_tree
from include.engine.sandbox.home import Sandbox
from include.engine.systems.postgres.server import SUPERUSER, PostgresServer

# A copy of a production server must not act as one: it archives nothing, connects nowhere, preloads nothing that
# runs jobs, and takes the memory of a guest.
_ISOLATION = {
    "archive_mode": "off",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "ssl": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "external_pid_file": "",
    "shared_buffers": "128MB",
    "huge_pages": "off",
}
# Recovery refuses to start with less than the original had; pg_control knows how much that was.
_FROM_CONTROL_FILE = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}


class RestoredServer(PostgresServer):
    """A server on the data directory that a restore has filled.

    Nobody knows its passwords, so it is reached over its Unix socket, whose directory only the servers' account and
    root may enter, as any role and without a password; over TCP it takes scram as the original does.

    :param data_directory: the restored PGDATA; root gives it to the servers' account when it lies in the sandbox
    :param superuser: a role of the original that may do everything
    :param settings: configuration parameters for the command line: the recovery target, libraries to preload …;
        they win over the isolation
    """

    def __init__(
        self,
        sandbox: Sandbox,
        name: str = "restored",
        *,
        data_directory: Path,
        port: int | None = None,
        superuser: str = SUPERUSER,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        version = data_directory / "PG_VERSION"
        if not version.is_file():
            raise NotFound(f"{data_directory} holds no PostgreSQL cluster", hint="Restore into it first")
        super().__init__(sandbox, name, major=int(version.read_text().strip()), port=port)
        self._data_directory = data_directory.resolve()
        self._superuser = superuser
        self._overrides = dict(settings or {})

    @property
    def data_directory(self) -> Path:
        """PGDATA."""
        return self._data_directory

    def conninfo(self, dbname: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """A libpq connection string over the Unix socket; without a password it may be any role."""
        from psycopg.conninfo import make_conninfo

        host = str(self.socket_directory) if password is None else self.host
        return make_conninfo(host=host, port=self.port, user=user or self._superuser, password=password, dbname=dbname)

    def _options(self) -> dict[str, str]:
        files = {"hba_file": str(self.directory / "pg_hba.conf"), "ident_file": str(self.directory / "pg_ident.conf")}
        if not (self.data_directory / "postgresql.conf").exists():  # Debian keeps it in /etc
            files["config_file"] = str(self.directory / "postgresql.conf")
        control = self.control_data()
        sizes = {setting: control[label] for label, setting in _FROM_CONTROL_FILE.items() if label in control}
        return _ISOLATION | files | sizes | self._overrides

    def _prepare(self) -> None:
        self._take_over()
        for name, text in {
            "pg_hba.conf": "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
            "pg_ident.conf": "",
            "postgresql.conf": "",
        }.items():
            file = self.directory / name
            file.write_text(text)
            own(file, self.sandbox.account, mode=0o600)
        # Neither belongs to this life: the original's process id, and the options of its last start.
        for name in ("postmaster.pid", "postmaster.opts"):
            (self.data_directory / name).unlink(missing_ok=True)

    def _take_over(self) -> None:
        """Make the data directory what PostgreSQL insists on: its account's own, and closed to others."""
        account = self.sandbox.account
        if self.data_directory.is_relative_to(self.sandbox.root):
            own_tree(self.data_directory, account)
        found = self.data_directory.stat()
        if found.st_uid != account.uid:
            raise Refused(
                f"{self.data_directory} belongs to another account than {account.name}, who runs the server",
                hint="Restore into a directory of the sandbox, or chown it",
            )
        if stat.S_IMODE(found.st_mode) not in (0o700, 0o750):
            self.data_directory.chmod(0o700)
