"""The clusters that a backup can be restored into: how each is reached, and whether a restore may touch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, cast

from include.engine.contracts import Connections, PlanRequest
from include.engine.errors import MainstayError, Misconfigured, Refused
from include.engine.inventory import TargetSettings
from include.engine.model import Manifest, System, Target
from include.engine.store.bucket import Bucket
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.cut import BackupDetail, detail_of
from include.engine.systems.cassandra.selection import Method, Selection, StoredFile, choose_method, require_readable
from include.engine.systems.cassandra.settings import Settings

# Imported by the methods that need it: every seal of a set asks for a text of the module that imports this one.
if TYPE_CHECKING:
    from include.engine.systems.cassandra.landing import Destination

_SOON = 10.0  # seconds in which a cluster says who belongs to it, if there is one


class Clusters:
    """Finds the running clusters that *target* is restored into.

    :param connections: gives a cluster's connection by its name
    :param targets: the inventory's, which say how the nodes of their clusters are reached
    """

    def __init__(
        self, target: Target, connections: Connections | None, targets: Mapping[Target, TargetSettings]
    ) -> None:
        self._target, self._connections, self._targets = target, connections, targets

    def find(self, server: str, detail: BackupDetail) -> Destination:
        """Give the cluster behind the connection *server*, and how its nodes are reached where that is known.

        :raises Misconfigured: when none is named
        """
        from include.engine.systems.cassandra.landing import Destination

        if not server or self._connections is None:
            raise Misconfigured("no cluster to restore into is named", hint="name its connection with --server")
        connection = self._connections.get(server)
        by_connection = {
            settings.connection: settings
            for target, settings in self._targets.items()
            if target.system is System.CASSANDRA
        }
        found = by_connection.get(server)
        if found is None and self._target in self._targets:
            # Another login to the cluster that was backed up: its nodes are reached the same way.
            with Cql(connection) as cql:
                if {node.host_id for node in cql.ring()} & {node.host_id for node in detail.cut.nodes}:
                    found = self._targets[self._target]
        return Destination(connection=connection, settings=cast("Settings | None", found))

    def born_now(self, detail: BackupDetail) -> dict[str, datetime | None]:
        """Give the nodes of the cluster that was backed up as it is now, and when each was born.

        None when it cannot be asked: it may be lost, or another one may be in its place.
        """
        settings = self._targets.get(self._target)
        if settings is None or self._connections is None:
            return {}
        from include.engine.systems.cassandra.ring import births

        with suppress(MainstayError), Cql(self._connections.get(settings.connection), timeout=_SOON) as cql:
            nodes = cql.ring()
            if {node.host_id for node in nodes} & {node.host_id for node in detail.cut.nodes}:
                return births(cql, nodes)
        return {}

    def look(
        self,
        bucket: Bucket,
        request: PlanRequest,
        manifest: Manifest,
        selection: Selection,
        files: Sequence[StoredFile],
    ) -> tuple[Method, list[str], list[str]]:
        """Look at the cluster: how files get in, which tables would lose rows, and which keep what an earlier attempt brought.

        :raises Refused: when it holds rows, or is the source, and its name was not typed
        :raises Unsupported: when files get in by sstableloader only, and that cannot be let in
        """
        from include.engine.systems.cassandra.landing import Landing
        from include.engine.systems.cassandra.ring import require_all_up
        from include.engine.systems.cassandra.sstableloader import require_loadable
        from include.engine.systems.cassandra.unfinished import Unfinished

        detail = detail_of(manifest)
        destination = self.find(request.server, detail)
        with Cql(destination.connection) as cql:
            landing = Landing(cql, destination, detail.cut.schema, selection)
            require_all_up(cql, landing.nodes, "the restore")  # whether tables hold rows is asked of a quorum
            require_readable(files, [node.version for node in landing.nodes])
            landing.require_same_columns(request.server)
            method = choose_method(
                detail.cut.nodes,
                landing.nodes,
                reachable=destination.settings is not None,
                placed_alike=landing.placed_alike(),
            )
            if method is Method.LOADER:
                require_loadable(destination.connection)
            # What an attempt at this very restore has brought is not in anybody's way.
            unfinished = Unfinished(bucket, self._target, manifest.id, request.server, selection)
            begun = unfinished.find(request.clock()) if request.clock else None
            full = landing.holding()
            spared = [table for table in full if begun is not None and table in begun.tables and not request.append]
            holding = [table for table in full if begun is None or table not in begun.tables]
            typed = request.confirm == request.server
            if holding and not (typed or request.append):
                raise Refused(
                    f"{request.server} holds rows in {', '.join(holding)}",
                    hint=f"type its name to have them replaced (--confirm {request.server}), or use --append or --rename",
                )
            elsewhere = all(selection.keyspace(name) != name for name in selection.keyspaces)
            source = {node.host_id for node in detail.cut.nodes} & {node.host_id for node in landing.nodes}
            if source and not (elsewhere or typed):
                raise Refused(
                    f"{request.server} is the cluster that was backed up",
                    hint=f"type its name if you mean it (--confirm {request.server}), or restore beside it with --rename",
                )
            return method, [] if request.append else holding, spared
