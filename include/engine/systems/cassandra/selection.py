"""Decides what a restore takes, and by which way it gets there.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from include.engine.errors import Contended, Misconfigured, NotFound, Refused, Unsupported
from include.engine.model import Entry, Manifest, PointKind, RecoveryPoint
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.cut import detail_of
from include.engine.systems.cassandra.schema import SYSTEM_KEYSPACES, Schema
from include.engine.systems.cassandra.sstables import SSTableName

# The first release that reads each generation of SSTables, by the first letter of their version.
_READABLE_FROM: Mapping[str, tuple[int, int]] = {"m": (3, 0), "n": (4, 0), "o": (5, 0), "d": (5, 0)}


class Method(StrEnum):
    """How SSTables get into tables."""

    IMPORT = "import"  # each node takes its own files back: `nodetool import`
    LOADER = "sstableloader"  # streamed to whoever owns the rows now
    FILES = "files"  # laid down for a person


class Selection(Struct, frozen=True, kw_only=True):
    """What is restored, and under which names."""

    tables: tuple[tuple[str, str], ...]  # as they were
    rename: dict[str, str]  # keyspace to its new name
    tableless: tuple[str, ...] = ()  # keyspaces that have types and functions at most

    def keyspace(self, name: str) -> str:
        """Give the name that a keyspace gets."""
        return self.rename.get(name, name)

    @property
    def keyspaces(self) -> tuple[str, ...]:
        """The keyspaces that are touched, as they were."""
        return tuple(sorted({keyspace for keyspace, _ in self.tables} | set(self.tableless)))

    def part_of(self, schema: Schema) -> Schema:
        """Give what is restored of *schema*, under the names that it gets."""
        return schema.only(self.tables, self.tableless).renamed(self.rename)


class StoredFile(Struct, frozen=True, kw_only=True):
    """One file of a backup, and where it came from."""

    entry: Entry
    host_id: str
    keyspace: str
    table: str
    name: str

    @property
    def place(self) -> str:
        """Where tools want it: a folder named after the table in one named after the keyspace, for each node."""
        return f"{self.host_id}/{self.keyspace}/{self.table}/{self.name}"


def choose_backup(manifests: Sequence[Manifest], backup: str | None, point: str) -> Manifest:
    """Choose the backup: a named one, else the newest; for a time, the newest before it.

    :raises NotFound: when there is none of that name, or none before that time
    :raises Unsupported: for a time without an archive of commit logs
    """
    wanted = RecoveryPoint.parse(point)
    time = wanted.time
    if time is not None:
        archived = [one for one in manifests if _taken_before(one, time)]
        if archived and backup in {one.id for one in manifests} - {one.id for one in archived}:
            raise Unsupported(
                f"the backup {backup} does not lead to {point}: it was taken after it, or while no commit logs were archived",
                hint=f"choose another one, or none: {archived[-1].id} leads there",
            )
        if archived:
            manifests, wanted = archived, RecoveryPoint()
    if wanted.kind not in (PointKind.LATEST, PointKind.BACKUP):
        moments = ", ".join(f"{one.id} ({one.cut.at:%Y-%m-%d %H:%M:%SZ})" for one in manifests[-3:])
        raise Unsupported(
            f"no backup before {point} was taken while commit logs were archived: only the moments of backups can be restored",
            hint=f"choose a backup with --backup; the newest are {moments}",
        )
    if backup is None:
        return max(manifests, key=lambda manifest: (manifest.recoverable_to, manifest.id))
    for manifest in manifests:
        if manifest.id == backup:
            return manifest
    raise NotFound(f"there is no backup {backup}", hint=f"the newest are {', '.join(one.id for one in manifests[-3:])}")


def until_after(manifests: Sequence[Manifest], chosen: Manifest, point: datetime) -> list[Manifest]:
    """Give *chosen*, and the backups that were taken between it and *point*, to the first one after it.

    They know what became of the tables meanwhile, which a commit log does not.
    """
    found = [chosen]
    for one in sorted(manifests, key=lambda manifest: manifest.cut.at):
        if one.cut.at > chosen.cut.at:
            found.append(one)
            if one.cut.at > point:
                break
    return found


def require_logged(manifests: Sequence[Manifest], selection: Selection) -> None:
    """Check that writes to the chosen keyspaces went to commit logs.

    :param manifests: see :func:`until_after`
    :raises Unsupported: naming the keyspaces whose writes did not
    """
    wanted = {keyspace for keyspace, _ in selection.tables}
    for manifest in manifests:
        volatile = sorted(wanted & set(detail_of(manifest).cut.schema.unlogged()))
        if volatile:
            named = ", ".join(volatile)
            others = sorted(wanted - set(volatile))
            only = f"restore {' '.join(f'--only {one}' for one in others)} to that point, and " if others else ""
            raise Unsupported(
                f"durable_writes is false for {named} in the backup {manifest.id}: commit logs hold nothing of what was written"
                " there between two backups",
                hint=f"{only}restore {named} as of a backup: --backup {manifests[0].id} without a time",
            )


def changed(manifests: Sequence[Manifest], selection: Selection) -> list[str]:
    """Name the tables that were made, made anew, altered or dropped meanwhile: their logs do not tell all of it.

    :param manifests: see :func:`until_after`
    """
    wanted = {keyspace for keyspace, _ in selection.tables}
    first, *later = (_tables_of(manifest, wanted) for manifest in manifests)
    differing = {name for one in later for name in first.keys() | one.keys() if first.get(name) != one.get(name)}
    whole = {f"{keyspace}.{table}" for keyspace, table in selection.tables}
    return sorted(name for name in differing if name in whole or name not in first)


def _tables_of(manifest: Manifest, keyspaces: Collection[str]) -> dict[str, tuple[str, str]]:
    cut = detail_of(manifest).cut
    return {
        name: (cut.table_ids.get(name, ""), one.cql)
        for one in cut.schema.statements
        if one.type == "table" and one.keyspace in keyspaces
        for name in [f"{one.keyspace}.{one.name}"]
    }


def _taken_before(manifest: Manifest, time: datetime) -> bool:
    """Whether commit logs were archived, and the last node's snapshot was done: it may hold what was written until then."""
    cut = detail_of(manifest).cut
    return cut.archived and manifest.cut.at + timedelta(seconds=cut.skew_seconds) <= time


