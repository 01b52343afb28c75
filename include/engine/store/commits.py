"""What the manifests of backups hash to and build on: each is read once, however many sets and backups name it.

A manifest may name a hundred thousand objects.  None of them is kept: whoever asks whether sets are whole needs no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress

from msgspec import Struct

from include.engine.errors import MainstayError, NotFound, PermanentError
from include.engine.model import Manifest, Target, decode
from include.engine.store import documents
from include.engine.store.catalog import Catalog, swapped


class Commit(Struct, frozen=True, kw_only=True):
    """A manifest, without what it names.

    :param of: the target and the backup that it is of
    :param problem: why it is no manifest that we can read; then nothing else is known but the digest
    """

    sha256: str
    of: tuple[Target, str] | None = None
    parent: str | None = None
    problem: PermanentError | None = None


class Commits:
    """The manifests of a catalog, as they are when they are first asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[str, Commit | None] = {}

    def at(self, key: str) -> Commit | None:
        """Give what is at *key*, whatever it is; nothing when nothing is there."""
        if key not in self._known:
            try:
                raw = self._catalog.bucket.read(key)
            except NotFound:
                self._known[key] = None
            else:
                self._known[key] = _commit(key, raw)
        return self._known[key]

    def find(self, target: Target, backup: str) -> Commit | None:
        """Give one committed backup, or nothing (see :meth:`Catalog.find`).

        :raises Corrupt: when what is there is no manifest, or another backup's
        :raises Unsupported: when a newer Mainstay wrote it
        """
        key = self._catalog.manifest_key(target, backup)
        found = self.at(key)
        if found is None:
            return None
        if found.problem is not None:
            raise found.problem
        if found.of is not None and found.of != (target, backup):
            raise swapped(key, *found.of)
        return found

    def backups(self, target: Target) -> list[str]:
        """Name the committed backups of *target*, oldest first, all of which can be read (see :meth:`Catalog.backups`)."""
        names = self._catalog.bucket.folders(f"{target}/backups")
        self.learn(self._catalog.manifest_key(target, name) for name in names)
        return [name for name in names if self.find(target, name) is not None]

    def learn(self, keys: Iterable[str]) -> None:
        """Read several side by side.  Those that the store does not give now are asked for again by whoever needs them."""

        def one(key: str) -> None:
            with suppress(MainstayError):
                self.at(key)

        documents.each(sorted(set(keys)), one)


def _commit(key: str, raw: bytes) -> Commit:
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        manifest = decode(raw, Manifest, where=key)
    except PermanentError as error:
        return Commit(sha256=sha256, problem=error)
    return Commit(sha256=sha256, of=(manifest.target, manifest.id), parent=manifest.parent)
