"""The files of a snapshot: what their names say, which of them are worth storing, and what must be there.  Pure."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from include.engine.errors import Corrupt, Incomplete

# Ids are counters (before 4.1) or time-based: \d+ alone would find no file at all on a newer server, and say "0 files, done".
_NAME = re.compile(r"^([a-z]{2})-(\d+|[0-9a-z]{4}_[0-9a-z]{4}_[0-9a-z]{18})-(big|bti)-(.+)$")
_TABLE_FOLDER = re.compile(r"^(\w+)-([0-9a-f]{32})$")
# Rewritten in place under the same name: by repair, by the redistribution of index summaries.
_MUTABLE = frozenset({"Statistics.db", "Summary.db"})
_LISTING, _TOC = "manifest.json", "TOC.txt"


class SSTableName(Struct, frozen=True):
    """What the name of a file of an SSTable says."""

    version: str
    id: str
    format: str
    component: str

    @property
    def sstable(self) -> str:
        """The part that all components share."""
        return f"{self.version}-{self.id}-{self.format}"

    @property
    def mutable(self) -> bool:
        """Whether the server may write it again under the same name."""
        return self.component in _MUTABLE

    @property
    def derived(self) -> bool:
        """Whether it belongs to an index, which is built again from the rows."""
        return self.component.startswith("SAI+")

    @classmethod
    def parse(cls, name: str) -> SSTableName | None:
        """Read a file name; None when it is not of an SSTable."""
        match = _NAME.match(name)
        return cls(*match.groups()) if match else None


class SnapshotFile(Struct, frozen=True, kw_only=True):
    """One file of a snapshot, as the node lists it.  Its identity lasts as long as the file does: links share it."""

    path: str
    keyspace: str
    table: str
    table_id: str
    name: str
    bytes: int
    modified: int
    inode: int

    @property
    def place(self) -> str:
        """Where it lies in a backup, below its node."""
        return f"{self.keyspace}/{self.table}-{self.table_id}/{self.name}"

    @property
    def identity(self) -> tuple[int, int, int]:
        """What tells it from a file that was later written under the same name."""
        return self.bytes, self.modified, self.inode


class Listing(Struct, frozen=True, kw_only=True):
    """What a node said about one snapshot."""

    files: Sequence[SnapshotFile]
    tables: frozenset[tuple[str, str]]  # keyspace and table that the snapshot has a folder of
    documents: Mapping[str, str]  # path to content, of manifest.json and TOC.txt
    digests: Mapping[str, str] = {}  # SHA-256 by path, of files that may have been written again


def read_listing(text: str, tag: str) -> Listing:
    """Read what the node's listing script printed.

    ``F size mtime inode path``, ``S digest path``, ``T folder``, ``D path`` and ``| content``.

    :raises Corrupt: when a line is none of these
    """
    files: list[SnapshotFile] = []
    tables: set[tuple[str, str]] = set()
    documents: dict[str, list[str]] = {}
    digests: dict[str, str] = {}
    current: list[str] = []
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "F":
            size, modified, inode, path = rest.split(" ", 3)
            found = _file(path, tag, int(size), int(modified), int(inode))
            if found is not None:
                files.append(found)
            if size == "0" and path.endswith((f"/snapshots/{tag}/{_LISTING}", f"-{_TOC}")):
                documents.setdefault(path, [])  # nothing is printed of it
        elif kind == "S":
            sha256, _, path = rest.partition(" ")
            digests[path] = sha256
        elif kind == "T":
            keyspace, table, _ = _folder(rest, tag)
            tables.add((keyspace, table))
        elif kind == "D":
            current = documents.setdefault(rest, [])
        elif line.startswith("|"):
            current.append(line[1:])
        elif line:
            raise Corrupt(f"a node listed its snapshot in a way we cannot read: {line[:120]!r}", hint="report this")
    joined = {path: "\n".join(lines) for path, lines in documents.items()}
    return Listing(files=files, tables=frozenset(tables), documents=joined, digests=digests)


def wanted(files: Iterable[SnapshotFile], derived: Iterable[tuple[str, str]] = ()) -> list[SnapshotFile]:
    """Leave out what is built again from the rows: indexes, and the tables *derived*, which are views."""
    views = set(derived)
    kept = []
    for file in files:
        name = SSTableName.parse(file.name)
        if name is not None and not name.derived and (file.keyspace, file.table) not in views:
            kept.append(file)
    return kept


def missing(listing: Listing) -> list[str]:
    """Name what the snapshot itself says it has, and has not: SSTables by its list, components by each table of contents.

    A node with several data directories writes one list for a table, into one of them, which names the SSTables of all.

    :raises Corrupt: when such a document cannot be read
    """
    there = {file.path for file in listing.files}
    names = {(_table_folder(path), path.rpartition("/")[2]) for path in there}
    absent: list[str] = []
    for path, content in listing.documents.items():
        folder, _, name = path.rpartition("/")
        if name == _LISTING:
            table = _table_folder(path)
            absent += [f"{folder}/{one}" for one in _listed(path, content) if (table, one) not in names]
        elif name.endswith(_TOC):
            prefix = path.removesuffix(_TOC)
            parts = (line.strip() for line in content.splitlines())
            absent += [
                f"{prefix}{part}"
                for part in parts
                if part and not part.startswith("SAI") and f"{prefix}{part}" not in there
            ]
    return sorted(set(absent))


def unlisted(listing: Listing) -> list[tuple[str, str]]:
    """Name the tables whose folder has no list of the snapshot: the node writes it last, so the folder may lack files."""
    listed = {table_of(_table_folder(path)) for path in listing.documents if path.endswith(f"/{_LISTING}")}
    return sorted(listing.tables - listed)


def require_complete(listing: Listing, tag: str, tables: Iterable[tuple[str, str]], where: str) -> None:
    """Check that the snapshot *tag* has all of *tables*, finished and whole.

    :param tables: keyspace and name of each
    :raises Incomplete: naming what it lacks
    """
    without = sorted(f"{keyspace}.{table}" for keyspace, table in set(tables) - listing.tables)
    if without:
        raise Incomplete(
            f"{where}: the snapshot {tag} has nothing of {', '.join(without[:5])}",
            hint="its TTL ran out, or somebody cleared it: run a new backup",
        )
    never_finished = [f"{keyspace}.{table}" for keyspace, table in unlisted(listing)]
    if never_finished:
        raise Incomplete(
            f"{where}: the snapshot {tag} of {', '.join(never_finished[:5])} was never finished: it has no manifest.json",
            hint="read that node's log of the moment of the snapshot, then run a new backup",
        )
    absent = missing(listing)
    if absent:
        raise Incomplete(
            f"{where}: {len(absent)} files of the snapshot are missing, the first is {absent[0]}",
            hint="look at the disk of that node; a repair from its replicas mends the table",
        )
    require_whole(listing.files, where)


def require_whole(files: Iterable[SnapshotFile], where: str) -> None:
    """Check that every SSTable has the components without which no tool reads it.

    :raises Incomplete: naming the first that has not
    """
    components: dict[str, set[str]] = defaultdict(set)
    for file in files:
        name = SSTableName.parse(file.name)
        if name is not None:
            components[f"{file.path.rpartition('/')[0]}/{name.sstable}"].add(name.component)
    for sstable, there in components.items():
        # Not TOC.txt: SSTables that were streamed whole from another node have none, and are read without it.
        lacking = {"Data.db", "Statistics.db"} - there
        if lacking:
            raise Incomplete(
                f"{where}: {sstable} lacks {', '.join(sorted(lacking))}",
                hint="look at the disk of that node; `nodetool scrub` or a repair from its replicas mends the table",
            )


def known_digests(
    files: Iterable[SnapshotFile], earlier: Mapping[str, tuple[tuple[int, int, int], str]]
) -> dict[str, str]:
    """Give the digests, by path, of files that an earlier backup has seen and that cannot have changed since.

    :param earlier: by place: the identity and the digest of then
    """
    found = {}
    for file in files:
        name = SSTableName.parse(file.name)
        seen = earlier.get(file.place)
        if seen is not None and name is not None and not name.mutable and seen[0] == file.identity:
            found[file.path] = seen[1]
    return found


def _file(path: str, tag: str, size: int, modified: int, inode: int) -> SnapshotFile | None:
    folder, _, name = path.rpartition("/")
    if not folder.endswith(f"/snapshots/{tag}") or SSTableName.parse(name) is None:
        return None  # the hidden folder of a secondary index, schema.cql, manifest.json
    keyspace, table, table_id = _folder(folder, tag)
    return SnapshotFile(
        path=path,
        keyspace=keyspace,
        table=table,
        table_id=table_id,
        name=name,
        bytes=size,
        modified=modified,
        inode=inode,
    )


def table_of(folder: str) -> tuple[str, str] | None:
    """Give keyspace and table of the directory of a table; None when it is none."""
    keyspace, _, name = folder.rpartition("/")
    match = _TABLE_FOLDER.match(name)
    return (keyspace.rpartition("/")[2], match[1]) if match else None


def _folder(path: str, tag: str) -> tuple[str, str, str]:
    parts = path.removesuffix(f"/snapshots/{tag}").split("/")
    match = _TABLE_FOLDER.match(parts[-1])
    if match is None or len(parts) < 2:
        raise Corrupt(f"{path} is not the folder of a table", hint="check the data directories of the node")
    return parts[-2], match[1], match[2]


def _table_folder(path: str) -> str:
    """Give ``<keyspace>/<table>-<id>`` of a file of a snapshot: the same in every data directory."""
    return "/".join(path.split("/")[-5:-3])


def _listed(path: str, content: str) -> list[str]:
    try:
        files = json.loads(content)["files"]
        return [str(one) for one in files if not str(one).startswith(".")]  # hidden folders are secondary indexes
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{path} is not the list of a snapshot: {error}", hint="look at the disk of that node") from error
