"""The frozen values that everything else talks about.  No I/O, no clock, no client library.

What is written to the bucket is a ``Struct`` of this module, encoded as JSON by :func:`encode` and read back strictly by
:func:`decode`.  Times are aware and in UTC.  Sizes are bytes, durations are seconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from include.engine.errors import Corrupt, Misconfigured, Unsupported

MANIFEST_VERSION = 1
JsonValue = Any  # what JSON can carry; each system decodes its own part into a Struct of its own


class System(StrEnum):
    """The kinds of system that can be lost."""

    POSTGRES = "postgres"
    CASSANDRA = "cassandra"
    KAFKA = "kafka"
    SPARK = "spark"


# A set freezes its targets in this order; the order is what makes it consistent without a pause (docs/architecture.md).
FREEZE_ORDER = (System.SPARK, System.CASSANDRA, System.KAFKA, System.POSTGRES)

_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}$")


class Target(Struct, frozen=True, order=True):
    """One thing that can be lost, written ``<system>/<name>``."""

    system: System
    name: str

    def __str__(self) -> str:
        return f"{self.system}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``<system>/<name>``.

        :raises Misconfigured: when it is not of that form or names a system that Mainstay does not know
        """
        system, _, name = text.partition("/")
        if system not in set(System) or not _NAME.match(name):
            known = ", ".join(System)
            raise Misconfigured(
                f"{text!r} is not a target",
                hint=f"write <system>/<name>: a system of {known} and a name of a-z, 0-9, _ and -",
            )
        return cls(System(system), name)


