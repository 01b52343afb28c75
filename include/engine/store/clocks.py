"""When a document was written: by its own word, unless the store had it before that.  Pure.

A worker whose clock is ahead stamps what it writes with a time to come.  Until then its word would be the last one, whatever is
found meanwhile, and as fresh as can be.  The store has a clock of its own, and nothing is written after the store has taken it
(docs/adr/0080-the-stores-clock-bounds-a-documents-own.md).
"""

from __future__ import annotations

from datetime import datetime

from include.engine.errors import Misconfigured
from include.engine.model import backup_time
from include.engine.store.bucket import StoredObject
from include.engine.store.lease import CLOCK_TOLERANCE


def believed(at: datetime, taken: datetime) -> datetime:
    """Give *at*, or when the store took the document, if that was before *at* by more than clocks may differ."""
    return at if at <= taken + CLOCK_TOLERANCE else taken


def in_order(found: StoredObject) -> tuple[datetime, str]:
    """Give the order in time of a document that is named after its run, as backups are; of another name, when the store took it."""
    name = found.key.rpartition("/")[2].partition(".")[0]
    try:
        at = backup_time(name)
    except Misconfigured:
        at = found.modified
    return believed(at, found.modified), found.key


def is_ahead(at: datetime, now: datetime) -> bool:
    """Whether *at* lies in the future by more than clocks may differ: then nobody knows how long ago it was."""
    return at > now + CLOCK_TOLERANCE
