"""What the pages show, read from the bucket.  A damaged document is told and hides nothing else; a store that does not
answer comes through as its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from include.engine.errors import Corrupt, MainstayError, NotFound, PermanentError, Unsupported
from include.engine.model import (
    ArchiveReach,
    DrillReport,
    Freeze,
    Manifest,
    Part,
    RestoreRecord,
    SetManifest,
    Target,
    Verdict,
    Verification,
    worst,
)
from mainstay.ui.exposure import Exposure, exposure

if TYPE_CHECKING:
    from include.engine.store.catalog import Keep, Survey
    from include.engine.store.proven import LastWords
    from include.engine.verbs.pipeline import Pipeline

MOST_ROWS = 50  # of a table on the overview, newest first
MOST_READ = 8  # of the manifests of a target's backups, newest first: one may name a hundred thousand objects

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class SetRow:
    """One set of the overview.

    :param verified: None when one of its parts was never read back and none is known to be bad
    :param drilled: what the last drill that says something about the whole set found
    :param stays: the reasons of retention; empty when the next run of ``expire`` removes it, None when they are not known
    """

    manifest: SetManifest
    verified: Verdict | None
    drilled: Verdict | None
    stays: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """All of the first page.  Lists are newest first."""

    pipeline: str
    url: str
    now: datetime
    exposures: Sequence[Exposure]
    sets: Sequence[SetRow]
    drills: Sequence[DrillReport]
    restores: Sequence[RestoreRecord]
    older: Mapping[str, int]  # rows that are not shown, by table
    unread: int  # backups whose manifests were not read
    problems: Sequence[str]

    @property
    def drill(self) -> DrillReport | None:
        """The last drill."""
        return self.drills[0] if self.drills else None


@dataclass(frozen=True, kw_only=True)
class PartView:
    """One part of a set: its backup, and what reading it back found."""

    target: Target
    backup: str
    manifest: Manifest | None
    verification: Verification | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class SetView:
    """All about one set.  Before it is sealed, only its freeze is known."""

    id: str
    now: datetime
    freeze: Freeze | None
    manifest: SetManifest | None
    parts: Sequence[PartView]
    drills: Sequence[DrillReport]  # newest first
    keep: Keep | None


def overview(pipeline: Pipeline, now: datetime) -> Overview:
    """Read the first page: the manifests of all sets, and of the newest backups.

    :raises MainstayError: when the store does not answer
    """
    from include.engine.store import documents
    from include.engine.store.proven import LastWords
    from include.engine.verbs import retention

    catalog = pipeline.catalog
    problems: list[str] = []
    drills = list(reversed(_whole(catalog.drills, problems)))
    restores = list(reversed(_whole(catalog.restores, problems)))
    surveys = documents.each(pipeline.targets, lambda target: _survey(pipeline, target))
    pairs = list(zip(pipeline.targets, surveys, strict=True))
    exposures = documents.each(pairs, lambda one: _exposure(pipeline, *one, now))
    unreadable = [error.message for survey in surveys for error in survey.unreadable.values()]
    read = documents.each(catalog.bucket.folders("sets"), lambda name: _one(lambda: catalog.find_set(name), unreadable))
    problems += unreadable
    sets = [found for found in read if found is not None]
    stays = None if unreadable else _one(lambda: retention.kept_sets(pipeline, sets, clock=lambda: now), problems)
    words = LastWords(catalog)
    rows = documents.each(sets[: -MOST_ROWS - 1 : -1], lambda found: _set_row(found, drills, stays, words))
    older = {"sets": len(sets), "drills": len(drills), "restores": len(restores)}
    return Overview(
        pipeline=pipeline.name,
        url=catalog.bucket.url,
        now=now,
        exposures=exposures,
        sets=rows,
        drills=drills[:MOST_ROWS],
        restores=restores[:MOST_ROWS],
        older={name: max(0, count - MOST_ROWS) for name, count in older.items()},
        unread=sum(survey.older for survey in surveys),
        problems=sorted(set(problems)),
    )


def one_set(pipeline: Pipeline, set_id: str, now: datetime) -> SetView:
    """Read one set, sealed or only frozen.

    :raises NotFound: when there is neither
    """
    from include.engine.store import documents
    from include.engine.store.proven import LastWords

    catalog = pipeline.catalog
    manifest, freeze = catalog.find_set(set_id), catalog.find_freeze(set_id)
    if manifest is not None:
        wanted = [(part.target, part.backup) for part in manifest.parts]
    elif freeze is not None:
        wanted = [(Target.parse(name), set_id) for name in freeze.cuts]
    else:
        raise NotFound(
            f"there is no set {set_id}", hint="it may have expired: the overview lists the sets that there are"
        )
    drills = [report for report in _whole(catalog.drills, []) if report.set_id == set_id]
    words = LastWords(catalog)
    return SetView(
        id=set_id,
        now=now,
        freeze=freeze,
        manifest=manifest,
        parts=documents.each(wanted, lambda part: _part(pipeline, words, *part)),
        drills=list(reversed(drills)),
        keep=catalog.kept(set_id) if manifest is not None else None,
    )


def one_drill(pipeline: Pipeline, drill_id: str) -> DrillReport:
    """Read one drill.

    :raises NotFound: when there is none of that name
    """
    found = next((report for report in pipeline.catalog.drills() if report.id == drill_id), None)
    if found is None:
        raise NotFound(
            f"there is no report of a drill {drill_id}",
            hint="a drill writes it when it ends: one that runs, or was stopped, has none",
        )
    return found


def drilled(found: SetManifest, newest_first: Sequence[DrillReport]) -> Verdict | None:
    """Give what the last drill that says something about the whole set has found.  Pure.

    A part that came back proves nothing about the others; a part that did not come back fails the set.
    """
    for report in newest_first:
        whole = report.target is None or len(found.parts) == 1
        if report.set_id == found.id and (whole or report.verdict is not Verdict.PASS):
            return report.verdict
    return None


def within(achieved: float | None, objective: float | None) -> Verdict:
    """Compare what was measured with what was promised; what was not measured is UNVERIFIED.  Pure."""
    if achieved is None or objective is None:
        return Verdict.UNVERIFIED
    return Verdict.PASS if achieved <= objective else Verdict.FAIL


def _survey(pipeline: Pipeline, target: Target) -> Survey:
    """Read the newest backups of a target; all of them when none of these can be read."""
    newest = pipeline.catalog.survey(target, newest=MOST_READ)
    return newest if newest.manifests or not newest.older else pipeline.catalog.survey(target)


def _exposure(pipeline: Pipeline, target: Target, survey: Survey, now: datetime) -> Exposure:
    newest = max(survey.manifests, key=lambda manifest: manifest.recoverable_to, default=None)
    archive: ArchiveReach | str | None = None
    if newest is not None:
        try:
            found = pipeline.lookup.archive(target)
            archive = found.reach([newest]) if found is not None else None
        except PermanentError as error:
            _unless_of_the_store(error)
            archive = error.message
    return exposure(target, newest, archive=archive, objective=pipeline.terms[target].objectives.rpo, now=now)


def _set_row(
    found: SetManifest,
    drills: Sequence[DrillReport],
    stays: Mapping[str, tuple[str, ...]] | None,
    words: LastWords,
) -> SetRow:
    return SetRow(
        manifest=found,
        verified=_verified(words, found.parts),
        drilled=drilled(found, drills),
        stays=None if stays is None else stays.get(found.id, ()),
    )


def _verified(words: LastWords, parts: Sequence[Part]) -> Verdict | None:
    found = [_last_verification(words, part.target, part.backup) for part in parts]
    verdict = worst([one.verdict if one else Verdict.UNVERIFIED for one in found])
    unread = verdict is Verdict.UNVERIFIED and all(one is None or one.verdict is Verdict.PASS for one in found)
    return None if unread else verdict


def _last_verification(words: LastWords, target: Target, backup: str) -> Verification | None:
    return _one(lambda: words.of(target, backup), [])


def _part(pipeline: Pipeline, words: LastWords, target: Target, backup: str) -> PartView:
    problems: list[str] = []
    manifest = _one(lambda: pipeline.catalog.find(target, backup), problems)
    return PartView(
        target=target,
        backup=backup,
        manifest=manifest,
        verification=_last_verification(words, target, backup),
        problem="; ".join(problems),
    )


def _whole(read: Callable[[], list[Item]], problems: list[str]) -> list[Item]:
    return _one(read, problems) or []


def _one(read: Callable[[], Item], problems: list[str]) -> Item | None:
    try:
        return read()
    except PermanentError as error:
        _unless_of_the_store(error)
        problems.append(str(error))
        return None


def _unless_of_the_store(error: MainstayError) -> None:
    """Let an error about one document pass; one about the store concerns the whole page."""
    if not isinstance(error, (Corrupt, Unsupported, NotFound)):
        raise error
