"""Which backups and sets exist.  Derived from the store at every call, never cached: the bucket is the truth.

A backup exists when its manifest does.  Manifests are written last and create-only; on deletion they go first, so a crash
leaves garbage that ``upkeep`` sweeps, never a backup that lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from msgspec import Struct

from include.engine.errors import Corrupt, NotFound
from include.engine.model import (
    Document,
    DrillReport,
    Freeze,
    Manifest,
    SetManifest,
    System,
    Target,
    Verification,
    decode,
    encode,
)
from include.engine.store.bucket import Bucket

_READS_AT_ONCE = 16

Item = TypeVar("Item")


class Keep(Struct, frozen=True, kw_only=True):
    """A person's wish that a set is never expired."""

    version: int = 1
    by: str
    reason: str
    at: datetime


class Catalog:
    """All manifests, drills and verifications of one pipeline's bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    # backups of one target -------------------------------------------------------------------------------------------

    @staticmethod
    def folder(target: Target, backup: str) -> str:
        """Give the folder of a backup."""
        return f"{target}/backups/{backup}"

    @classmethod
    def manifest_key(cls, target: Target, backup: str) -> str:
        """Give the key whose presence makes a backup exist."""
        return f"{cls.folder(target, backup)}/manifest.json"

    def targets(self) -> list[Target]:
        """Name every target that the bucket holds anything of, sorted."""
        return sorted(Target(system, name) for system in System for name in self.bucket.folders(str(system)))

    def backups(self, target: Target) -> list[Manifest]:
        """Give the committed backups of *target*, oldest first.

        :raises Corrupt: naming the first manifest that cannot be read
        """
        names = self.bucket.folders(f"{target}/backups")
        return [found for found in self._each(names, lambda name: self.find(target, name)) if found is not None]

    def backup(self, target: Target, backup: str) -> Manifest:
        """Give one committed backup.

        :raises NotFound: when it has no manifest
        """
        found = self.find(target, backup)
        if found is None:
            known = [m.id for m in self.backups(target)][-3:]
            raise NotFound(
                f"{target} has no backup {backup}",
                hint=f"the newest are {', '.join(known)}" if known else "there is none at all: run `./mainstay backup`",
            )
        return found

    def find(self, target: Target, backup: str) -> Manifest | None:
        """Give one committed backup, or nothing."""
        manifest = self._read(self.manifest_key(target, backup), Manifest)
        if manifest is not None and (manifest.target != target or manifest.id != backup):
            raise Corrupt(
                f"{self.manifest_key(target, backup)} is the manifest of {manifest.target} {manifest.id}",
                hint="objects were moved by hand; put the bucket back as it was, or use another backup",
            )
        return manifest

    def commit(self, manifest: Manifest) -> Manifest:
        """Make a backup exist.  Give the committed manifest: another attempt's, when that one was first."""
        self.bucket.create(self.manifest_key(manifest.target, manifest.id), encode(manifest))
        return self.backup(manifest.target, manifest.id)

    def delete(self, target: Target, backup: str) -> None:
        """Remove a backup: its manifest first, then what only it can refer to (its own folder)."""
        self.bucket.delete([self.manifest_key(target, backup)])
        self.bucket.delete([found.key for found in self.bucket.list(self.folder(target, backup))])

    # sets ------------------------------------------------------------------------------------------------------------

    def sets(self) -> list[SetManifest]:
        """Give the committed sets, oldest first."""
        names = self.bucket.folders("sets")
        return [found for found in self._each(names, self.find_set) if found is not None]

    def set(self, set_id: str) -> SetManifest:
        """Give one committed set.

        :raises NotFound: when it has no manifest
        """
        found = self.find_set(set_id)
        if found is None:
            raise NotFound(f"there is no set {set_id}", hint="`./mainstay catalog` lists the sets")
        return found

    def find_set(self, set_id: str) -> SetManifest | None:
        """Give one committed set, or nothing."""
        return self._read(f"sets/{set_id}/manifest.json", SetManifest)

    def commit_set(self, manifest: SetManifest) -> SetManifest:
        """Make a set exist, with the text that tells how to restore it by hand beside it."""
        if manifest.by_hand:
            self.bucket.create(f"sets/{manifest.id}/RESTORE.md", manifest.by_hand.encode())
        self.bucket.create(f"sets/{manifest.id}/manifest.json", encode(manifest))
        return self.set(manifest.id)

    def delete_set(self, set_id: str) -> None:
        """Remove a set's own documents, its manifest first.  Its parts are removed one by one by retention."""
        self.bucket.delete([f"sets/{set_id}/manifest.json"])
        self.bucket.delete([found.key for found in self.bucket.list(f"sets/{set_id}")])

    def find_freeze(self, set_id: str) -> Freeze | None:
        """Give the cut that a run has fixed, or nothing."""
        return self._read(f"sets/{set_id}/freeze.json", Freeze)

    def commit_freeze(self, freeze: Freeze) -> Freeze:
        """Fix the cut of a set.  Give the one that counts: another attempt's, when that one was first."""
        self.bucket.create(f"sets/{freeze.id}/freeze.json", encode(freeze))
        found = self.find_freeze(freeze.id)
        if found is None:
            raise Corrupt(
                f"the freeze of {freeze.id} vanished after it was written", hint="check who deletes in the bucket"
            )
        return found

    def keep(self, set_id: str, keep: Keep) -> None:
        """Pin a set: retention never removes it."""
        self.set(set_id)
        self.bucket.create(f"sets/{set_id}/keep.json", encode(keep))

    def unkeep(self, set_id: str) -> None:
        """Unpin a set."""
        self.bucket.delete([f"sets/{set_id}/keep.json"])

    def kept(self, set_id: str) -> Keep | None:
        """Give who pinned a set and why, or nothing."""
        return self._read(f"sets/{set_id}/keep.json", Keep)

    # proofs ----------------------------------------------------------------------------------------------------------

    def record_drill(self, report: DrillReport) -> None:
        """Store a drill's report, once."""
        self.bucket.create(f"drills/{report.id}.json", encode(report))

    def drills(self) -> list[DrillReport]:
        """Give all drills, oldest first."""
        keys = sorted(found.key for found in self.bucket.list("drills"))
        found = [self._read(key, DrillReport) for key in keys]
        return [report for report in found if report is not None]

    def record_verification(self, verification: Verification) -> None:
        """Store what reading a backup back has found, once per time."""
        stamp = verification.at.strftime("%Y%m%dT%H%M%S%fZ")
        key = f"verifications/{verification.target}/{verification.backup}/{stamp}.json"
        self.bucket.create(key, encode(verification))

    def verifications(self, target: Target, backup: str) -> list[Verification]:
        """Give what was found when a backup was read back, oldest first."""
        keys = sorted(found.key for found in self.bucket.list(f"verifications/{target}/{backup}"))
        found = [self._read(key, Verification) for key in keys]
        return [verification for verification in found if verification is not None]

    def _read(self, key: str, kind: type[Document]) -> Document | None:
        try:
            raw = self.bucket.read(key)
        except NotFound:
            return None
        return decode(raw, kind, where=key)

    @staticmethod
    def _each(names: Sequence[str], read: Callable[[str], Item]) -> list[Item]:
        with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="catalog") as pool:
            return list(pool.map(read, names))
