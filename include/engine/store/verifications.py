"""What was found when backups were read back: a document for each time, written once, whose name says what it has found.

``verifications/<target>/<backup>/<time>.<verdict>.json``.  A listing, one request for a thousand, so tells what need not be read:
of a backup the last document counts, and only one that found something wrong can name damage.  In an older Mainstay's names there
is no verdict: what these have found, only they can say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby

import msgspec
from msgspec import Struct

from include.engine.errors import PermanentError
from include.engine.model import Target, Verdict, Verification, encode
from include.engine.store import clocks, documents
from include.engine.store.bucket import Bucket, StoredObject
from include.engine.store.lease import CLOCK_TOLERANCE

_FOLDER = "verifications"
_STAMP = "%Y%m%dT%H%M%S%fZ"
_VERDICTS: Mapping[str, Verdict] = {str(verdict): verdict for verdict in Verdict}


class Noted(Struct, frozen=True, kw_only=True):
    """A verification as its name tells it.

    :param stamp: when, so that stamps are in the order of time
    :param verdict: None in a name of an older Mainstay's
    :param taken: when the store took it
    """

    key: str
    backup: str
    stamp: str
    verdict: Verdict | None
    taken: datetime

    @classmethod
    def parse(cls, found: StoredObject) -> Noted:
        """Read a name; a stamp that lies after the store took the document counts as that (:mod:`~include.engine.store.clocks`)."""
        _, backup, name = found.key.rsplit("/", 2)
        said, _, verdict = name.removesuffix(".json").partition(".")
        ahead = said > stamp_of(found.modified + CLOCK_TOLERANCE)
        stamp = stamp_of(found.modified) if ahead else said
        return cls(key=found.key, backup=backup, stamp=stamp, verdict=_VERDICTS.get(verdict), taken=found.modified)

    @property
    def order(self) -> tuple[str, bool]:
        """By time; of two at the same time the worse one is the later one."""
        return self.stamp, self.verdict is Verdict.FAIL

    @property
    def may_name_damage(self) -> bool:
        """Whether it may have found an object wrong."""
        return self.verdict in (Verdict.FAIL, None)


def stamp_of(at: datetime) -> str:
    """Write a time as names have it: stamps are in the order of time."""
    return f"{at.astimezone(UTC):{_STAMP}}"


class Verifications:
    """All verifications in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def record(self, verification: Verification) -> None:
        """Store what reading a backup back has found, once per time."""
        verdict = Verdict.FAIL if verification.wrong else verification.verdict
        name = f"{stamp_of(verification.at)}.{verdict}.json"
        self._bucket.create(f"{_FOLDER}/{verification.target}/{verification.backup}/{name}", encode(verification))

    def noted(self, target: Target) -> list[Noted]:
        """Give the names of a target's verifications, oldest first: one request for a thousand."""
        listed = self._bucket.list(f"{_FOLDER}/{target}")
        return sorted(map(Noted.parse, listed), key=lambda one: one.order)

    def noted_since(self, target: Target, since: datetime) -> list[Noted]:
        """Give the names of those that are not older than *since*."""
        return [one for one in self.noted(target) if one.stamp >= stamp_of(since)]

    def read(self, noted: Noted) -> Verification | None:
        """Read one, with the time that counts; nothing when it has gone since it was listed.

        :raises Corrupt: when it cannot be read
        """
        found = documents.read(self._bucket, noted.key, Verification)
        if found is None:
            return None
        return msgspec.structs.replace(found, at=clocks.believed(found.at, noted.taken))

    def readable(self, noted: Sequence[Noted]) -> dict[str, Verification]:
        """Read several side by side, and give them by their keys, in their order; what cannot be read is left out."""

        def one(name: Noted) -> Verification | None:
            try:
                return self.read(name)
            except PermanentError:
                return None

        found = documents.each(noted, one)
        return {name.key: said for name, said in zip(noted, found, strict=True) if said is not None}


def last_word(noted: Sequence[Noted], read: Callable[[Noted], Verification | None]) -> Verification | None:
    """Give the last of a backup's verifications, or the one before it that says more.

    A FAIL stays one until a later verification passes: one that could not look takes nothing back.

    :param noted: of one backup, oldest first
    """
    last = read(noted[-1]) if noted else None
    if last is None or last.verdict is not Verdict.UNVERIFIED:
        return last
    said = last_that_says(noted[:-1], read)
    return said if said is not None and said.verdict is Verdict.FAIL else last


def last_that_says(noted: Sequence[Noted], read: Callable[[Noted], Verification | None]) -> Verification | None:
    """Give the last of a backup's verifications that could look; nothing when none could.  Those that could not are not read."""
    for one in reversed(noted):
        if one.verdict is not Verdict.UNVERIFIED:
            found = read(one)
            if found is not None and found.verdict is not Verdict.UNVERIFIED:
                return found
    return None


def by_backup(noted: Iterable[Noted]) -> dict[str, list[Noted]]:
    """Sort names by their backup, keeping their order."""
    ordered = sorted(noted, key=lambda one: (one.backup, one.order))
    return {backup: list(found) for backup, found in groupby(ordered, key=lambda one: one.backup)}
