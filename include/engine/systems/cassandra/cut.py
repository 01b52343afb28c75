"""What the freeze of a Cassandra target fixes, and what a manifest says about one: read back strictly.  No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from include.engine.errors import Corrupt
from include.engine.model import Cut, Manifest
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.samples import TableSamples
from include.engine.systems.cassandra.schema import Schema

Part = TypeVar("Part", bound=Struct)


class SnapshotCut(Struct, frozen=True, kw_only=True):
    """A snapshot on all nodes, and what the cluster was like at that moment."""

    tag: str
    cluster: str
    nodes: tuple[Node, ...]
    keyspaces: tuple[str, ...]
    schema: Schema
    samples: tuple[TableSamples, ...]
    skew_seconds: float  # from the first node's start to the last one's end
    roles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    table_ids: dict[str, str] = {}  # by keyspace.table: commit logs know tables by them
    archived: bool = False  # whether commit logs were being archived


class BackupDetail(Struct, frozen=True, kw_only=True):
    """What a manifest says beyond what all manifests say."""

    cut: SnapshotCut
    files: dict[str, tuple[int, int]]  # by entry name: modification time and inode, so that it need not be hashed again
    schema_entry: str
    sent_objects: int
    sent_bytes: int
    hashed_bytes: int
    born: dict[str, datetime] = {}  # by host id: when the node's server was first started, as far as it said so


def cut_of(cut: Cut) -> SnapshotCut:
    """Read the cut of a frozen set.

    :raises Corrupt: when it is not one of Cassandra's
    """
    return _read(cut.detail, SnapshotCut, "the cut of the set")


def detail_of(manifest: Manifest) -> BackupDetail:
    """Read a manifest's own part.

    :raises Corrupt: when it is not one of Cassandra's
    """
    return _read(manifest.detail, BackupDetail, f"the manifest of {manifest.target} {manifest.id}")


def _read(raw: object, kind: type[Part], what: str) -> Part:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise Corrupt(f"{what} cannot be read: {error}", hint="use another backup, and verify this one") from error
