"""A probe that a rule file declares in SQL: the first column of each row is the number, the others are its labels."""

from __future__ import annotations

from collections.abc import Sequence

from include.engine.contracts import Clock, Connections
from include.engine.health.declared import MOST_ROWS, readings_of
from include.engine.health.rules import CustomProbe
from include.engine.model import Reading
from include.engine.probing import Probe
from include.engine.systems.postgres.client import sql
from include.engine.systems.postgres.probes import impatient
from include.engine.systems.postgres.settings import PostgresSettings


class SqlProbe:
    """Asks one query, which may not write (see ``probing.Probe``)."""

    def __init__(self, declared: CustomProbe, settings: PostgresSettings, connections: Connections) -> None:
        self.name = declared.name
        self.metrics: Sequence[str] = (declared.metric,)
        self.source = f"the query {declared.name}"
        self._declared, self._settings, self._connections = declared, settings, connections

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``).

        :raises Corrupt: when the first column is no number
        """
        connection = impatient(self._connections.get(self._settings.connection), timeout)
        database = self._settings.database
        with sql(connection, database=database, application=f"mainstay probe {self.name}") as client:
            client.read_only = True
            cursor = client.execute((self._declared.sql or "").encode())
            names = [column.name for column in cursor.description or ()]
            rows = cursor.fetchmany(MOST_ROWS)
        return readings_of(self._declared, names, rows, clock())


def open_declared(declared: CustomProbe, settings: PostgresSettings, connections: Connections) -> Probe:
    """Give the probe that a rule file declares for a target."""
    return SqlProbe(declared, settings, connections)
