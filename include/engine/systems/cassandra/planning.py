"""What a plan tells a person.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from include.engine.contracts import PlanRequest
from include.engine.model import DestinationKind, RecoveryPoint
from include.engine.systems.cassandra.cut import BackupDetail
from include.engine.systems.cassandra.selection import Method, Selection


def plan_steps(method: Method, kind: DestinationKind, selection: Selection, point: str) -> tuple[str, ...]:
    """Say what will be done, one line each.

    :param point: the time up to which commit logs are replayed; empty for the moment of the backup
    """
    tables = f"{len(selection.tables)} tables of {', '.join(selection.keyspace(k) for k in selection.keyspaces)}"
    if method is Method.FILES:
        return (f"fetch the files of {tables}, and compare each with its SHA-256", "write schema.cql and RESTORE.md")
    start = ("start a node in a sandbox",) if kind is DestinationKind.SANDBOX else ()
    ways = {
        Method.IMPORT: ("let each node fetch its own files and compare them", "nodetool import"),
        Method.LOADER: (
            "fetch all files and compare them",
            "stream them with sstableloader to the nodes that own the rows",
        ),
    }
    return (
        *start,
        f"make {tables}, as far as they are not there",
        *ways[method],
        "build the indexes and views",
        "compare schema and sampled rows with the backup",
        *((f"replay the archived commit logs up to {point}",) if point else ()),
    )


def plan_warnings(
    selection: Selection,
    detail: BackupDetail,
    request: PlanRequest,
    *,
    changed: Sequence[str] = (),
    spared: Sequence[str] = (),
    ring: Collection[str] = (),
) -> tuple[str, ...]:
    """Say what a person should know before it is done.

    :param changed: tables whose schema changed after the backup, where commit logs are replayed
    :param spared: tables that hold rows, and are not emptied because an attempt that did not end has done that
    :param ring: the nodes of the cluster as it is now, where commit logs are replayed; none when it could not be asked
    """
    found = [
        "rows with a TTL kept ageing in the store: what has expired does not come back",
        "rows that were deleted longer than gc_grace_seconds ago can come back when older copies are merged in:"
        " run a repair after restoring into a table that holds rows"
        if request.append
        else "",
        f"{', '.join(f'{k}.{t}' for k, t in detail.cut.schema.views())} are built again from their tables"
        if detail.cut.schema.views()
        else "",
    ]
    if RecoveryPoint.parse(request.point).time is not None:
        found.append(
            "commit logs do not hold what was truncated, or loaded as files: rows that were truncated after the backup come back,"
            " and rows that were imported after it do not"
        )
        if not ring:
            found.append(
                "the cluster does not answer, so nobody knows its nodes as of now: what was written since the last backup to a node"
                " that joined after it, and of whose commit log nothing is archived, is missing"
            )
    if changed:
        found.append(
            f"{', '.join(changed)}: made, altered or dropped after the backup; what the point had of that may not come back"
        )
    if spared:
        found.append(
            "an attempt at this very restore within the last day did not end, and this one goes on from there:"
            f" {', '.join(spared)} are not emptied again, so what was written or deleted there since stays as it is;"
            " truncate them first if it should not"
        )
    renamed = [f"{old} comes back as {new}" for old, new in selection.rename.items()]
    return tuple(text for text in (*found, *renamed) if text)
