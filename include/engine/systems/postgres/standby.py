"""A streaming standby of a sandbox's PostgreSQL.

::

    standby = StandbyServer(primary, "standby").start()
    primary.kill()
    standby.promote()
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from include.engine.errors import Refused
from include.engine.systems.postgres.roles import REPLICATOR_ROLE
from include.engine.systems.postgres.server import PostgresServer


class StandbyServer(PostgresServer):
    """A hot standby that streams from *primary* through a replication slot of its own.

    Its passwords are those of the primary: it is the same cluster.

    :param primary: must run when the standby is started for the first time
    :param settings: configuration parameters for the command line, over those copied from the primary
    """

    def __init__(
        self,
        primary: PostgresServer,
        name: str = "standby",
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(primary.sandbox, name, major=primary.major, port=port, durable=primary.durable)
        self.primary = primary
        self._overrides = dict(settings or {})

    @property
    def password(self) -> str:
        """The superuser's password, the same as on the primary."""
        return self.primary.password

    @property
    def slot(self) -> str:
        """The name of its replication slot on the primary."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.name.lower())

    def streaming(self) -> bool:
        """Whether the primary says that it streams to this standby now.

        :raises Unreachable: the primary did not answer
        """
        query = "select 1 from pg_stat_replication where application_name = %s and state = 'streaming'"
        with self.primary.connect() as connection:
            return connection.execute(query, (self.name,)).fetchone() is not None

    def wait_until_streaming(self, *, timeout: float = 30.0) -> None:
        """Wait until it streams.

        :raises Unreachable: it did not within *timeout* seconds
        """
        self._process.wait_ready(self.streaming, timeout=timeout)

    def _options(self) -> dict[str, str]:
        return self._overrides

    def _fill(self, data: Path) -> None:
        """Copy the primary.

        :raises Refused: the primary does not run, and starting it is not the standby's business
        """
        if not self.primary.running:
            raise Refused(
                f"{self.label} cannot copy {self.primary.label}, which does not run", hint="Start the primary first"
            )
        password = self.primary.create_role(REPLICATOR_ROLE, "replication")
        with self.primary.connect() as connection:
            connection.execute(  # what an attempt that died has left
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s and not active",
                (self.slot,),
            )
        self.run(
            "pg_basebackup",
            *("--pgdata", data, "--host", self.host, "--port", str(self.primary.port), "--username", REPLICATOR_ROLE),
            *(
                "--write-recovery-conf",
                "--create-slot",
                "--slot",
                self.slot,
                "--checkpoint=fast",
                "--wal-method=stream",
            ),
            *([] if self.durable else ["--no-sync"]),
            environment={"PGPASSWORD": password},  # from here it also finds its way to the standby's primary_conninfo
        )
