"""What the store has of earlier backups and of this one, and whether it has what it said that it took."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from include.engine.contracts import CopyJob
from include.engine.errors import Corrupt
from include.engine.model import Entry
from include.engine.systems.cassandra.cut import SnapshotCut, detail_of


def described(job: CopyJob, cut: SnapshotCut, there: Mapping[str, int]) -> Entry:
    """Store the schema as CQL unless it is there as it was; in a full backup whatever is there."""
    text = cut.schema.text().encode()
    sha256 = hashlib.sha256(text).hexdigest()
    if there.get(sha256) == len(text) and not job.full:
        return Entry(name=sha256, key=job.shared.key(sha256), bytes=len(text), sha256=sha256)
    return job.shared.put(text, again=job.full or sha256 in there)


def require(job: CopyJob, sent: Mapping[str, int]) -> None:
    """Ask the store for its list once more: what it took must be there, in the size that it has.

    :param sent: the size of each object that was sent, by digest
    :raises Corrupt: naming the first that is not
    """
    there = job.shared.stored()
    lacking = [sha256 for sha256, size in sent.items() if there.get(sha256) != size]
    if lacking:
        raise Corrupt(
            f"the store said that it took {len(lacking)} objects and does not list them as they were sent, the first is"
            f" {job.shared.key(lacking[0])}",
            hint="ask the store's operator; the copy can be repeated and sends them again",
        )


def of_nodes(job: CopyJob) -> dict[str, dict[str, tuple[tuple[int, int, int], str]]]:
    """Give what the newest backup knows of each node's files, by place: size, time, inode, and the digest."""
    for earlier in () if job.full else reversed(job.history):
        try:
            known = detail_of(earlier).files
        except Corrupt:
            continue  # no reason to go without a backup: the one before it knows most of them
        found: dict[str, dict[str, tuple[tuple[int, int, int], str]]] = {}
        for entry in earlier.entries:
            host_id, _, place = entry.name.partition("/")
            if entry.name in known:
                modified, inode = known[entry.name]
                found.setdefault(host_id, {})[place] = ((entry.bytes, modified, inode), entry.sha256)
        return found
    return {}
