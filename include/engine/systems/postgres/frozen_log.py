"""The log archive as it was at one moment: what a drill may use, because the source counts as lost from then on.

Without it a drill would recover what was archived while it ran, and measure an RPO of nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from include.engine.contracts import Clock, Progress, Stop
from include.engine.model import Manifest, RecoveryPoint, Target
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.archive import read_histories
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.lsn import parse_lsn
from include.engine.systems.postgres.selection import choose_way
from include.engine.systems.postgres.wal_audit import Archive
from include.engine.systems.postgres.wal_objects import fetch, list_wal

_LOOK_EVERY = 1.0  # seconds


class FrozenLog(Struct, frozen=True, kw_only=True):
    """What the archive held at a moment.

    :param held: by key, what was read at once: the archiver soon replaces the part of a segment by a longer one
    """

    at: datetime
    archive: Archive
    held: dict[str, bytes]


def freeze_log(bucket: Bucket, target: Target, size: int, identities: Sequence[str], clock: Clock) -> FrozenLog:
    """Take the archive as it is now.

    :param size: bytes of a segment
    :raises Corrupt: naming it, when the newest part of a segment is damaged or missing
    """
    archive = Archive(list_wal(bucket, target), size)
    at = clock()
    newest = [partials[max(partials)] for partials in archive.partial.values()]
    return FrozenLog(at=at, archive=archive, held={wal.key: fetch(bucket, wal, identities) for wal in newest})


def await_samples(
    bucket: Bucket, target: Target, manifest: Manifest, *, limit: float, progress: Progress, stop: Stop
) -> None:
    """Wait until the archive reaches the samples of a backup that was just taken; no longer than *limit* seconds.

    Without an archiver it never will, and the drill says so: nothing is raised.
    """
    detail = PostgresDetail.of(manifest)
    if not detail.check.lsn:
        return
    deadline = time.monotonic() + limit
    told = False
    while time.monotonic() < deadline:
        objects = list_wal(bucket, target)
        histories = read_histories(bucket, objects)
        way = choose_way(manifest, Archive(objects, detail.wal_segment_bytes), histories, RecoveryPoint())
        if not objects or way.reach.to_lsn >= parse_lsn(detail.check.lsn):
            return
        if not told:
            progress.say(f"waiting for the log archive to reach {detail.check.lsn}, where the rows were sampled")
            told = True
        stop.check()
        time.sleep(_LOOK_EVERY)
