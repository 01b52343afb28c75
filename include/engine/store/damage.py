"""What of the objects that backups share was found damaged, and not found right since.

An object is as damaged in every backup that names it as in the one whose verification has found that.  Which verifications have
found something wrong, their names tell: these are read, and they are rare.  The others are read only where an object of a backup
that somebody asks about is among what was found wrong, from the newest on, until each such object is decided.

One that may have found something wrong and cannot be read is no word, and no silence either: what was found right before it may
be what it has found wrong (:meth:`Damage.unheard`).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from include.engine.model import Manifest, Target, Verification
from include.engine.store.shared import shared_folder
from include.engine.store.verifications import Noted, Verifications, by_backup, stamp_of

_AT_ONCE = 16

_Object = tuple[str, str]  # key and SHA-256


class Damage:
    """What is known of the shared objects of one target, as it was when it was first asked for."""

    def __init__(self, verifications: Verifications, target: Target) -> None:
        self._verifications = verifications
        self._folder = f"{shared_folder(target)}/"
        self._noted = verifications.noted(target)  # oldest first
        self._documents: dict[str, Verification | None] = {}
        self._suspects: Mapping[_Object, Noted] | None = None
        self._lost: Sequence[Noted] = ()
        self._decided: dict[_Object, Verification | None] = {}
        self._reading = threading.Lock()  # pages ask for many backups at once
        self.by_backup = by_backup(self._noted)

    def of(self, manifest: Manifest) -> Mapping[str, Verification]:
        """Give, by key, the damaged objects of a backup that it shares with others, and who has found that last."""
        with self._reading:
            asked = {(entry.key, entry.sha256) for entry in manifest.entries} & set(self._found_wrong())
            self._decide(asked - set(self._decided))
            return {key: by for key, sha256 in sorted(asked) if (by := self._decided.get((key, sha256))) is not None}

    @property
    def suspected(self) -> bool:
        """Whether any object was, or may have been, found wrong, mended since or not: without one, no manifest need be read."""
        with self._reading:
            return bool(self._found_wrong() or self._lost)

    def unheard(self, manifest: Manifest, since: datetime) -> Sequence[str]:
        """Name the documents, not older than *since*, that may have found an object of a backup wrong and cannot be read.

        :param since: when the objects of the backup were read and found right
        """
        if not any(entry.key.startswith(self._folder) for entry in manifest.entries):
            return ()
        with self._reading:
            self._found_wrong()
            return [one.key for one in self._lost if one.stamp >= stamp_of(since)]

    def _found_wrong(self) -> Mapping[_Object, Noted]:
        """Give what was ever found wrong, and in which document last."""
        if self._suspects is None:
            found: dict[_Object, Noted] = {}
            telling = [one for one in self._noted if one.may_name_damage]
            read = self._read(telling)
            self._lost = [one for one in telling if self._documents[one.key] is None]
            for one, said in read:
                found |= {item: one for item in said.wrong.items() if item[0].startswith(self._folder)}
            self._suspects = found
        return self._suspects

    def _decide(self, open_: Collection[_Object]) -> None:
        """Look whether what was found wrong was found right since: the newest word about each counts."""
        suspects, left, later = self._found_wrong(), set(open_), list(self._noted)
        while left and later:
            oldest = min(suspects[one].order for one in left)
            later, some = later[:-_AT_ONCE], [one for one in later[-_AT_ONCE:] if one.order >= oldest]
            for _, said in reversed(self._read(some)):
                for key, sha256 in sorted(left):
                    if said.wrong.get(key) == sha256:  # before what it found right: of both in one, the worse counts
                        self._decided[key, sha256] = said
                    elif key in said.read and said.read[key].sha256 == sha256:
                        self._decided[key, sha256] = None
                left -= set(self._decided)

    def _read(self, noted: Sequence[Noted]) -> list[tuple[Noted, Verification]]:
        """Give the documents that can be read, each read once."""
        new = [one for one in noted if one.key not in self._documents]
        found = self._verifications.readable(new)
        for one in new:
            self._documents[one.key] = found.get(one.key)
        return [(one, said) for one in noted if (said := self._documents[one.key]) is not None]
