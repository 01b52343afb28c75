"""How it is known from the bucket alone that an idle server's archive is not late.

Who archives asks the server now and then how far its log goes, and what the archiver's slot has received.  When the bucket
has all of that, it puts down a *statement*::

    postgres/<name>/wal/reached/00000001-0000000003000060-20261123T213307Z.json

At that time the server's log ended no later than what is stored up to that position of that timeline (zeros, which end a page,
are not stored).  The newest statement counts, the others are removed.  An audit believes it as far as the bucket bears it out:
a statement that goes beyond what is there is a gap at the end of the archive, which nothing else in the bucket could show.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import Struct

from include.engine.contracts import Clock, Connection, Stop
from include.engine.errors import Interrupted, MainstayError
from include.engine.model import Target, encode
from include.engine.store.bucket import Bucket, StoredObject
from include.engine.systems.postgres.lsn import format_lsn, parse_lsn
from include.engine.systems.postgres.replication import ReplicationSession
from include.engine.systems.postgres.wal_objects import wal_folder

_KEY = re.compile(r"/wal/reached/([0-9A-F]{8})-([0-9A-F]{16})-(\d{8}T\d{6}Z)\.json$")
_TIME = "%Y%m%dT%H%M%SZ"
_WITHIN = 2.0  # seconds that the slot may need to receive what the server had when it was asked
_LOOK = 0.05


class Reached(Struct, frozen=True, kw_only=True):
    """A statement, as far as it can be believed.

    :param stored: position up to which the archive must have the log for it to count
    :param at: by the archiver's clock or by the store's, whichever is earlier
    """

    timeline: int
    stored: int
    at: datetime

    @classmethod
    def parse(cls, found: StoredObject) -> Reached | None:
        """Read a key; None when it is none of a statement."""
        match = _KEY.search("/" + found.key)
        if match is None:
            return None
        try:
            said = datetime.strptime(match[3], _TIME).replace(tzinfo=UTC)
        except ValueError:
            return None
        return cls(timeline=int(match[1], 16), stored=int(match[2], 16), at=min(said, found.modified))


class _Statement(Struct, frozen=True, kw_only=True):
    """What is in the object, for people."""

    version: int = 1
    at: datetime
    timeline: int
    server_position: str
    stored_to: str


class ServerEnd(Struct, frozen=True, kw_only=True):
    """Where the log of a server ended at a time; all of it was received by then or a little later."""

    timeline: int
    position: int
    at: datetime


def is_statement(key: str) -> bool:
    """Say whether *key* is one of a statement."""
    return _KEY.search("/" + key) is not None


def statements(bucket: Bucket, target: Target) -> list[Reached]:
    """Give what was stated of a target's archive; to be read before the archive is listed, which only grows."""
    found = (Reached.parse(stored) for stored in bucket.list(_folder(target)))
    return [one for one in found if one is not None]


def received_end(connection: Connection, slot: str, *, application: str, clock: Clock, stop: Stop) -> ServerEnd | None:
    """Ask how far the log of the server goes, and wait a moment until *slot* has received that.

    :returns: None when it has not, or the server is a standby, whose end says nothing of what the primary has committed
    :raises Unreachable: when the server does not answer
    """
    with ReplicationSession(connection, application=application, stop=stop) as session:
        if session.show("in_hot_standby") == "on":
            return None
        at = clock()
        found = session.identify()
        position = parse_lsn(found.position)
        deadline = time.monotonic() + _WITHIN
        while True:
            _, received, timeline, *_ = session.command(f'READ_REPLICATION_SLOT "{slot}"')[0]
            if received and int(timeline) == found.timeline and parse_lsn(received) >= position:
                return ServerEnd(timeline=found.timeline, position=position, at=at)
            if time.monotonic() > deadline:
                return None
            time.sleep(_LOOK)


def state(bucket: Bucket, target: Target, end: ServerEnd, stored: int) -> None:
    """Put down that the archive has everything up to *end*, and remove what was stated before.

    :param stored: position behind the last byte that is stored of the timeline
    """
    name = f"{end.timeline:08X}-{stored:016X}-{end.at.astimezone(UTC).strftime(_TIME)}.json"
    key = f"{_folder(target)}/{name}"
    statement = _Statement(
        at=end.at, timeline=end.timeline, server_position=format_lsn(end.position), stored_to=format_lsn(stored)
    )
    bucket.create(key, encode(statement))
    bucket.delete_allowed(old.key for old in list(bucket.list(_folder(target))) if old.key != key)


class Witness:
    """States now and then how far the archive has come.

    :param ask: gives the server's end, once it was received
    :param seconds: from one statement to the next
    :ivar error: why the server could not be asked last time; archiving goes on without a statement
    """

    def __init__(self, bucket: Bucket, target: Target, ask: Callable[[], ServerEnd | None], *, seconds: float) -> None:
        self._bucket, self._target, self._ask, self._seconds = bucket, target, ask, seconds
        self._due = 0.0
        self.error: MainstayError | None = None

    def look(self, ship: Callable[[], tuple[int, int] | None]) -> None:
        """Make a statement when one is due.

        :param ship: stores what was received, and gives the timeline and the position that the archive has come to
        :raises Unreachable: when the store does not answer; the next look comes later
        """
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._seconds
        try:
            end, self.error = self._ask(), None
        except Interrupted:
            return
        except MainstayError as error:
            self.error = error
            return
        stored = ship() if end is not None else None
        if end is not None and stored is not None and stored[0] == end.timeline:
            state(self._bucket, self._target, end, stored[1])


def _folder(target: Target) -> str:
    return f"{wal_folder(target)}/reached"
