"""Which objects must be read back, and which were read lately enough to be believed.  Pure.

Objects that backups share are written once and would be read again by the verification of every backup that names them.  An
object is *trusted* when an earlier verification has read it, found the digest that this manifest names, none has found it wrong
since, and the store's listing shows it unchanged: same size, same time of writing.  Everything else is read.  What was read when
is recorded, so a verdict never stands on more than that, and every object is read again before its proof is twice as old as asked
for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from include.engine.model import Entry, ReadBack, Verdict, Verification
from include.engine.store.bucket import StoredObject


class Trust(Struct, frozen=True, kw_only=True):
    """How long a reading is believed.

    :param lasts: read an object again when it was last read longer ago than this; twice as long is the limit
    :param share: of the bytes of all objects, how much of what is due is read in one run, so that what came with the
        first backup does not fall due in one night
    """

    lasts: timedelta = timedelta(days=7)
    share: float = 0.25

    @property
    def limit(self) -> timedelta:
        """The age at which a reading counts for nothing."""
        return 2 * self.lasts


class Choice(Struct, frozen=True, kw_only=True):
    """What to read, and what to believe.

    :param oldest: when the oldest of the readings that are believed was made
    """

    read: tuple[Entry, ...]
    trusted: tuple[Entry, ...]
    oldest: datetime | None


def choose(
    entries: Iterable[Entry],
    listed: Mapping[str, StoredObject],
    readings: Mapping[str, tuple[datetime, ReadBack]],
    trust: Trust,
    *,
    now: datetime,
) -> Choice:
    """Decide for each object of a manifest.

    :param listed: the shared objects that are there, by key
    :param readings: when each object was last read and found right, by key
    """
    distinct = list({(entry.key, entry.bytes, entry.sha256): entry for entry in entries}.values())
    must: list[Entry] = []
    due: list[tuple[datetime, Entry]] = []
    believed: list[tuple[datetime, Entry]] = []
    for entry in distinct:
        when = _proved(entry, listed.get(entry.key), readings.get(entry.key))
        if when is None or when > now or now - when >= trust.limit:
            must.append(entry)
        elif now - when >= trust.lasts:
            due.append((when, entry))
        else:
            believed.append((when, entry))
    left = trust.share * sum(entry.bytes for entry in distinct)
    for when, entry in sorted(due, key=lambda one: (one[0], one[1].key)):
        if left > 0:  # the one that exceeds it is read too: a single large object must not wait for ever
            must.append(entry)
            left -= entry.bytes
        else:
            believed.append((when, entry))
    return Choice(
        read=tuple(must),
        trusted=tuple(entry for _, entry in believed),
        oldest=min((when for when, _ in believed), default=None),
    )


def newest_readings(found: Iterable[Verification]) -> dict[str, tuple[datetime, ReadBack]]:
    """Give, by key, the newest of all readings of each object, unless it was found wrong at the same time or later."""
    newest: dict[str, tuple[datetime, ReadBack]] = {}
    # Oldest first; of two at the same time the worse one is the later one.
    for one in sorted(found, key=lambda one: (one.at, one.verdict is Verdict.FAIL)):
        newest.update({key: (one.at, reading) for key, reading in one.read.items()})
        for key, sha256 in one.wrong.items():
            if key in newest and newest[key][1].sha256 == sha256:  # else the manifest is wrong, not the object
                del newest[key]
    return newest


def _proved(entry: Entry, stored: StoredObject | None, reading: tuple[datetime, ReadBack] | None) -> datetime | None:
    """When *entry* was read and found right as it is now; None when it was not."""
    if stored is None or reading is None:
        return None
    at, read = reading
    same = stored.bytes == entry.bytes and stored.modified == read.modified and read.sha256 == entry.sha256
    return at if same else None
