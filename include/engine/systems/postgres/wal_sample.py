"""Reads the log archive back, a part of it every day, so that all of it is read once in four weeks.

No manifest names archived segments, so no verification of a backup reads them.  What is compared is what they carry themselves: the
checksum that zstd (or age) put at their end, and the address, the timeline and the cluster in their first page.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from include.engine.errors import Corrupt
from include.engine.model import Check, Target, Verdict
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.lsn import Segment
from include.engine.systems.postgres.wal_objects import (
    WalIdentity,
    WalKind,
    WalObject,
    check_segment,
    fetch,
    identity_of,
    list_wal,
)

ROUND = 28  # days
_AT_ONCE = 4
_SHOWN = 10  # of many damaged ones


def due(objects: Sequence[WalObject], day: int) -> list[WalObject]:
    """Give the whole segments whose turn it is on a day, counted from whenever.  Pure."""
    whole = [wal for wal in objects if wal.kind is WalKind.SEGMENT]
    return [wal for wal in whole if zlib.crc32(f"{wal.timeline} {wal.name}".encode()) % ROUND == day % ROUND]


def read_back(bucket: Bucket, target: Target, identities: Sequence[str], now: datetime) -> list[Check]:
    """Read what is due today; nothing is said when nothing is, or when no key is at hand that opens it.

    :raises Unreachable: when the store does not answer
    :raises Unauthorized: when there are keys and none of them fits
    """
    identity = identity_of(bucket, target)
    objects = list_wal(bucket, target)
    wanted = [wal for wal in due(objects, now.toordinal()) if identities or not wal.key.endswith(".age")]
    if identity is None or not wanted:
        return []
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="read back") as pool:
        found = pool.map(lambda wal: _wrong(bucket, wal, identities, identity), wanted)
        wrong = [said for said in found if said]
    of = sum(wal.kind is WalKind.SEGMENT for wal in objects)
    detail = f"{len(wanted)} of {of} segments were read back today, each one is every {ROUND} days"
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        detail = f"{len(wrong)} of {len(wanted)} segments are damaged: {'; '.join(wrong[:_SHOWN])}{more}"
    verdict = Verdict.FAIL if wrong else Verdict.PASS
    return [Check(name="archive read back", verdict=verdict, detail=detail)]


def _wrong(bucket: Bucket, wal: WalObject, identities: Sequence[str], identity: WalIdentity) -> str:
    segment = Segment.parse(wal.name, identity.wal_segment_size)
    if segment is None:
        return ""  # the audit tells wrong names
    try:
        check_segment(wal.key, fetch(bucket, wal, identities), segment, identity.system_identifier)
    except Corrupt as error:
        # One that is gone was expired since it was listed, or is a gap, which is the audit's to tell.
        return error.message if bucket.exists(wal.key) else ""
    return ""
