"""``./mainstay catalog``: which sets and backups there are, how far they reach, and what was proved about them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from include.engine.cli import figures
from include.engine.cli.clock import now
from include.engine.cli.output import Json, coloured, emit_json, show, table
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.errors import PermanentError
from include.engine.model import (
    ArchiveReach,
    DrillReport,
    Kind,
    Manifest,
    SetManifest,
    Target,
    Verdict,
)

if TYPE_CHECKING:
    from include.engine.verbs.pipeline import Pipeline

_READS_AT_ONCE = 8


class ListedBackup(Struct, frozen=True, kw_only=True):
    """One backup as the catalog shows it."""

    target: str
    id: str
    kind: Kind
    parent: str | None
    taken: datetime
    bytes: int
    original_bytes: int
    encrypted: bool
    recoverable_from: datetime
    recoverable_to: datetime
    verified: Verdict | None  # what the last reading back said; None when it was never read
    drilled: Verdict | None  # what the last drill of it said


class ListedSet(Struct, frozen=True, kw_only=True):
    """One set as the catalog shows it."""

    id: str
    taken: datetime
    bytes: int
    targets: tuple[str, ...]
    fits: Verdict | None  # whether its parts fit together; None when nobody looked, in a set of an older Mainstay
    kept: str | None  # the reason of the person who pinned it


class ListedArchive(Struct, frozen=True, kw_only=True):
    """How far a log archive makes its target recoverable; why that could not be found out, when it could not."""

    target: str
    reach: ArchiveReach | None
    problem: str = ""


class Unreadable(Struct, frozen=True, kw_only=True):
    """What cannot be read, and why: a backup of a target, a set, or the drills."""

    what: str
    problem: str


class Listing(Struct, frozen=True, kw_only=True):
    """The whole catalog."""

    url: str
    sets: tuple[ListedSet, ...]
    backups: tuple[ListedBackup, ...]
    archives: tuple[ListedArchive, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


@finds_pipeline
def catalog(
    whence: Whence,
    target: Annotated[str | None, typer.Argument(help="<system>/<name>; all by default")] = None,
    as_json: Json = False,
) -> None:
    """List the sets and backups in the bucket: age, size, how far each recovers, verified or drilled or not."""
    pipeline = whence.pipeline()
    listing = listed(pipeline, Target.parse(target) if target else None)
    if as_json:
        emit_json(listing)
        return
    _show(listing, now())


def listed(pipeline: Pipeline, only: Target | None = None) -> Listing:
    """Read the catalog, newest first; what cannot be read is listed apart, and hides nothing else."""
    from include.engine.store.proven import LastWords
    from include.engine.store.sets import survey_sets

    found = pipeline.catalog
    targets = [only] if only else sorted({*found.targets(), *pipeline.targets})
    surveys = {target: found.survey(target) for target in targets}
    surveyed = survey_sets(found)
    wrong = {f"{target} {name}": error for target in targets for name, error in surveys[target].unreadable.items()}
    wrong |= {f"set {name}": error for name, error in surveyed.unreadable.items()}
    drills: list[DrillReport] = []
    try:
        drills = found.drills()
    except PermanentError as error:
        wrong["drills"] = error
    by_target = {target: list(surveys[target].manifests) for target in targets}
    manifests = [manifest for kept in by_target.values() for manifest in kept]
    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="catalog") as pool:
        words = LastWords(found)
        verified = list(pool.map(lambda manifest: words.of(manifest.target, manifest.id), manifests))
    backups = [
        _backup(manifest, last.verdict if last else None, drills)
        for manifest, last in zip(manifests, verified, strict=True)
    ]
    sets = [_set(pipeline, one) for one in surveyed.sets if only is None or only in {part.target for part in one.parts}]
    return Listing(
        url=found.bucket.url,
        sets=tuple(reversed(sets)),
        backups=tuple(sorted(backups, key=lambda listed: (listed.id, listed.target), reverse=True)),
        archives=tuple(one for target in targets if (one := _archive(pipeline, target, by_target[target])) is not None),
        unreadable=tuple(Unreadable(what=what, problem=error.message) for what, error in wrong.items()),
    )


def _archive(pipeline: Pipeline, target: Target, kept: list[Manifest]) -> ListedArchive | None:
    """Walk the target's log archive from each backup; None when it has none, or nothing was ever archived."""
    try:
        archive = pipeline.lookup.archive(target)
        reach = archive.reach(kept) if archive is not None else None
    except PermanentError as error:
        return ListedArchive(target=str(target), reach=None, problem=error.message)
    return ListedArchive(target=str(target), reach=reach) if reach is not None and reach.newest is not None else None


