"""Makes what the tests of the store need: buckets in memory, backups and sets with real objects."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from include.engine.model import (
    Cut,
    DrillReport,
    Entry,
    Kind,
    Manifest,
    Part,
    SetManifest,
    SourceIdentity,
    System,
    Target,
    Verdict,
    Verification,
    backup_id,
    encode,
)
from include.engine.store.bucket import Bucket, StoredObject
from include.engine.store.catalog import Catalog
from include.engine.store.vault import VaultWriter

NOW = datetime(2015, 11, 23, 12, 0, tzinfo=UTC)  # long ago: no machine that runs the tests is behind it
MAIN = Target(System.POSTGRES, "main")
EVENTS = Target(System.CASSANDRA, "events")
DAY = timedelta(days=1)


def memory_catalog() -> Catalog:
    return Catalog(Bucket.open(f"memory://{uuid.uuid4().hex}"))


def days_ago(days: float) -> datetime:
    return NOW - days * DAY


def drill_report(at: datetime, verdict: Verdict, target: Target | None = None) -> DrillReport:
    """What a drill of a whole set, or of *target*, has said at a time."""
    return DrillReport(
        id=backup_id(at),
        started=at,
        finished=at,
        set_id=None,
        target=target,
        backup=None,
        stages=(),
        checks=(),
        verdict=verdict,
    )


def a_backup(
    catalog: Catalog,
    target: Target = MAIN,
    *,
    days: float = 1,
    objects: Mapping[str, bytes] | None = None,
    parent: str | None = None,
    shared: Sequence[Entry] = (),
    recipients: Sequence[str] = (),
    attempt: str = "a1",
) -> Manifest:
    """Commit a backup that was taken *days* ago, with its objects."""
    at = days_ago(days)
    id_ = backup_id(at)
    writer = VaultWriter(catalog.bucket, f"{catalog.folder(target, id_)}/{attempt}", recipients=recipients)
    written = [
        writer.write(name, [content])
        for name, content in ({"base.tar": b"rows " * 100} if objects is None else objects).items()
    ]
    return catalog.commit(
        Manifest(
            id=id_,
            target=target,
            kind=Kind.INCREMENTAL if parent else Kind.FULL,
            parent=parent,
            started=at,
            finished=at,
            recoverable_from=at,
            recoverable_to=at,
            cut=Cut(at=at, position="0/0"),
            entries=(*written, *shared),
            source=SourceIdentity(identity="7", version="17.2"),
            encryption=writer.encryption,
        )
    )


def a_set(catalog: Catalog, *manifests: Manifest, days: float) -> SetManifest:
    at = days_ago(days)
    parts = tuple(
        Part(
            target=m.target,
            backup=m.id,
            manifest_key=catalog.manifest_key(m.target, m.id),
            manifest_sha256=hashlib.sha256(encode(m)).hexdigest(),
            cut=m.cut,
            bytes=m.bytes,
            recoverable_to=m.recoverable_to,
        )
        for m in manifests
    )
    return catalog.commit_set(
        SetManifest(id=backup_id(at), pipeline="demo", started=at, frozen=at, finished=at, parts=parts, by_hand="# How")
    )


def a_night(catalog: Catalog, *, days: float, targets: Sequence[Target] = (MAIN,)) -> SetManifest:
    """Commit a set with one full backup of each target."""
    return a_set(catalog, *(a_backup(catalog, target, days=days) for target in targets), days=days)


def verified(catalog: Catalog, manifest: Manifest, verdict: Verdict = Verdict.PASS) -> None:
    catalog.record_verification(
        Verification(
            target=manifest.target, backup=manifest.id, at=NOW, objects=1, bytes=manifest.bytes, verdict=verdict
        )
    )


def overwrite(bucket: Bucket, key: str, data: bytes) -> None:
    """Damage an object: what Mainstay itself never does."""
    bucket.delete([key])
    assert bucket.create(key, data)


def keys(bucket: Bucket, prefix: str = "") -> set[str]:
    return {found.key for found in bucket.list(prefix)}


def stored(key: str, *, days: float = 10, size: int = 1) -> StoredObject:
    return StoredObject(key, size, days_ago(days))


def ticking(start: datetime = NOW, step: timedelta = timedelta()) -> Callable[[], datetime]:
    """A clock that moves on by *step* each time somebody looks at it."""
    shown = [start - step]

    def look() -> datetime:
        shown[0] += step
        return shown[0]

    return look


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.bytes = 0

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self.stages.append((name, total_bytes))

    def advance(self, bytes_: int) -> None:
        self.bytes += bytes_

    def say(self, text: str) -> None:
        raise AssertionError(text)
