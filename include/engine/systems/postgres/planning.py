"""What a plan says of a restore: how much it needs, what it fetches, and its steps.  Pure."""

from __future__ import annotations

from include.engine.model import Destination, DestinationKind, RecoveryPoint
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.selection import Choice, Way
from include.engine.systems.postgres.spool import AHEAD
from include.engine.systems.postgres.wal_audit import Archive

_ROOM = 1.1  # what a database needs beyond its size: hint bits, temporary files, the growth of a busy catalog
_WAL_ROOM = AHEAD + 32  # segments that recovery keeps at most between two restart points of a default max_wal_size


def bytes_needed(choice: Choice) -> int:
    """Give the free space that the destination must have."""
    detail = PostgresDetail.of(choice.manifest)
    known = [one.bytes for one in detail.databases if one.bytes is not None]
    full = choice.chain[0].original_bytes
    size = max(sum(known), full) if known else full
    # A chain lies on the disk twice while it is combined.
    parts = sum(manifest.original_bytes for manifest in choice.chain) if len(choice.chain) > 1 else 0
    return int(size * _ROOM) + parts + _WAL_ROOM * detail.wal_segment_bytes


def log_bytes(archive: Archive, way: Way, detail: PostgresDetail) -> int:
    """What the archive has to give between the backup and the newest point, as stored."""
    first = int(detail.stop_wal[8:16], 16) * ((1 << 32) // archive.size) + int(detail.stop_wal[16:], 16)
    numbers = archive.whole.get(way.timeline, {})
    return sum(wal.bytes for number, wal in numbers.items() if number >= first)


def steps(choice: Choice, way: Way, point: RecoveryPoint, destination: Destination, *, again: bool) -> tuple[str, ...]:
    """Tell what is done, one step after the other.

    :param again: an attempt of the same restore has left something
    """
    ids = ", ".join(manifest.id for manifest in choice.chain)
    steps = [f"throw away what an attempt of this restore has left in {destination.path}"] if again else []
    steps.append(f"fetch, decrypt and unpack {ids} into {destination.path}, comparing every object with its SHA-256")
    if len(choice.chain) > 1:
        steps.append("combine the chain with pg_combinebackup")
    steps += [
        "verify every file with pg_verifybackup and flush it to the disk",
        "unless --no-checks: stop where the backup's samples were taken, when the point lies behind that, and compare the rows",
        f"recover to {point} along timeline {way.timeline}, with the log from the archive",
    ]
    end = {
        DestinationKind.DIRECTORY: "shut down cleanly; the directory can be started by any PostgreSQL of that version",
        DestinationKind.SERVER: f"leave the server {destination.name} serving on loopback",
        DestinationKind.SANDBOX: "leave the sandbox serving",
    }
    checked = (
        "unless --no-checks: check all tables and indexes with pg_amcheck, and read every row that was not compared"
    )
    return (*steps, checked, end[destination.kind])
