"""What a new backup may build on: what is there, what of it is sound, and whether it still is when the backup begins to count."""

from __future__ import annotations

from collections.abc import Sequence

from include.engine.contracts import Progress
from include.engine.errors import Contended, PermanentError
from include.engine.model import Manifest, Target, Verdict
from include.engine.store.proven import LastWords
from include.engine.verbs.pipeline import Pipeline

_NEWEST = 8  # backups of which one can be read, and is of a cut before this one


def known(pipeline: Pipeline, target: Target, progress: Progress) -> list[Manifest]:
    """Give the newest backups of *target* and all that the newest builds on, oldest first: no backup asks for more.

    A manifest that cannot be read is no reason to go without a backup.
    """
    found = pipeline.catalog.survey(target, newest=_NEWEST)
    for name, error in found.unreadable.items():
        _tell(progress, target, name, error)
    known = {manifest.id: manifest for manifest in found.manifests}
    parent, walked = found.manifests[-1].parent if found.manifests else None, set[str]()
    while parent is not None and parent not in walked and parent not in found.unreadable:
        walked.add(parent)
        if parent not in known:
            try:
                manifest = pipeline.catalog.find(target, parent)
            except PermanentError as error:
                _tell(progress, target, parent, error)
                break
            if manifest is None:
                break
            known[parent] = manifest
        parent = known[parent].parent
    return [known[name] for name in sorted(known)]


def _tell(progress: Progress, target: Target, backup: str, error: PermanentError) -> None:
    progress.say(f"{target}: nothing builds on {backup}, whose manifest cannot be read: {error.message}")


def doubted(pipeline: Pipeline, history: Sequence[Manifest]) -> frozenset[str]:
    """Name those of the newest backup, and of what it builds on, that were found damaged when they were read back."""
    words, by_id = LastWords(pipeline.catalog), {manifest.id: manifest for manifest in history}
    seen: set[str] = set()
    bad: set[str] = set()
    one = history[-1] if history else None
    while one is not None and one.id not in seen:
        seen.add(one.id)
        try:
            last = words.of(one.target, one.id)
        except PermanentError:
            bad.add(one.id)  # whoever cannot be vouched for is no parent
        else:
            bad |= {one.id} if last is not None and last.verdict is Verdict.FAIL else set()
        one = by_id.get(one.parent or "")
    return frozenset(bad)


def require(pipeline: Pipeline, manifest: Manifest) -> None:
    """Check that all that a backup builds on is still there, just before it begins to count.

    :raises Contended: naming what was removed meanwhile
    """
    parent = manifest.parent
    while parent is not None:
        found = pipeline.catalog.find(manifest.target, parent)
        if found is None:
            raise Contended(
                f"{parent}, which the backup {manifest.id} of {manifest.target} builds on, was removed while it was taken",
                hint="run it again: it builds on what is there now",
            )
        parent = found.parent