def select(schema: Schema, only: Sequence[str], rename: Mapping[str, str]) -> Selection:
    """Read what a person asks for: ``keyspace`` or ``keyspace.table``, and keyspaces under other names.

    :raises NotFound: naming every part that the backup has not
    :raises Misconfigured: when two keyspaces would get one name, or one the system's
    """
    tables, tableless = schema.tables(), schema.tableless()
    by_name = {f"{keyspace}.{table}": (keyspace, table) for keyspace, table in tables}
    chosen: set[tuple[str, str]] = set()
    unknown = []
    for part in only:
        found = {by_name[part]} if part in by_name else {one for one in tables if one[0] == part}
        chosen |= found
        unknown += [] if found or part in tableless else [part]
    keyspaces = {keyspace for keyspace, _ in tables} | set(tableless)
    unknown += [name for name in rename if name not in keyspaces]
    if unknown:
        known = ", ".join(sorted([*by_name, *tableless]))
        raise NotFound(f"the backup has no {', '.join(unknown)}", hint=f"it has: {known}")
    selection = Selection(
        tables=tuple(sorted(chosen if only else set(tables))),
        rename=dict(rename),
        tableless=tuple(name for name in tableless if not only or name in only),
    )
    names = [selection.keyspace(keyspace) for keyspace in selection.keyspaces]
    clash = sorted({name for name in names if names.count(name) > 1 or name in SYSTEM_KEYSPACES})
    if clash:
        raise Misconfigured(
            f"the name {', '.join(clash)} is taken", hint="give each keyspace a name of its own, none of the system's"
        )
    return selection


