"""A real PostgreSQL in a sandbox: on loopback, with passwords, throw-away.

::

    primary = PostgresServer(sandbox, "main", major=17)
    primary.start()                                        # initdb the first time; what runs already is reused
    with primary.connect() as connection:                  # psycopg, autocommit, as the superuser
        connection.execute("create table t (n int)")
    role = primary.create_backup_role()                    # what a production server grants to Mainstay
    standby = StandbyServer(primary, "standby").start()    # standby.py
    primary.stop()
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, LiteralString, Self

from include.engine.errors import Corrupt, Unreachable
from include.engine.sandbox.accounts import own
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK
from include.engine.sandbox.process import ServerProcess, ServerSpec, run_tool
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.roles import BACKUP_ROLE, ensure_role, grant_backup_rights

if TYPE_CHECKING:
    import psycopg

SUPERUSER = "postgres"

_SETTINGS = {
    "wal_level": "replica",
    "hot_standby": "on",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_connections": "100",  # an Airflow, its tasks, a sweep and a drill at once were seen to take 46
    "shared_buffers": "64MB",
    "min_wal_size": "32MB",
    "max_wal_size": "512MB",
    "password_encryption": "scram-sha-256",
    "wal_retrieve_retry_interval": "500ms",
    **dict.fromkeys(("timezone", "log_timezone"), "UTC"),
    "log_line_prefix": "%m [%p] %q%u@%d/%a ",
}
_UNSAFE_BUT_QUICK = {"fsync": "off"}  # survives the death of every process, not that of the machine
_STOP = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class PostgresServer:
    """One PostgreSQL server, started or not.

    Whoever constructs it again with the same sandbox and name, in this process or a later one, has the same server.

    :param name: unique among the sandbox's PostgreSQL servers
    :param major: major version; the exact one is pinned in :mod:`binaries`
    :param port: TCP port on 127.0.0.1, unless ``$MAINSTAY_PORT_POSTGRES_<NAME>`` says otherwise; a free one that stays
        the same when neither is given
    :param settings: configuration parameters, written to ``postgresql.conf`` when the data directory is made
    :param durable: whether commits are flushed to the disk; a demo wants it, a test is quicker without
    """

    host = LOOPBACK

    def __init__(
        self,
        sandbox: Sandbox,
        name: str = "main",
        *,
        major: int = 17,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        durable: bool = False,
    ) -> None:
        self.sandbox = sandbox
        self.name = name
        self.major = major
        self.label = f"postgres-{name}"
        self.port = sandbox.port(self.label, port)
        self.durable = durable
        version = {"summarize_wal": "on"} if major >= 17 else {}
        self.settings = _SETTINGS | version | ({} if durable else _UNSAFE_BUT_QUICK) | dict(settings or {})

    @cached_property
    def binaries(self) -> PostgresBinaries:
        """Its programs, fetched when they are not there.

        :raises NotFound: this major version cannot be had
        """
        return PostgresBinaries.find(self.major, Shelf.of(self.sandbox.home))

    @cached_property
    def directory(self) -> Path:
        """The data directory's parent: everything of the server lies in it."""
        return self.sandbox.directory(self.label)

    @property
    def data_directory(self) -> Path:
        """PGDATA."""
        return self.directory / "data"

    @cached_property
    def socket_directory(self) -> Path:
        """Where its Unix socket is; only the account that runs the server, and root, may enter."""
        return self.sandbox.socket_directory(self.label)

    @property
    def password(self) -> str:
        """The superuser's password."""
        return self.sandbox.secret(self.label)

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._process.running

    @property
    def log(self) -> Path:
        """The file with its log."""
        return self._process.log

    def conninfo(self, dbname: str = "postgres", *, user: str = SUPERUSER, password: str | None = None) -> str:
        """A libpq connection string, with the password: do not log it."""
        from psycopg.conninfo import make_conninfo

        secret = password or self.password
        return make_conninfo(host=self.host, port=self.port, user=user, password=secret, dbname=dbname)

    def connect(self, dbname: str = "postgres") -> psycopg.Connection:
        """A connection of the superuser in autocommit mode.

        :raises Unreachable: the server refused or did not answer
        """
        import psycopg

        try:
            return psycopg.connect(self.conninfo(dbname), autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            raise Unreachable(f"{self.label} refused a connection: {error}", hint=f"Read {self.log}") from error

    def start(self, *, timeout: float = 60.0) -> Self:
        """Make the data directory when there is none, start the server, and wait until it takes connections.

        :param timeout: seconds until it takes connections; give more when it has to replay much
        :raises Contended: somebody else holds the port
        :raises Unreachable: it ended or did not answer in time; the hint shows its log
        """
        self._process.start(self._spec)
        self._process.wait_ready(self._answers, timeout=timeout)
        return self

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop it; ``immediate`` leaves the crash recovery to the next start.  No process of it is left."""
        self._process.stop(_STOP[mode])

    def kill(self) -> None:
        """SIGKILL all its processes at once, as the death of its machine would."""
        self._process.kill()

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> Self:
        """Stop and start it."""
        self.stop(mode)
        return self.start()

    def promote(self, *, timeout: float = 60.0) -> None:
        """End the recovery of a standby or a restored copy, and :meth:`wait_until_primary`."""
        with self.connect() as connection:
            connection.execute("select pg_promote(wait => false)")
        self.wait_until_primary(timeout=timeout)

    def wait_until_primary(self, *, timeout: float = 60.0) -> None:
        """Wait until recovery has ended and it takes writes.

        :raises Unreachable: it did not within *timeout* seconds
        """

        def writable() -> bool:
            with self.connect() as connection:
                row = connection.execute("select pg_is_in_recovery()").fetchone()
            return row is not None and not row[0]

        self._process.wait_ready(writable, timeout=timeout)

    def control_data(self) -> dict[str, str]:
        """What ``pg_controldata`` says about the data directory, by its English labels; works on a stopped server.

        :raises PermanentError: there is no data directory, or its control file is damaged
        """
        text = self.run("pg_controldata", "-D", self.data_directory)
        pairs = (line.partition(":") for line in text.splitlines())
        return {label.strip(): value.strip() for label, _, value in pairs}

    def system_identifier(self) -> str:
        """The number that a cluster, its standbys and its physical copies share, and no other cluster has."""
        identifier = self.control_data().get("Database system identifier")
        if not identifier:
            raise Corrupt(f"{self.label} has no system identifier", hint=f"Look at {self.data_directory}")
        return identifier

    def run(
        self, tool: str, *arguments: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 300.0
    ) -> str:
        """Run one of PostgreSQL's tools as the account of the server, and return what it prints.

        :raises PermanentError: it failed; the hint shows what it said
        :raises Unreachable: it did not end within *timeout* seconds
        """
        return run_tool(
            [self.binaries.tool(tool), *arguments],
            account=self.sandbox.account,
            directory=self.directory,
            environment={"LC_ALL": "C", **self.binaries.environment, **(environment or {})},
            timeout=timeout,
        )

    def create_backup_role(self, name: str = BACKUP_ROLE) -> str:
        """Make the role that Mainstay logs in as, or set it right; see :mod:`roles` for its rights.

        :returns: its password
        """
        password = self.create_role(name, "replication")
        with self.connect() as connection:
            grant_backup_rights(connection, name)
        return password

    def create_role(self, name: str, attributes: LiteralString = "") -> str:
        """Make the role *name*, which may log in, or set it right, and return its password.

        :param attributes: in SQL, such as ``replication createdb``
        """
        password = self.sandbox.secret(f"{self.label}-{name}")
        with self.connect() as connection:
            ensure_role(connection, name, password, attributes=attributes)
        return password

    @property
    def _process(self) -> ServerProcess:
        return self.sandbox.server(self.label)

    def _spec(self) -> ServerSpec:
        """Make what the server needs, and say how to run it."""
        self._prepare()
        return ServerSpec(
            command=self._command(),
            directory=self.data_directory,
            environment=self.binaries.environment,
            ports={self.label: self.port},
            stop_signal=_STOP["fast"],
            discard_signal=_STOP["immediate"],  # killed, it leaves shared memory on the machine
            grace=60,  # it writes a checkpoint first
            hides_environment=True,
        )

    def _command(self) -> list[str | Path]:
        # What is this server's own, and must not come back with a restored copy of it, is not in postgresql.conf.
        own_settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_directory),
            "cluster_name": self.name,
        } | self._options()
        options = [part for key, value in own_settings.items() for part in ("-c", f"{key}={value}")]
        return [self.binaries.tool("postgres"), "-D", self.data_directory, *options]

    def _options(self) -> dict[str, str]:
        """More settings for the command line."""
        return {}

    def _prepare(self) -> None:
        """Make the data directory when there is none: complete or absent, never half."""
        if not self.data_directory.exists():
            shutil.rmtree(draft := self.directory / "draft", ignore_errors=True)
            self._fill(draft)
            draft.rename(self.data_directory)

    def _fill(self, data: Path) -> None:
        """Create the new cluster in *data*."""
        password_file = self.directory / "password"
        password_file.touch(mode=0o600)
        own(password_file, self.sandbox.account)
        password_file.write_text(self.password)
        speed = [] if self.durable else ["--no-sync"]
        auth = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={password_file}"]
        try:
            self.run("initdb", "-D", data, *auth, "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8", *speed)
        finally:
            password_file.unlink()
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{key} = '{value}'\n" for key, value in self.settings.items())

    def _answers(self) -> bool:
        from psycopg import pq

        asked = f"host={self.host} port={self.port} user={SUPERUSER} connect_timeout=5"  # the role need not be there
        return pq.PGconn.ping(asked.encode()) == pq.Ping.OK
