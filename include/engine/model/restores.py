"""Where a restore goes, how far, and what it did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import Struct, field

from include.engine.errors import Misconfigured
from include.engine.model.documents import MANIFEST_VERSION, JsonValue
from include.engine.model.names import System, Target
from include.engine.model.verdicts import Check, Verdict, worst


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


class Position(Struct, frozen=True, kw_only=True):
    """A place in a log: the record of a partition that would be read next."""

    topic: str
    partition: int
    offset: int


class Moved(Struct, frozen=True, kw_only=True):
    """Where a place in a log is after the log was restored: before the same record, under the topic's new name."""

    before: Position
    after: Position


class Restored(Struct, frozen=True, kw_only=True):
    """What a restore did, read back from the restored system."""

    target: Target
    backup: str
    address: str
    recovered_to: datetime | None
    stages: tuple[Stage, ...]
    checks: tuple[Check, ...] = ()
    detail: dict[str, JsonValue] = field(default_factory=dict)
    moved: tuple[Moved, ...] = ()  # of a log: where the positions are now that the job asked about

    @property
    def verdict(self) -> Verdict:
        """What the checks say together."""
        return worst([check.verdict for check in self.checks])


# Restored side by side, then what needs them: a checkpoint needs the offsets of the restored log, and its job what it writes to.
_WAVES = ((System.KAFKA, System.CASSANDRA, System.POSTGRES), (System.SPARK,))


def waves(targets: Iterable[Target]) -> tuple[tuple[Target, ...], ...]:
    """Order targets: those of one wave side by side, and each wave after the one before it.  Pure."""
    wanted = sorted(set(targets))
    ordered = (tuple(target for target in wanted if target.system in systems) for systems in _WAVES)
    return tuple(wave for wave in ordered if wave)


def time_of_waves(seconds: Mapping[Target, float]) -> float:
    """Give the seconds that all targets take, of which each takes so many: of a wave the slowest one's.  Pure."""
    return sum(max(seconds[target] for target in wave) for wave in waves(seconds))


class SetPlan(Struct, frozen=True, kw_only=True):
    """What the restore of a set would do: its parts, in the order in which they are restored."""

    set_id: str
    parts: tuple[RestorePlan, ...]
    warnings: tuple[str, ...] = ()

    @property
    def bytes_to_fetch(self) -> int:
        """Of all parts."""
        return sum(part.bytes_to_fetch for part in self.parts)

    @property
    def bytes_needed(self) -> int:
        """Free space that the destinations must have together."""
        return sum(part.bytes_needed for part in self.parts)

    @property
    def seconds_expected(self) -> float | None:
        """Of the slowest part of each wave; None when no drill has measured one of the parts."""
        known = {part.target: part.seconds_expected for part in self.parts if part.seconds_expected is not None}
        return time_of_waves(known) if len(known) == len(self.parts) else None

    @property
    def would_overwrite(self) -> tuple[str, ...]:
        """Of all parts, each with the part's name."""
        return tuple(f"{part.target}: {thing}" for part in self.parts for thing in part.would_overwrite)


class SetRestored(Struct, frozen=True, kw_only=True):
    """What the restore of a set did."""

    set_id: str
    parts: tuple[Restored, ...]
    checks: tuple[Check, ...]  # of all parts, each with the part's name

    @property
    def verdict(self) -> Verdict:
        """What the checks say together."""
        return worst([check.verdict for check in self.checks])


class RestoreRecord(Struct, frozen=True, kw_only=True):
    """Who restored what, where to, why, and how it ended: written to the bucket, whatever the end."""

    version: int = MANIFEST_VERSION
    id: str
    plan: RestorePlan
    reason: str
    by: str
    started: datetime
    finished: datetime
    verdict: Verdict
    error: str = ""
    set_id: str | None = None  # when it was a part of the restore of a set
