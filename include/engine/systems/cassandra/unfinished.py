"""What a restore into a running cluster has begun, noted in the bucket: whoever goes on after a kill need not ask again.

Rows that an attempt of the same restore has brought are no reason to refuse the next.  They are not emptied either: the same
files bring the same rows, and what others wrote meanwhile is theirs: the plan says so.  An attempt that added rows to what was
there (``append``) emptied nothing, so it spares no table when rows are to be replaced after it.  After a day the note counts for
nothing: whoever restores the same backup then means something new.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from include.engine.errors import NotFound
from include.engine.model import Target
from include.engine.store.bucket import Bucket
from include.engine.systems.cassandra.schema import Statement
from include.engine.systems.cassandra.selection import Selection

_LASTS = timedelta(days=1)


class Begun(Struct, frozen=True, kw_only=True):
    """An attempt that began to bring rows.

    :param tables: that it has emptied, and may have brought rows into, as ``keyspace.table`` of the destination; none when it
        added rows to what was there
    :param derived: the indexes and views that these tables had before, some of which it may have dropped
    """

    version: int = 1
    at: datetime
    tables: tuple[str, ...] = ()
    derived: tuple[Statement, ...] = ()


class Unfinished:
    """The note of one restore: of one backup, or a part of it, into one cluster.

    ``name`` is the restore's own, on every machine that has a part in it: who repeats it has the same one, and nobody else.

    :param server: the name of the cluster's connection
    """

    def __init__(self, bucket: Bucket, target: Target, backup: str, server: str, selection: Selection) -> None:
        what = msgspec.json.encode([bucket.url, str(target), backup, server, selection], order="deterministic")
        self.name = f"{backup}-{hashlib.sha256(what).hexdigest()[:32]}"
        self._bucket = bucket
        self._key = f"{target}/restoring/{self.name}.json"

    def find(self, now: datetime) -> Begun | None:
        """Give what an attempt has noted within a day before *now*, if any has."""
        try:
            found = msgspec.json.decode(self._bucket.read(self._key), type=Begun)
        except (NotFound, msgspec.MsgspecError):
            return None
        return found if now - found.at < _LASTS else None

    def note(self, begun: Begun) -> None:
        """Note that rows are about to come."""
        self._bucket.delete([self._key])
        self._bucket.create(self._key, msgspec.json.encode(begun))

    def forget(self) -> None:
        """Remove the note: the restore is done."""
        self._bucket.delete([self._key])