def files_of(manifest: Manifest, selection: Selection) -> list[StoredFile]:
    """Give the files of the chosen tables, in the order of the manifest."""
    chosen = set(selection.tables)
    found = []
    for entry in manifest.entries:
        parts = entry.name.split("/")
        if len(parts) != 4:
            continue  # the schema
        host_id, keyspace, folder, name = parts
        table = folder.rpartition("-")[0]
        if (keyspace, table) in chosen:
            found.append(StoredFile(entry=entry, host_id=host_id, keyspace=keyspace, table=table, name=name))
    return found


def require_readable(files: Iterable[StoredFile], versions: Iterable[str]) -> None:
    """Check that servers of *versions* read these SSTables.

    :raises Unsupported: when one is older
    """
    oldest = min((_numbers(version) for version in versions), default=(0, 0))
    for file in files:
        name = SSTableName.parse(file.name)
        if name is None:
            continue
        needed = _READABLE_FROM.get(name.version[0])
        if needed is None or oldest < needed:
            least = f"{needed[0]}.{needed[1]}" if needed else "a newer Mainstay and Cassandra"
            raise Unsupported(
                f"the backup's SSTables are of version {name.version}, which Cassandra {oldest[0]}.{oldest[1]} cannot read",
                hint=f"restore into {least} or newer",
            )


def require_taken(files: Iterable[StoredFile], host_ids: Iterable[str]) -> None:
    """Check that every file has a node that takes it, just before anything is emptied for what they bring.

    :param host_ids: of the nodes that take their own files back
    :raises Refused: when a node that had some has left the ring since the restore was planned
    """
    left = sorted({file.host_id for file in files} - set(host_ids))
    if left:
        raise Refused(
            f"the ring is not the one that the restore was planned for: nobody takes the files of the node {', '.join(left)}",
            hint="plan the restore again: into a ring of other nodes rows go by sstableloader",
        )


def require_ring(
    method: Method, then: Sequence[Node], first: Sequence[Node], now: Sequence[Node], *, placed_alike: bool
) -> None:
    """Check, just before anything is emptied, that what was fetched still reaches every node that owns some of its rows.  Pure.

    :param then: the nodes that were backed up
    :param first: the ring as it was when the files began to come
    :param placed_alike: see :func:`choose_method`
    :raises Refused: when the ring is no longer one whose nodes take their own files
    :raises Contended: when it has changed in another way meanwhile
    """
    if method is Method.IMPORT and choose_method(then, now, reachable=True, placed_alike=placed_alike) is not method:
        joined = sorted({node.address for node in now} - {node.address for node in first})
        raise Refused(
            "the ring is not the one that the restore was planned for"
            + (f", {', '.join(joined)} has joined it" if joined else "")
            + ": rows that are imported would lack where nobody had a file of them",
            hint="plan the restore again: into another ring rows go by sstableloader",
        )
    if not same_topology(first, now):
        raise Contended(
            "the ring has changed while files were fetched: rows would not reach every node that owns them now",
            hint="run it again: it goes on with the ring as it is then",
        )


def same_topology(then: Sequence[Node], now: Sequence[Node]) -> bool:
    """Whether every node that was backed up is there with the tokens that it had, and nobody else is."""
    return {node.host_id: node.tokens for node in then} == {node.host_id: node.tokens for node in now}


def choose_method(then: Sequence[Node], now: Sequence[Node], *, reachable: bool, placed_alike: bool = True) -> Method:
    """Choose how SSTables get into tables.

    :param reachable: whether commands can be run on the nodes; sstableloader needs only the network
    :param placed_alike: whether the keyspaces have as many copies as then; with more, some of a row's nodes had no file of it
    """
    if reachable and (len(now) == 1 or (placed_alike and same_topology(then, now))):  # a single node owns every token
        return Method.IMPORT
    return Method.LOADER


def _numbers(version: str) -> tuple[int, int]:
    major, minor, *_ = (*version.split("-", maxsplit=1)[0].split("."), "0", "0")
    return int(major), int(minor)
