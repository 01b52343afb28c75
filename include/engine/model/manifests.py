"""The commit records of backups and sets."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct, field

from include.engine.model.documents import MANIFEST_VERSION, JsonValue
from include.engine.model.names import Target
from include.engine.model.verdicts import Check


class Entry(Struct, frozen=True, kw_only=True):
    """One stored object of a backup.  ``bytes`` and ``sha256`` are of what is stored, after compression and encryption."""

    name: str
    key: str
    bytes: int
    sha256: str
    original_bytes: int | None = None


class Encryption(Struct, frozen=True, kw_only=True):
    """How the objects of a backup are encrypted, and which keys open them.  Never a key itself."""

    scheme: str
    key_ids: tuple[str, ...]


class SourceIdentity(Struct, frozen=True, kw_only=True):
    """What was backed up: enough to recognise it again, nothing to log in with."""

    identity: str  # PostgreSQL's system identifier, Kafka's cluster id, Cassandra's cluster name and host ids
    version: str
    address: str = ""


class Cut(Struct, frozen=True, kw_only=True):
    """The point that a backup stands for, fixed in the freeze."""

    at: datetime
    position: str  # an LSN, a snapshot tag, "offsets": what a person would quote
    # By topic and partition: of a log, where it ends (exclusive); of what reads a log, the record that it reads next.
    offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    detail: dict[str, JsonValue] = field(default_factory=dict)


class Kind(StrEnum):
    """Whether a backup stands alone or needs its parent."""

    FULL = "full"
    INCREMENTAL = "incremental"


class Manifest(Struct, frozen=True, kw_only=True):
    """The commit record of one backup of one target: the last object written and the first one read."""

    version: int = MANIFEST_VERSION
    id: str
    target: Target
    kind: Kind
    parent: str | None = None
    started: datetime
    finished: datetime
    recoverable_from: datetime
    recoverable_to: datetime
    cut: Cut
    entries: tuple[Entry, ...]
    source: SourceIdentity
    tools: dict[str, str] = field(default_factory=dict)
    encryption: Encryption | None = None
    samples: tuple[dict[str, JsonValue], ...] = ()
    notes: tuple[str, ...] = ()
    detail: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes that the backup's objects take in the store (shared objects counted once)."""
        return sum({entry.key: entry.bytes for entry in self.entries}.values())

    @property
    def original_bytes(self) -> int:
        """Bytes before compression, as far as they are known."""
        return sum({e.key: e.original_bytes or e.bytes for e in self.entries}.values())


class Part(Struct, frozen=True, kw_only=True):
    """One target's share of a set."""

    target: Target
    backup: str
    manifest_key: str
    manifest_sha256: str
    cut: Cut
    bytes: int
    recoverable_to: datetime


class SetManifest(Struct, frozen=True, kw_only=True):
    """The commit record of a backup set: the backups of one run over all targets, with their common cut."""

    version: int = MANIFEST_VERSION
    id: str
    pipeline: str
    started: datetime
    frozen: datetime
    finished: datetime
    parts: tuple[Part, ...]
    left_out: tuple[str, ...] = ()  # targets of the inventory that this run was not asked to take
    checks: tuple[Check, ...] = ()
    by_hand: str = ""  # how to restore it with stock tools only

    @property
    def bytes(self) -> int:
        """Bytes that all parts take in the store."""
        return sum(part.bytes for part in self.parts)


class Freeze(Struct, frozen=True, kw_only=True):
    """The cut of a set, written create-only before any byte moves: a retry finds it and keeps to it."""

    version: int = MANIFEST_VERSION
    id: str
    started: datetime
    frozen: datetime
    cuts: dict[str, Cut]  # by str(target)
    left_out: tuple[str, ...] = ()
