"""Whether a snapshot without files is of tables that hold no row, or of tables that have lost theirs.  Pure.

A table without a row is as legal as one with many.  That it has none is proved by three who say so: each node, whose list of the
snapshot (``manifest.json``, written last) names no SSTable though it flushed first; the rows, counted at ALL just before and just
after the snapshot; and the earlier backups, which had none either.  Where one of them says otherwise, files are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from include.engine.errors import Incomplete
from include.engine.model import Manifest, Target
from include.engine.systems.cassandra.cut import SnapshotCut
from include.engine.systems.cassandra.samples import TableSamples
from include.engine.systems.cassandra.sstables import SnapshotFile


def require_files_of_rows(target: Target, cut: SnapshotCut, files: Iterable[SnapshotFile]) -> None:
    """Check that every table in which rows were read before and after the snapshot has a file of it on some node.

    :raises Incomplete: naming those that have none
    """
    there = {(file.keyspace, file.table) for file in files}
    lost = [
        f"{one.keyspace}.{one.table}" for one in cut.samples if _rows(one) and (one.keyspace, one.table) not in there
    ]
    if lost:
        raise Incomplete(
            f"the snapshot {cut.tag} of {target} has no file of {', '.join(lost[:5])}, in which rows were read as it was taken",
            hint="look at the disks and the logs of the nodes, then run a new backup",
        )


def proved_empty(target: Target, cut: SnapshotCut, history: Sequence[Manifest]) -> str:
    """Say what proves that a snapshot without a single file is of a cluster that holds no row.

    :param history: earlier backups, oldest first; none for a full backup, which builds on nothing
    :raises Incomplete: when it is not proved
    """
    tables = cut.schema.tables()
    counted = {(one.keyspace, one.table) for one in cut.samples if _counted(one)}
    unknown = [f"{keyspace}.{table}" for keyspace, table in tables if (keyspace, table) not in counted]
    if unknown:
        raise Incomplete(
            f"the snapshot {cut.tag} of {target} holds no SSTable at all, and nobody could count that {', '.join(unknown[:5])} has"
            " no row: a backup of nothing must be proved to be one",
            hint="take a new set: rows may have come just then; sample_ranges in the inventory must not be 0",
        )
    if history and (had := len(history[-1].entries) - 1) > 0:
        raise Incomplete(
            f"{target} holds no row at all, and its backup {history[-1].id} has {had} files: somebody has emptied it, or it is"
            " another cluster",
            hint="restore it if it has lost its rows; if it is meant to be empty, say so with a full backup (--full)",
        )
    if not tables:
        return "there is no table to back up: no node knows one"
    return f"no row in any of {len(tables)} tables: each node lists 0 SSTables of each, and all of their rows were counted: 0"


def _rows(sample: TableSamples) -> int:
    return sum(one.rows for one in sample.ranges)


def _counted(sample: TableSamples) -> bool:
    """Whether all tokens were read, twice, and held no row either time."""
    return sample.whole and not sample.restless and not sample.unread and bool(sample.ranges) and _rows(sample) == 0