def backup_id(at: datetime) -> str:
    """Name a backup after its run (``20261123T020000Z``), so that a retry finds its own work."""
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def backup_time(backup: str) -> datetime:
    """Give the time that a backup or set is named after.

    :raises Misconfigured: when *backup* is not such a name
    """
    try:
        return datetime.strptime(backup, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise Misconfigured(
            f"{backup!r} is not the name of a backup",
            hint="backups are named like 20261123T020000Z; `./mainstay catalog` lists them",
        ) from error


class Verdict(StrEnum):
    """What a check, a drill or a sweep found.  UNVERIFIED is never green."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    UNVERIFIED = "UNVERIFIED"

    @property
    def exit_code(self) -> int:
        """The shell's view: 0 pass, 1 fail, 3 unverified."""
        return {"PASS": 0, "FAIL": 1, "UNVERIFIED": 3}[self.value]


def worst(verdicts: list[Verdict]) -> Verdict:
    """Join verdicts: one failure fails all, one gap leaves all unverified, and nothing checked is nothing proved."""
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    if not verdicts or Verdict.UNVERIFIED in verdicts:
        return Verdict.UNVERIFIED
    return Verdict.PASS


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was looked at, and what was seen."""

    name: str
    verdict: Verdict
    detail: str
    seconds: float = 0.0


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


class PointKind(StrEnum):
    """How a recovery target is named."""

    LATEST = "latest"
    TIME = "time"
    POSITION = "position"
    NAME = "name"
    BACKUP = "backup"


class RecoveryPoint(Struct, frozen=True, kw_only=True):
    """Where a restore should stop."""

    kind: PointKind = PointKind.LATEST
    time: datetime | None = None
    value: str = ""

    def __str__(self) -> str:
        if self.kind is PointKind.TIME and self.time is not None:
            return self.time.isoformat()
        return f"{self.kind}:{self.value}" if self.value else str(self.kind)

    @classmethod
    def parse(cls, text: str) -> RecoveryPoint:
        """Read ``latest``, ``backup`` (the end of the backup itself), an ISO time, ``position:<LSN>`` or ``name:<restore point>``.

        :raises Misconfigured: when it is none of these, or a time without a zone
        """
        kind, _, value = text.partition(":")
        if text in (PointKind.LATEST, PointKind.BACKUP):
            return cls(kind=PointKind(text))
        if kind in (PointKind.POSITION, PointKind.NAME) and value:
            return cls(kind=PointKind(kind), value=value)
        try:
            time = datetime.fromisoformat(text)
        except ValueError as error:
            raise Misconfigured(
                f"{text!r} is not a point to recover to",
                hint="use latest, backup, an ISO time with its zone, position:<LSN> or name:<restore point>",
            ) from error
        if time.tzinfo is None:
            raise Misconfigured(
                f"the time {text!r} has no zone", hint=f"write {text}Z for UTC, or add an offset like +02:00"
            )
        return cls(kind=PointKind.TIME, time=time.astimezone(UTC))


class DestinationKind(StrEnum):
    """Where a restore may go."""

    SANDBOX = "sandbox"
    DIRECTORY = "directory"
    SERVER = "server"


class Destination(Struct, frozen=True, kw_only=True):
    """Where a restore goes: a throw-away sandbox, an empty directory, or a server that the inventory names."""

    kind: DestinationKind
    path: str = ""
    name: str = ""


class RestorePlan(Struct, frozen=True, kw_only=True):
    """What a restore would do, before it does anything."""

    target: Target
    backup: str
    chain: tuple[str, ...]  # full first; the last one is *backup*
    point: RecoveryPoint
    destination: Destination
    bytes_to_fetch: int
    bytes_needed: int  # free space that the destination must have
    steps: tuple[str, ...]
    would_overwrite: tuple[str, ...] = ()
    seconds_expected: float | None = None  # from earlier drills; None when there was none
    warnings: tuple[str, ...] = ()
    detail: dict[str, JsonValue] = field(default_factory=dict)  # what the system decided, for itself


class Stage(Struct, frozen=True, kw_only=True):
    """A part of a restore or drill, for RTO by stage.  ``counts`` is false for work that only the drill does."""

    name: str
    seconds: float
    bytes: int = 0
    counts: bool = True


class Restored(Struct, frozen=True, kw_only=True):
    """What a restore did, read back from the restored system."""

    target: Target
    backup: str
    address: str
    recovered_to: datetime | None
    stages: tuple[Stage, ...]
    checks: tuple[Check, ...] = ()
    detail: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """What the checks say together."""
        return worst([check.verdict for check in self.checks])


class DrillReport(Struct, frozen=True, kw_only=True):
    """The verdict of a drill, with the RPO and RTO that it achieved."""

    version: int = MANIFEST_VERSION
    id: str
    started: datetime
    finished: datetime
    set_id: str | None
    target: Target | None  # None for a drill of the whole pipeline
    backup: str | None
    stages: tuple[Stage, ...]
    checks: tuple[Check, ...]
    verdict: Verdict
    bytes: int = 0
    rto_seconds: float | None = None
    rpo_seconds: float | None = None
    rto_objective: float | None = None
    rpo_objective: float | None = None
    notes: tuple[str, ...] = ()


class Verification(Struct, frozen=True, kw_only=True):
    """What reading a backup back found: one check per object, or per failed object when all is well."""

    version: int = MANIFEST_VERSION
    target: Target
    backup: str
    at: datetime
    objects: int
    bytes: int
    verdict: Verdict
    problems: tuple[str, ...] = ()


Document = TypeVar("Document", bound=Struct)


def encode(document: Struct) -> bytes:
    """Encode a document for the bucket: JSON, indented, because people read it when all else is gone."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode(raw: bytes, kind: type[Document], *, where: str) -> Document:
    """Read a document back.

    :param where: the key it came from, for the error
    :raises Unsupported: when a newer Mainstay wrote it
    :raises Corrupt: when it is not such a document
    """
    try:
        version = msgspec.json.decode(raw, type=_Versioned).version
        if version > MANIFEST_VERSION:
            raise Unsupported(
                f"{where} was written by a newer Mainstay (document version {version}, this one reads up to {MANIFEST_VERSION})",
                hint="use the Mainstay that wrote it, or a newer one",
            )
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"{where} is not a valid {kind.__name__}: {error}",
            hint="verify the set; if the object was damaged, restore an older one and take a new backup now",
        ) from error


class _Versioned(Struct):
    version: int = MANIFEST_VERSION
