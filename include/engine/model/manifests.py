"""The commit records of backups and sets."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct, field

from include.engine.model.documents import MANIFEST_VERSION, JsonValue
from include.engine.model.names import Target
from include.engine.model.verdicts import Check, Verdict, worst


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


class Flow(Struct, frozen=True, kw_only=True):
    """One way of a stream, from a topic to a table, as far as the consistency of a set depends on it."""

    name: str
    topic: str
    table: str  # keyspace.table
    idempotent: bool | None = None  # whether a replay writes the same rows; None when it could not be told
    why: str = ""  # what that was judged by


class Cut(Struct, frozen=True, kw_only=True):
    """The point that a backup stands for, fixed in the freeze."""

    at: datetime
    position: str  # an LSN, a snapshot tag, "offsets": what a person would quote
    # By topic and partition: of a log, where it ends (exclusive); of what reads a log, the record that it reads next.
    offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    begins: dict[str, dict[int, int]] = field(default_factory=dict)  # of a log: the first record that is still there
    # By topic, of both: which topic it is, as a UUID.  One that was made anew under the same name is another one.
    identities: dict[str, str] = field(default_factory=dict)
    flows: tuple[Flow, ...] = ()  # of what reads a log: where its records go
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


class Frozen(Struct, frozen=True, kw_only=True):
    """When one target was frozen."""

    target: Target
    began: datetime
    ended: datetime


class Consistency(Struct, frozen=True, kw_only=True):
    """What makes the parts of a set fit together, as it was judged when the set was sealed."""

    checks: tuple[Check, ...]
    freeze_seconds: float  # from the beginning of the first freeze to the end of the last
    skew_seconds: float  # between the first cut and the last: how much a stream has to replay, at least
    replay_records: int | None = None  # offsets between what the streams had read and the ends of the logs


class Coverage(Struct, frozen=True, kw_only=True):
    """What is on the live systems and in no backup, by target: what nobody declared, and what is left out on purpose."""

    gaps: dict[str, tuple[str, ...]]
    excluded: dict[str, tuple[str, ...]] = field(default_factory=dict)  # what the inventory names under `exclude`
    unread: dict[str, str] = field(default_factory=dict)  # targets that could not be asked, and why


class Reconciled(Struct, frozen=True, kw_only=True):
    """One flow's records in a window of its log, against what became of them.

    :param records: in the window, duplicates counted once
    :param rows: of these, found in the table, saying what the record says
    :param dead_letters: of these, found among the dead letters
    :param missing: keys of some that are in neither, or whose row says something else
    :param expired: records that were left out, because their rows (TTL) or dead letters (retention) may have come to their end
    """

    flow: str
    since: datetime | None
    until: datetime | None
    records: int
    rows: int
    dead_letters: int
    missing: tuple[str, ...] = ()
    expired: int = 0

    @property
    def lost(self) -> int:
        """How many records are neither in the table nor among the dead letters."""
        return self.records - self.rows - self.dead_letters


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
    checks: tuple[Check, ...] = ()  # of consistency, coverage and reconciliation; none in a set of an older Mainstay
    by_hand: str = ""  # how to restore it with stock tools only
    order: tuple[Frozen, ...] = ()
    consistency: Consistency | None = None
    coverage: Coverage | None = None
    reconciled: tuple[Reconciled, ...] = ()
    nothing_to_look_at: tuple[str, ...] = ()  # names of checks that are not proved for want of a record

    @property
    def verdict(self) -> Verdict:
        """Whether its parts fit together and are all there is, as far as that could be told."""
        return worst([check.verdict for check in self.checks])

    @property
    def waits(self) -> tuple[str, ...]:
        """What keeps it from being proved, when that is only that no record is there; nothing when it is anything else.

        It is not proved then, and there is nothing that anybody could mend.
        """
        open_ = [check for check in self.checks if check.verdict is not Verdict.PASS]
        if any(check.verdict is Verdict.FAIL or check.name not in self.nothing_to_look_at for check in open_):
            return ()
        return tuple(f"{check.name}: {check.detail}" for check in open_)

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
    order: tuple[Frozen, ...] = ()  # as it was done; none in a set of an older Mainstay
