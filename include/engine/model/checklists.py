"""What a checklist has found, as it is kept in the bucket."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from include.engine.model.documents import MANIFEST_VERSION
from include.engine.model.verdicts import Check, Verdict, worst


class Item(Struct, frozen=True, kw_only=True):
    """One line of a checklist.

    :param evidence: what the verdict rests on, one line each
    """

    name: str
    verdict: Verdict
    detail: str
    evidence: tuple[str, ...] = ()

    def as_check(self) -> Check:
        """Give it as a check."""
        return Check(name=self.name, verdict=self.verdict, detail="; ".join([self.detail, *self.evidence]))


class Plot(Struct, frozen=True, kw_only=True):
    """A number over time: seconds since 1970, value."""

    title: str
    unit: str
    points: tuple[tuple[float, float], ...]
    limit: float | None = None


class Table(Struct, frozen=True, kw_only=True):
    """Rows for people."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Chapter(Struct, frozen=True, kw_only=True):
    """A part of a checklist."""

    title: str
    items: tuple[Item, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()


class SignOff(Struct, frozen=True, kw_only=True):
    """Who looked at the report and what that person decided."""

    by: str
    at: datetime
    accepted: bool
    note: str = ""


class ChecklistReport(Struct, frozen=True, kw_only=True):
    """A checklist that was gone through."""

    version: int = MANIFEST_VERSION
    kind: str
    id: str
    pipeline: str
    started: datetime
    finished: datetime
    chapters: tuple[Chapter, ...]
    signed: SignOff | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of all lines; none at all is nothing proved."""
        return worst([item.verdict for chapter in self.chapters for item in chapter.items])
