"""What drills and verifications have proved."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from include.engine.model.documents import MANIFEST_VERSION
from include.engine.model.names import Target
from include.engine.model.restores import Stage
from include.engine.model.verdicts import Check, Verdict


class Drilled(Struct, frozen=True, kw_only=True):
    """What came back of one target, and how long that took beside the others of its wave."""

    target: Target
    backup: str
    bytes: int
    seconds: float  # of the stages that a real restore would take too


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
    parts: tuple[Drilled, ...] = ()  # those that came back; none in reports of an earlier Mainstay
    rto_seconds: float | None = None
    rpo_seconds: float | None = None
    rto_objective: float | None = None
    rpo_objective: float | None = None
    notes: tuple[str, ...] = ()


class ReadBack(Struct, frozen=True, array_like=True):
    """A shared object that was read and was what it should be.

    :param modified: when the store says that it was written: another time is another object
    """

    sha256: str
    modified: datetime


class Verification(Struct, frozen=True, kw_only=True):
    """What reading a backup back found.

    ``objects`` and ``bytes`` count what was read.  ``trusted_objects`` and ``trusted_bytes`` were not: an earlier
    verification has read them, at ``trusted_since`` or later, and the store lists them unchanged.

    :param read: the objects that other backups may name too, by key, so that the next verification need not read them
    :param wrong: the objects that are not what was written, by key, with the SHA-256 that they should have; that they once were
        right counts no more
    """

    version: int = MANIFEST_VERSION
    target: Target
    backup: str
    at: datetime
    objects: int
    bytes: int
    verdict: Verdict
    problems: tuple[str, ...] = ()
    trusted_objects: int = 0
    trusted_bytes: int = 0
    trusted_since: datetime | None = None
    read: dict[str, ReadBack] = {}
    wrong: dict[str, str] = {}
