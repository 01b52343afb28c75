"""A cluster that rows are restored into: its tables are made, filled by import or by sstableloader, and indexed again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from msgspec import Struct

from include.engine.contracts import Connection, Stop
from include.engine.errors import MainstayError, PermanentError, Refused, Unreachable
from include.engine.systems.cassandra.client import Cql, Node, quoted
from include.engine.systems.cassandra.control import Nodetool
from include.engine.systems.cassandra.schema import (
    Columns,
    Schema,
    Statement,
    columns_of,
    commands,
    fitted,
    read_schema,
    replication_of,
    user_keyspaces,
    with_id,
    with_replication,
)
from include.engine.systems.cassandra.selection import Method, Selection, require_ring
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import transport_to

_SLOW = 120.0  # seconds that a change of the schema may take
_ASKED = 120.0  # seconds in which nodetool says its version
_BUILT_WITHIN = 6 * 3600.0
_IMPORTED_WITHIN = 24 * 3600.0


class Destination(Struct, frozen=True, kw_only=True):
    """How a cluster is reached.

    :param settings: how its nodes are reached; without them only by the network
    """

    connection: Connection
    settings: Settings | None = None


class Landing:
    """One restore into one cluster.

    :param ids: the ids that tables get, by ``keyspace.table``, where commit logs are replayed: those know no names
    """

    def __init__(
        self,
        cql: Cql,
        destination: Destination,
        schema: Schema,
        selection: Selection,
        *,
        ids: Mapping[str, str] | None = None,
    ) -> None:
        self.cql = cql
        self._ids = ids or {}
        self.destination = destination
        self.selection = selection
        self.schema = selection.part_of(schema)
        self.nodes = cql.ring()

    @property
    def tables(self) -> list[tuple[str, str]]:
        """The tables, under the names that they get."""
        return [(self.selection.keyspace(keyspace), table) for keyspace, table in self.selection.tables]

    def existing(self) -> Schema:
        """What is there already of the keyspaces that are touched."""
        there = set(user_keyspaces(self.cql))
        touched = {self.selection.keyspace(name) for name in self.selection.keyspaces}
        return read_schema(self.cql, sorted(touched & there))

    def require_fit(self, method: Method, then: Sequence[Node], where: str) -> None:
        """Check that rows can come: the ring is the one they were fetched for, and the tables that are there have their columns.

        :param then: the nodes that were backed up
        :param where: the name of the cluster, for people
        :raises Refused: naming what does not fit
        :raises Contended: when the ring has changed meanwhile
        """
        require_ring(method, then, self.nodes, self.cql.ring(), placed_alike=self.placed_alike())
        self.require_same_columns(where)

    def require_same_columns(self, where: str) -> None:
        """Check that the tables that are there have the backup's columns, and have dropped none since.

        :param where: the name of the cluster, for people
        :raises Refused: naming those whose rows would not fit, or lose cells on their way in
        """
        now = {(one.keyspace, one.name): columns_of(one) for one in self.existing().statements if one.type == "table"}
        differing = []
        for one in self.schema.statements:
            there = now.get((one.keyspace, one.name)) if one.type == "table" else None
            if there is None or there == (then := columns_of(one)):
                continue
            differing.append(f"{one.keyspace}.{one.name} of {where} {_difference(there, then)}")
        if differing:
            raise Refused(
                "; ".join(differing),
                hint="drop the table, and the restore makes it as it was; or restore under another name with --rename"
                " KEYSPACE=NEW",
            )

    def holding(self) -> list[str]:
        """Name the tables that hold rows already."""
        there = set(self.existing().tables())
        return sorted(f"{k}.{t}" for k, t in self.tables if (k, t) in there and self._has_rows(k, t))

    def placed_alike(self) -> bool:
        """Whether every keyspace has, or will have when it is made, as many copies in each datacenter as it had."""
        there = {one.keyspace: one for one in self.existing().statements if one.type == "keyspace"}
        return all(
            replication_of(one) == (replication_of(there[one.keyspace]) if one.keyspace in there else self._copies(one))
            for one in self.schema.statements
            if one.type == "keyspace"
        )

    def make_tables(self) -> None:
        """Make what is not there yet of keyspaces, types, functions and tables."""
        named = {_named(one) for one in self.existing().statements}
        for statement in self.schema.before_rows():
            if _named(statement) in named:
                continue
            if statement.type == "keyspace":
                self.cql.rows(with_replication(statement, self._copies(statement)), timeout=_SLOW)
            else:
                self._run(with_id(statement, self._ids.get(f"{statement.keyspace}.{statement.name}")))

    def empty(self, approved: Collection[str], *, spare: Collection[str]) -> None:
        """Empty the tables that are there: of their rows, and of tombstones, which would hide what comes back.

        :param approved: the tables whose rows may go
        :param spare: tables that are left as they are
        :raises Refused: when others hold rows by now: nothing was emptied then
        """
        more = sorted(set(self.holding()) - set(approved) - set(spare))
        if more:
            raise Refused(
                f"{', '.join(more)} held no rows when the restore was planned, and does now",
                hint="find out who writes there; then plan the restore again",
            )
        there = set(self.existing().tables())
        for keyspace, table in self.tables:
            if (keyspace, table) in there and f"{keyspace}.{table}" not in spare:
                self.cql.rows(f"TRUNCATE {quoted(keyspace)}.{quoted(table)}", timeout=_SLOW, consistency="ALL")

    def derived(self) -> list[Statement]:
        """Give what is built from the rows of these tables as they are now: indexes and views."""
        there = self.existing()
        return [one for keyspace, table in self.tables for one in there.derived(keyspace, table)]

    def filled(self, method: Method, there: Sequence[Statement], work: Callable[[], None]) -> None:
        """Let *work* bring the rows; meanwhile and afterwards, what would be in its way or left behind by it is dropped.

        sstableloader fails on SAI indexes.  `nodetool import` tells views nothing of the rows that it brings.  Both are to be
        made again by :meth:`make_derived`; when *work* fails, they are made at once.

        :param there: what is derived from the tables before
        """
        if method is Method.LOADER:
            for index in there:
                if index.type == "index" and "'sai'" in index.cql.lower():
                    self._drop("INDEX", index)
        try:
            work()
        except BaseException:
            with suppress(MainstayError):  # the error that counts is the one that stopped the rows
                self._make(there)
            raise
        if method is Method.IMPORT:
            self.drop_views(there)

    def drop_views(self, derived: Sequence[Statement]) -> None:
        """Drop the views among *derived*: :meth:`make_derived` makes them again, of the rows that are there then."""
        for view in derived:
            if view.type == "materialized_view":
                self._drop("MATERIALIZED VIEW", view)

    def make_derived(self, there: Sequence[Statement], stop: Stop) -> None:
        """Make the indexes and views that are not there, and wait until every node has built them.

        :param there: what the tables had before; it comes back as it was, also what the backup does not know
        :raises Unreachable: when a node does not finish
        """
        self._make([*there, *self.schema.after_rows()])
        wanted = {_named(one) for one in (*there, *self.schema.after_rows())}
        deadline = time.monotonic() + _BUILT_WITHIN
        pause = 0.1
        while unbuilt := self._unbuilt(wanted):
            stop.check()
            if time.monotonic() > deadline:
                raise Unreachable(f"{', '.join(unbuilt)} is still being built", hint="look at the log of that node")
            time.sleep(pause)
            pause = min(5.0, pause * 1.5)

    def require_nodetool(self) -> None:
        """Let nodetool say its version on every node: a backup by Jolokia never needs it, an import does.

        :raises PermanentError: naming the node on which it does not work
        """

        def one(node: Node) -> None:
            try:
                self._nodetool(node, timeout=_ASKED).run("version")
            except PermanentError as error:
                raise PermanentError(
                    f"nodetool does not work on {node.address}, and an import needs it: {error.message}",
                    hint=f"correct nodetool in the inventory; {error.hint}",
                ) from error

        side_by_side(one, self.nodes)

    def import_files(self, directories: dict[str, dict[tuple[str, str], list[str]]]) -> None:
        """Let nodes take files that lie on them: *directories* are by host id, then by table as it was.

        :raises PermanentError: when a node refuses some; its log says why
        """

        def one(node: Node) -> None:
            tool = self._nodetool(node, timeout=_IMPORTED_WITHIN)
            for (keyspace, table), folders in sorted(directories.get(node.host_id, {}).items()):
                tool.run("import", "--", self.selection.keyspace(keyspace), table, *folders)

        with ThreadPoolExecutor(len(self.nodes), thread_name_prefix="import") as pool:
            list(pool.map(one, self.nodes))

    def _nodetool(self, node: Node, *, timeout: float) -> Nodetool:
        settings = self.destination.settings
        assert settings is not None  # the method is chosen only when nodes can be reached
        own = settings.node(node.address)
        assert own.nodetool is not None
        return Nodetool(transport_to(settings, node.address), own.nodetool, timeout=timeout)

    def _copies(self, statement: Statement) -> dict[str, int]:
        """How many copies a keyspace gets when it is made here."""
        counts = {dc: sum(node.datacenter == dc for node in self.nodes) for dc in {n.datacenter for n in self.nodes}}
        return fitted(replication_of(statement), counts)

    def _has_rows(self, keyspace: str, table: str) -> bool:
        statement = f"SELECT * FROM {quoted(keyspace)}.{quoted(table)} LIMIT 1"  # noqa: S608
        return bool(self.cql.rows(statement, consistency="QUORUM"))

    def _make(self, statements: Sequence[Statement]) -> None:
        named = {_named(one) for one in self.existing().statements}
        for statement in statements:
            if _named(statement) not in named:
                self._run(statement)
                named.add(_named(statement))

    def _drop(self, kind: str, statement: Statement) -> None:
        self.cql.rows(f"DROP {kind} IF EXISTS {quoted(statement.keyspace)}.{quoted(statement.name)}", timeout=_SLOW)

    def _run(self, statement: Statement) -> None:
        for command in commands(statement):
            self.cql.rows(command, timeout=_SLOW)

    def _unbuilt(self, wanted: set[tuple[str, str, str]]) -> list[str]:
        if not wanted:
            return []
        missing: set[str] = set()
        for node in self.nodes:
            rows = self.cql.rows('SELECT table_name, index_name FROM system."IndexInfo"', at=node)
            built = {("index", row["table_name"], row["index_name"]) for row in rows}  # the first holds the keyspace
            rows = self.cql.rows("SELECT keyspace_name, view_name FROM system.built_views", at=node)
            built |= {("materialized_view", row["keyspace_name"], row["view_name"]) for row in rows}
            missing |= {f"{keyspace}.{name} on {node.address}" for _, keyspace, name in wanted - built}
        return sorted(missing)


def _named(statement: Statement) -> tuple[str, str, str]:
    return statement.type, statement.keyspace, statement.name


def _difference(there: Columns, then: Columns) -> str:
    since, before = ({name for name, _ in one} for one in (there.dropped - then.dropped, then.dropped - there.dropped))
    if since:
        return f"has dropped {', '.join(sorted(since))} since the backup: the server would throw its values away again"
    if there.there != then.there:
        return "has other columns than the backup"
    return f"has not dropped {', '.join(sorted(before))}, as the backup's had: values that were dropped would come back"
