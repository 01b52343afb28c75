"""Takes one snapshot on all nodes at the same moment, and knows what the cluster was like just then."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Barrier, BrokenBarrierError

from msgspec import Struct

from include.engine.contracts import Clock, Connection
from include.engine.errors import Contended, Incomplete, MainstayError, NotFound
from include.engine.model import Target
from include.engine.systems.cassandra.client import Cql, Node
from include.engine.systems.cassandra.control import Control, control_of
from include.engine.systems.cassandra.cut import SnapshotCut
from include.engine.systems.cassandra.ranges import Sampler
from include.engine.systems.cassandra.ring import (
    acquaintances,
    cluster_name,
    data_directories,
    require_agreement,
    require_all_up,
    require_no_newcomer,
)
from include.engine.systems.cassandra.roles import read_roles
from include.engine.systems.cassandra.samples import Effort, TableSamples, choose_ranges, deal, keep_quiet
from include.engine.systems.cassandra.schema import Schema, read_schema, user_keyspaces
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.stillness import Looks, Stillness
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import transport_to

PREFIX = "mainstay"
_TRIES = 3
_MANY_RANGES = 16


class Taken(Struct, frozen=True):
    """A snapshot, and the moment before which every acknowledged write is in it."""

    at: datetime
    cut: SnapshotCut


def take(cql: Cql, settings: Settings, connection: Connection, owner: str, clock: Clock) -> Taken:
    """Snapshot all nodes at once; again, when the schema changed in the middle.

    :param owner: see :func:`owner_of`
    :raises Unreachable: when a node is down: a backup without it would be incomplete
    :raises Incomplete: when the inventory leaves out all that there is
    :raises Contended: when the schema never stands still, or a node joins meanwhile
    """
    nodes = cql.ring()
    with ThreadPoolExecutor(2, thread_name_prefix="keyspaces") as beside:
        naming = beside.submit(_keyspaces, cql, settings)
        knowing = beside.submit(acquaintances, cql, nodes)
        require_all_up(cql, nodes)
    keyspaces, known = naming.result(), knowing.result()
    if not keyspaces:
        return _of_nothing(cql, settings, nodes, owner, clock)
    with ThreadPoolExecutor(1, thread_name_prefix="control") as beside:
        # A TLS handshake with each node takes as long as the reading of the samples: both at once.
        opening = beside.submit(_controls, settings, connection, nodes)
        return _take(cql, settings, nodes, keyspaces, known=known, opening=opening, owner=owner, clock=clock)


def _take(
    cql: Cql,
    settings: Settings,
    nodes: tuple[Node, ...],
    keyspaces: list[str],
    *,
    known: Mapping[str, frozenset[str]],
    opening: Future[tuple[dict[str, Control], list[str]]],
    owner: str,
    clock: Clock,
) -> Taken:
    stillness = Stillness(settings, nodes, keyspaces, lambda node: data_directories(cql, node))
    for _ in range(_TRIES):
        require_agreement(cql, nodes)
        before, table_ids = _described(cql, keyspaces)
        sampler = Sampler(cql, consistency="ALL")
        effort = Effort(ranges=settings.sample_ranges, rows=settings.sample_rows, seed=owner, clock=clock)
        looked, first = _read_first(sampler, stillness, before, effort)
        controls, notes = opening.result()
        # Unique to the attempt: a second one can neither meet nor clear what the first has frozen.
        tag = _tag(owner)
        at = clock()
        try:
            skew = _all_at_once(controls, tag, keyspaces, settings.snapshot_ttl)
            with ThreadPoolExecutor(4, thread_name_prefix="after") as beside:
                quiet = beside.submit(_quiet, sampler, first, stillness, looked)
                described = beside.submit(_described, cql, keyspaces)
                cluster = beside.submit(cluster_name, cql)
                knowing = beside.submit(acquaintances, cql, nodes)
            samples, name, (after, ids) = quiet.result(), cluster.result(), described.result()
            same = after.fingerprint() == before.fingerprint() and ids == table_ids
            require_no_newcomer(known, knowing.result())
        except MainstayError:
            clear(list(controls.values()), tag, keyspaces)
            raise
        if same:
            cut = SnapshotCut(
                tag=tag,
                cluster=name,
                nodes=nodes,
                keyspaces=tuple(keyspaces),
                schema=before,
                samples=samples,
                skew_seconds=round(skew, 3),
                roles=read_roles(cql) if settings.roles else (),
                notes=(*notes, *(_unlogged(before) if settings.archives else ())),
                table_ids=table_ids,
                archived=settings.archives,
            )
            return Taken(at, cut)
        clear(list(controls.values()), tag, keyspaces)
    raise Contended(
        f"the schema changed during each of {_TRIES} snapshots",
        hint="wait until the migration is over, then run it again",
    )


def _of_nothing(cql: Cql, settings: Settings, nodes: tuple[Node, ...], owner: str, clock: Clock) -> Taken:
    """Note that no node knows a keyspace of a user.  No snapshot is taken: without names it would be one of the system's.

    :raises Contended: when one was made just now
    """
    at = clock()
    require_agreement(cql, nodes)
    found = {name for names in side_by_side(lambda node: user_keyspaces(cql, at=node), nodes) for name in names}
    if found:
        raise Contended(
            f"the keyspace {', '.join(sorted(found))} was made while the snapshot was taken",
            hint="run it again: it will be in the next snapshot",
        )
    cut = SnapshotCut(
        tag=_tag(owner),
        cluster=cluster_name(cql),
        nodes=nodes,
        keyspaces=(),
        schema=Schema(()),
        samples=(),
        skew_seconds=0.0,
        roles=read_roles(cql) if settings.roles else (),
        archived=settings.archives,
    )
    return Taken(at, cut)


def owner_of(target: Target, backup: str) -> str:
    """Name what all attempts of *target* at *backup* have taken: another target may be on the same ring, in the same set."""
    return f"{PREFIX}-{backup}-{target.name}"


def _tag(owner: str) -> str:
    return f"{owner}-{uuid.uuid4().hex[:8]}"


def _read_first(
    sampler: Sampler, stillness: Stillness, schema: Schema, effort: Effort
) -> tuple[Looks, list[TableSamples]]:
    """Look at the files of the tables where that is worth it, then read their samples for the first time."""
    tables = schema.tables()
    with ThreadPoolExecutor(1, thread_name_prefix="look") as beside:
        # Of a few tables a second reading is cheaper than two ways to each node.
        looking = beside.submit(stillness.look) if sum(deal(tables, effort).values()) >= _MANY_RANGES else None
        sampler.learn(schema.keyspaces)  # after the schema: what changes from now on is seen by the second look at that
        looked = looking.result() if looking else {}
    return looked, choose_ranges(sampler, tables, effort)


def _quiet(
    sampler: Sampler, first: Sequence[TableSamples], stillness: Stillness, looked: Looks
) -> tuple[TableSamples, ...]:
    return keep_quiet(sampler, first, stillness.since(looked))


def release(cql: Cql, settings: Settings, connection: Connection, owner: str) -> None:
    """Clear all snapshots that any attempt of *owner* has taken.  Tries all nodes before it raises the first error.

    Those of keyspaces that the target leaves out are another pipeline's, which has a target of the same name.
    """

    def one(node: Node) -> MainstayError | None:
        try:
            rows = cql.rows("SELECT name, keyspace_name FROM system_views.snapshots", at=node)
            named = [row for row in rows if str(row["name"]).rpartition("-")[0] == owner]
            mine = [row for row in named if settings.covers(row["keyspace_name"])]
            if mine:
                control, _ = control_of(settings, node.address, connection, transport_to(settings, node.address))
                for tag in sorted({row["name"] for row in mine}):
                    control.clear(tag, sorted({row["keyspace_name"] for row in mine if row["name"] == tag}))
        except MainstayError as error:
            return error
        return None

    errors = [error for error in side_by_side(one, cql.ring()) if error is not None]
    if errors:
        raise errors[0]


def clear(controls: Sequence[Control], tag: str, keyspaces: Sequence[str]) -> None:
    """Clear *tag* everywhere, as far as nodes answer: its TTL does the rest."""
    for control in controls:
        with suppress(MainstayError):
            control.clear(tag, keyspaces)


def _controls(
    settings: Settings, connection: Connection, nodes: Sequence[Node]
) -> tuple[dict[str, Control], list[str]]:
    found = side_by_side(
        lambda node: control_of(settings, node.address, connection, transport_to(settings, node.address)), nodes
    )
    controls = {node.address: control for node, (control, _) in zip(nodes, found, strict=True)}
    return controls, [note for _, note in found if note]


def _all_at_once(controls: dict[str, Control], tag: str, keyspaces: Sequence[str], ttl: timedelta) -> float:
    """Take the snapshot on all nodes and give the seconds from the first's start to the last one's end."""
    ready = Barrier(len(controls), timeout=30)

    def one(control: Control) -> tuple[float, float]:
        control.wake()
        with suppress(BrokenBarrierError):
            ready.wait()
        started = time.monotonic()
        control.snapshot(tag, keyspaces, ttl)
        return started, time.monotonic()

    with ThreadPoolExecutor(len(controls), thread_name_prefix="snapshot") as pool:
        futures = [pool.submit(one, control) for control in controls.values()]
    times = [future.result() for future in futures]
    return max(end for _, end in times) - min(start for start, _ in times)


def _unlogged(schema: Schema) -> list[str]:
    return [
        f"the keyspace {name} has durable_writes = false: commit logs hold none of its writes, so it comes back as of a backup,"
        " and of no point between two"
        for name in schema.unlogged()
    ]


def _keyspaces(cql: Cql, settings: Settings) -> list[str]:
    """Name the keyspaces to back up; none when the cluster has none of its own and the inventory names none."""
    there = user_keyspaces(cql)
    wanted = [name for name in sorted(set(settings.keyspaces)) or there if settings.covers(name)]
    missing = sorted(set(wanted) - set(there))
    if missing:
        raise NotFound(
            f"the cluster has no keyspace {', '.join(missing)}", hint=f"it has: {', '.join(there) or 'none of its own'}"
        )
    if there and not wanted:
        raise Incomplete(
            f"the inventory leaves out every keyspace of the cluster: {', '.join(there)}",
            hint="take one of them out of `exclude`, or take the target out of the inventory",
        )
    return wanted


def _described(cql: Cql, keyspaces: Sequence[str]) -> tuple[Schema, dict[str, str]]:
    """Read the schema, and the ids of the tables beside it: one that is dropped and made again reads the same."""
    with ThreadPoolExecutor(1, thread_name_prefix="ids") as beside:
        ids = beside.submit(_table_ids, cql, keyspaces)
        return read_schema(cql, keyspaces), ids.result()


def _table_ids(cql: Cql, keyspaces: Sequence[str]) -> dict[str, str]:
    rows = cql.rows("SELECT keyspace_name, table_name, id FROM system_schema.tables")
    return {f"{r['keyspace_name']}.{r['table_name']}": str(r["id"]) for r in rows if r["keyspace_name"] in keyspaces}
