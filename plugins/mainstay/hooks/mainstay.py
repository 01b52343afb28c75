"""From Airflow's connections to a pipeline.  The engine gets what it needs and never learns where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from include.engine import lookout, wiring
from include.engine.contracts import Clock, Connection
from include.engine.errors import Misconfigured
from include.engine.inventory import Inventory
from include.engine.mirroring import Mirror
from include.engine.streaming import StreamJob
from mainstay.hooks.clusters import ProviderClusters

if TYPE_CHECKING:
    from include.engine.systems.spark.ingest import Ingested
    from include.engine.verbs.pipeline import Pipeline
    from include.engine.verbs.sweep import Watch


class MainstayHook(BaseHook):
    """Builds the pipeline that the inventory describes, with Airflow's connections.

    :param inventory: the inventory; read from its file when not given
    """

    def __init__(self, inventory: Inventory | None = None) -> None:
        super().__init__()
        self.inventory = inventory or wiring.load_inventory()

    def pipeline(self) -> Pipeline:
        """Give the pipeline.

        :raises Misconfigured: naming the connection that the inventory names and Airflow does not have
        """
        return wiring.open_pipeline(self.inventory, AirflowConnections())

    def watch(self) -> Watch:
        """Give what a sweep needs.

        :raises Misconfigured: with all mistakes of the rules
        """
        return lookout.open_watch(self.inventory, AirflowConnections())

    def mirror(self, name: str) -> Mirror:
        """Open a mirror that the inventory declares, ``<system>/<name>/<mirror>``."""
        return wiring.open_mirror(self.inventory, AirflowConnections(), name)

    def stream(self, name: str) -> StreamJob:
        """Open a streaming job that the inventory declares, ``<system>/<name>``."""
        return wiring.open_stream(self.inventory, AirflowConnections(), name)

    def ingest(self, job: str, wanted: Mapping[str, Any], clock: Clock) -> Ingested:
        """Send records to the topics of a streaming job.

        :param wanted: ``users``, ``events``, ``seed`` and ``api``
        """
        return wiring.ingest(self.inventory, AirflowConnections(), job, wanted, clock)


class AirflowConnections(ProviderClusters):
    """Finds connections in Airflow: its environment, its secrets backend, its database; and opens clusters by its providers."""

    def get(self, name: str) -> Connection:
        """Give the connection *name*.

        :raises Misconfigured: when Airflow has none of that name
        """
        try:
            found = BaseHook.get_connection(name)
        except AirflowNotFoundException as error:
            raise Misconfigured(
                f"Airflow has no connection {name}, which the inventory names",
                hint=f"add it under Admin → Connections, in the secrets backend, or as AIRFLOW_CONN_{name.upper()}",
            ) from error
        extra: Mapping[str, object] = found.extra_dejson or {}
        return Connection(
            host=found.host or "",
            port=found.port,
            login=found.login or "",
            password=found.password or "",
            schema=found.schema or "",
            extra={str(key): str(value) for key, value in extra.items()},
        )
