"""The log archive as it was at one moment.

A drill uses nothing else, because the source counts as lost from then on: it would recover what was archived while it ran, and
measure an RPO of nothing.  A restore to a time or a position uses nothing else either: when PostgreSQL finds no transaction behind
the point it has to start over to the end of the log, and that must be the end which it has just seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from msgspec import Struct

from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import Corrupt, Unauthorized
from include.engine.model import Manifest, RecoveryPoint, Target
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.archive import read_histories
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.lsn import parse_lsn
from include.engine.systems.postgres.reached import Reached, statements
from include.engine.systems.postgres.selection import choose_way
from include.engine.systems.postgres.wal_audit import Archive, Histories
from include.engine.systems.postgres.wal_objects import fetch, list_wal

_LOOK_EVERY = 1.0  # seconds


class FrozenLog(Struct, frozen=True, kw_only=True):
    """What the archive held at a moment.

    :param held: by key, what was read at once: the archiver soon replaces the part of a segment by a longer one
    :param stated: what had been stated of the archive before it was listed
    """

    at: datetime
    archive: Archive
    histories: Histories
    held: dict[str, bytes]
    stated: tuple[Reached, ...] = ()


def freeze_log(bucket: Bucket, target: Target, size: int, identities: Sequence[str], clock: Clock) -> FrozenLog:
    """Take the archive as it is now.

    :param size: bytes of a segment
    :raises Corrupt: naming a history file that is damaged
    """
    stated = tuple(statements(bucket, target))  # first: what they are about is listed afterwards
    objects = list_wal(bucket, target)
    at = clock()
    archive, held = Archive(objects, size), {}
    for wal in (partials[max(partials)] for partials in archive.partial.values()):
        # Whether it is needed is known when recovery asks for it: one that cannot be read fails that recovery and no other.
        with suppress(Corrupt, Unauthorized):
            held[wal.key] = fetch(bucket, wal, identities)
    return FrozenLog(at=at, archive=archive, histories=read_histories(bucket, objects), held=held, stated=stated)


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
