"""A probe that a rule file declares in CQL: the first column of each row is the number, the others are its labels."""

from __future__ import annotations

from collections.abc import Sequence

from include.engine.contracts import Clock, Connections
from include.engine.health.declared import readings_of
from include.engine.health.rules import CustomProbe
from include.engine.model import Reading
from include.engine.probing import Probe
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.settings import Settings


class CqlProbe:
    """Asks one query (see ``probing.Probe``)."""

    def __init__(self, declared: CustomProbe, settings: Settings, connections: Connections) -> None:
        self.name = declared.name
        self.metrics: Sequence[str] = (declared.metric,)
        self.source = f"the query {declared.name}"
        self._declared, self._settings, self._connections = declared, settings, connections

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``).

        :raises Corrupt: when the first column is no number
        """
        with Cql(self._connections.get(self._settings.connection), timeout=timeout) as cql:
            rows = cql.rows(self._declared.cql or "")
        names = list(rows[0]) if rows else []
        return readings_of(self._declared, names, [list(row.values()) for row in rows], clock())


def open_declared(declared: CustomProbe, settings: Settings, connections: Connections) -> Probe:
    """Give the probe that a rule file declares for a target."""
    return CqlProbe(declared, settings, connections)
