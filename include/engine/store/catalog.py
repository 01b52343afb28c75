"""Which backups and sets exist.  Derived from the store at every call, never cached: the bucket is the truth.

A backup exists when its manifest does.  Manifests are written last and create-only; on deletion they go first, so a crash
leaves garbage that ``sweep`` removes, never a backup that lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import msgspec
from msgspec import Struct

from include.engine.errors import Corrupt, NotFound, PermanentError
from include.engine.model import (
    DrillReport,
    Freeze,
    Manifest,
    RestoreRecord,
    SetManifest,
    System,
    Target,
    Verification,
    decode,
    encode,
)
from include.engine.store import clocks, documents
from include.engine.store.bucket import Bucket, StoredObject
from include.engine.store.verifications import Verifications


class Keep(Struct, frozen=True, kw_only=True):
    """A person's wish that a set is never expired."""

    version: int = 1
    by: str
    reason: str
    at: datetime


class Survey(Struct, frozen=True, kw_only=True):
    """Backups of a target that can be read, oldest first, and what is wrong with the manifests of the others.

    :param unreadable: by backup id
    :param older: how many more there are, which nobody asked for
    """

    manifests: tuple[Manifest, ...]
    unreadable: Mapping[str, PermanentError]
    older: int = 0


class Catalog:
    """All manifests, drills and verifications of one pipeline's bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.read_back = Verifications(bucket)

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

        :raises Corrupt: naming the first manifest that cannot be read.  Whoever deletes must not go on then; whoever
            restores may ask for a :meth:`survey`
        :raises Unsupported: when a newer Mainstay wrote one
        """
        return list(self.each_backup(target))

    def each_backup(self, target: Target) -> Iterator[Manifest]:
        """Give the same, a few at a time, for whoever needs only a part of each: one may name a hundred thousand objects."""
        names = self.bucket.folders(f"{target}/backups")
        found = documents.by_turns(names, lambda name: self.find(target, name))
        return (manifest for manifest in found if manifest is not None)

    def survey(self, target: Target, *, newest: int | None = None) -> Survey:
        """Give the backups of *target* that can be read: one damaged manifest must not hide all the others.

        :param newest: read so many manifests; all when it is None
        """
        wrong: dict[str, PermanentError] = {}

        def read(name: str) -> Manifest | None:
            try:
                return self.find(target, name)
            except PermanentError as error:
                wrong[name] = error
                return None

        folder = f"{target}/backups"
        names = _committed(self.bucket.list(folder), folder)
        asked = names if newest is None else names[-newest:]
        manifests = tuple(manifest for manifest in documents.each(asked, read) if manifest is not None)
        return Survey(manifests=manifests, unreadable=dict(sorted(wrong.items())), older=len(names) - len(asked))

    def backup(self, target: Target, backup: str) -> Manifest:
        """Give one committed backup.

        :raises NotFound: when it has no manifest
        """
        found = self.find(target, backup)
        if found is None:
            known = [m.id for m in self.survey(target, newest=3).manifests]
            raise NotFound(
                f"{target} has no backup {backup}",
                hint=f"the newest are {', '.join(known)}" if known else "there is none at all: run `./mainstay backup`",
            )
        return found

    def find(self, target: Target, backup: str) -> Manifest | None:
        """Give one committed backup, or nothing.

        :raises Corrupt: when what is there is no manifest, or another backup's
        """
        key = self.manifest_key(target, backup)
        manifest = documents.read(self.bucket, key, Manifest)
        if manifest is not None and (manifest.target != target or manifest.id != backup):
            raise swapped(key, manifest.target, manifest.id)
        return manifest

    def commit(self, manifest: Manifest) -> Manifest:
        """Make a backup exist.  Give the committed manifest: another attempt's, when that one was first."""
        key, raw = self.manifest_key(manifest.target, manifest.id), encode(manifest)
        made = self.bucket.create(key, raw)  # given as everybody else will read it; the seal reads back what is there
        return decode(raw, Manifest, where=key) if made else self.backup(manifest.target, manifest.id)

    def delete(self, target: Target, backup: str, *, spare: Iterable[str] = ()) -> tuple[str, ...]:
        """Remove a backup: its manifest first, then the objects in its folder that the manifest names.

        Nothing else in the folder is touched, because another attempt may be writing there; a sweep takes what is left.

        :param spare: keys that other backups name too
        :return: the keys that the store refuses to delete.  When the manifest is among them, nothing was deleted
        """
        manifest = self.find(target, backup)
        if manifest is None:
            return ()
        refused = self.bucket.delete_allowed([self.manifest_key(target, backup)])
        return refused or self.bucket.delete_allowed(sorted(self.own_keys(manifest) - frozenset(spare)))

    @classmethod
    def own_keys(cls, manifest: Manifest) -> frozenset[str]:
        """Give the keys of a backup's objects that lie in its own folder; the others are shared between backups."""
        inside = f"{cls.folder(manifest.target, manifest.id)}/"
        return frozenset(entry.key for entry in manifest.entries if entry.key.startswith(inside))

    # sets ------------------------------------------------------------------------------------------------------------

    def sets(self) -> list[SetManifest]:
        """Give the committed sets, oldest first.

        :raises Corrupt: naming the first manifest that cannot be read
        """
        return [found for found in documents.each(self.bucket.folders("sets"), self.find_set) if found is not None]

    def set_ids(self) -> list[str]:
        """Name the committed sets, oldest first, without reading any: one request for a thousand documents."""
        return _committed(self.bucket.list("sets"), "sets")

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
        key = f"sets/{set_id}/manifest.json"
        manifest = documents.read(self.bucket, key, SetManifest)
        if manifest is not None and manifest.id != set_id:
            raise swapped(key, "the set", manifest.id)
        return manifest

    def commit_set(self, manifest: SetManifest) -> SetManifest:
        """Make a set exist, with the text that tells how to restore it by hand beside it."""
        if manifest.by_hand:
            self.bucket.create(f"sets/{manifest.id}/RESTORE.md", manifest.by_hand.encode())
        self.bucket.create(f"sets/{manifest.id}/manifest.json", encode(manifest))
        return self.set(manifest.id)

    def delete_set(self, set_id: str) -> tuple[str, ...]:
        """Remove a set's own documents, its manifest first.  Its parts are removed one by one by retention.

        :return: the keys that the store refuses to delete.  When the manifest is among them, nothing was deleted
        """
        refused = self.bucket.delete_allowed([f"sets/{set_id}/manifest.json"])
        return refused or self.bucket.delete_allowed([found.key for found in self.bucket.list(f"sets/{set_id}")])

    def find_freeze(self, set_id: str) -> Freeze | None:
        """Give the cut that a run has fixed, or nothing."""
        return documents.read(self.bucket, f"sets/{set_id}/freeze.json", Freeze)

    def commit_freeze(self, freeze: Freeze) -> Freeze:
        """Fix the cut of a set.  Give the one that counts: another attempt's, when that one was first."""
        key, raw = f"sets/{freeze.id}/freeze.json", encode(freeze)
        if self.bucket.create(key, raw):
            return decode(raw, Freeze, where=key)  # every copy, and the seal, read what is there
        found = self.find_freeze(freeze.id)
        if found is None:
            raise Corrupt(f"the freeze of {freeze.id} vanished again", hint="check who deletes in the bucket")
        return found

    def keep(self, set_id: str, keep: Keep) -> None:
        """Pin a set: retention never removes it.  A set that is pinned stays pinned as it was.

        :raises NotFound: when there is no such set, or retention has removed it just now
        """
        self.set(set_id)
        self.bucket.create(f"sets/{set_id}/keep.json", encode(keep))
        # Retention looks for the pin just before it deletes the manifest: whoever pins after that is told.
        try:
            self.set(set_id)
        except NotFound:
            self.unkeep(set_id)
            raise

    def unkeep(self, set_id: str) -> None:
        """Unpin a set."""
        self.bucket.delete([f"sets/{set_id}/keep.json"])

    def kept(self, set_id: str) -> Keep | None:
        """Give who pinned a set and why, or nothing."""
        return documents.read(self.bucket, f"sets/{set_id}/keep.json", Keep)

    # proofs ----------------------------------------------------------------------------------------------------------

    def record_drill(self, report: DrillReport) -> bool:
        """Store a drill's report unless there is one of its name; give whether there was none."""
        return self.bucket.create(f"drills/{report.id}.json", encode(report))

    def record_restore(self, record: RestoreRecord) -> None:
        """Store who restored what and how it ended."""
        self.bucket.create(f"restores/{record.id}.json", encode(record))

    def restores(self) -> list[RestoreRecord]:
        """Give all restores, oldest first."""
        keys = sorted(found.key for found in self.bucket.list("restores"))
        found = documents.each(keys, lambda key: documents.read(self.bucket, key, RestoreRecord))
        return [record for record in found if record is not None]

    def drills(self) -> list[DrillReport]:
        """Give all drills, oldest first."""
        found = documents.each(sorted(self.bucket.list("drills"), key=clocks.in_order), self.drill)
        return [report for report in found if report is not None]

    def drill(self, found: StoredObject) -> DrillReport | None:
        """Read a drill, with the time that counts; nothing when it has gone since it was listed."""
        report = documents.read(self.bucket, found.key, DrillReport)
        if report is None:
            return None
        ahead = report.finished - clocks.believed(report.finished, found.modified)
        return msgspec.structs.replace(report, started=report.started - ahead, finished=report.finished - ahead)

    def record_verification(self, verification: Verification) -> None:
        """Store what reading a backup back has found, once per time."""
        self.read_back.record(verification)


def _committed(listed: Iterable[StoredObject], folder: str) -> list[str]:
    """Name the folders in *folder* that have a manifest directly in them, sorted.  Pure."""
    keys = (found.key.rpartition("/") for found in listed)
    paths = sorted(path for path, _, name in keys if name == "manifest.json")
    return [name for where, _, name in (path.rpartition("/") for path in paths) if where == folder]


def swapped(key: str, of: Target | str, name: str) -> Corrupt:
    """Give the error of a manifest that lies in the place of another.

    :param of: what it really is of
    """
    return Corrupt(
        f"{key} is the manifest of {of} {name}",
        hint="objects were moved by hand; put the bucket back as it was, or use another backup",
    )