def _drilled(manifest: Manifest, drills: list[DrillReport]) -> Verdict | None:
    for report in reversed(drills):
        # A drill of a whole set names the set; its parts are backups of the same name.
        one = report.target == manifest.target and report.backup == manifest.id
        if one or (report.target is None and report.set_id == manifest.id):
            return report.verdict
    return None


def _backup(manifest: Manifest, verified: Verdict | None, drills: list[DrillReport]) -> ListedBackup:
    return ListedBackup(
        target=str(manifest.target),
        id=manifest.id,
        kind=manifest.kind,
        parent=manifest.parent,
        taken=manifest.finished,
        bytes=manifest.bytes,
        original_bytes=manifest.original_bytes,
        encrypted=manifest.encryption is not None,
        recoverable_from=manifest.recoverable_from,
        recoverable_to=manifest.recoverable_to,
        verified=verified,
        drilled=_drilled(manifest, drills),
    )


def _set(pipeline: Pipeline, found: SetManifest) -> ListedSet:
    keep = pipeline.catalog.kept(found.id)
    return ListedSet(
        id=found.id,
        taken=found.finished,
        bytes=found.bytes,
        targets=tuple(str(part.target) for part in found.parts),
        fits=found.verdict if found.checks else None,
        kept=keep.reason if keep else None,
    )


def _show(listing: Listing, at: datetime) -> None:
    if not listing.sets and not listing.backups and not listing.unreadable:
        show(f"{listing.url} holds no backup yet: `./mainstay backup` takes the first")
        return
    if listing.sets:
        rows = [
            (
                one.id,
                figures.age(one.taken, at),
                figures.size(one.bytes),
                " ".join(one.targets),
                coloured(one.fits) if one.fits else "never asked",
                one.kept or "",
            )
            for one in listing.sets
        ]
        show(table(("set", ">age", ">stored", "targets", "fits together", "kept because"), rows, title=listing.url))
    columns = ("backup", "of", ">age", "kind", ">stored", ">ratio", "recoverable", "verified", "drilled")
    show(table(columns, [_row(one, at) for one in listing.backups]))
    if listing.archives:
        heads = ("log archive", "along", "from backup", "recoverable", "to position", ">behind", "verdict")
        show(table(heads, [row for one in listing.archives for row in _archive_rows(one, at)]))
    for bad in listing.unreadable:
        show(f"cannot be read: {bad.what}: {bad.problem}")


def _row(one: ListedBackup, at: datetime) -> tuple[object, ...]:
    return (
        one.id,
        one.target,
        figures.age(one.taken, at),
        one.kind + (" encrypted" if one.encrypted else ""),
        figures.size(one.bytes),
        figures.ratio(one.original_bytes, one.bytes),
        figures.window(one.recoverable_from, one.recoverable_to),
        coloured(one.verified) if one.verified else "never",
        coloured(one.drilled) if one.drilled else "never",
    )


def _archive_rows(one: ListedArchive, at: datetime) -> list[tuple[object, ...]]:
    if one.reach is None:
        return [(one.target, "", "", one.problem, "", "", coloured(Verdict.UNVERIFIED))]
    gaps = f"lacks {', '.join(one.reach.missing[:3])}{' …' if len(one.reach.missing) > 3 else ''}"
    rows: list[tuple[object, ...]] = [
        (
            one.target,
            window.line,
            window.backup,
            figures.window(window.from_time, window.to_time),
            window.to_position,
            figures.age(window.to_time, at),
            coloured(one.reach.verdict),
        )
        for window in one.reach.windows
    ]
    return [*rows, *([(one.target, "", "", gaps, "", "", coloured(Verdict.FAIL))] if one.reach.missing else [])]
