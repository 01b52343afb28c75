"""Which backups and sets are known to be good: the last word about each, of those who have read it back or restored it.

UNVERIFIED is no word: a store that was away for a minute takes no proof back, and gives none.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from include.engine.model import DrillReport, SetManifest, Target, Verdict
from include.engine.store.catalog import Catalog

_OBJECTIVES = ("rto", "rpo")  # a restore that took too long says nothing against the backup
_Word = tuple[datetime, Verdict]


class Proven:
    """What the catalog's drills and verifications say together, as they are when this is made."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._drills = catalog.drills()
        self._last_keys = catalog.last_verification_keys()

    def is_set(self, found: SetManifest) -> bool:
        """Whether every part is good, and no drill of the whole has found afterwards that they do not come back together.

        A drill of one part proves that part.
        """
        targets = {part.target for part in found.parts}
        whole = [
            one for one in self._drills if one.set_id == found.id and (one.target is None or {one.target} == targets)
        ]
        if _last((one.finished, said) for one in whole if (said := _said(one)) is not None) is Verdict.FAIL:
            return False
        return bool(found.parts) and all(self.is_backup(part.target, part.backup) for part in found.parts)

    def is_backup(self, target: Target, backup: str) -> bool:
        """Whether the last word about a backup is that it is good, and about nothing that it builds on that it is not."""
        if self._word(target, backup) is not Verdict.PASS:
            return False
        seen = {backup}
        manifest = self._catalog.find(target, backup)
        while manifest is not None and manifest.parent is not None and manifest.parent not in seen:
            seen.add(manifest.parent)
            if self._word(target, manifest.parent) is Verdict.FAIL:
                return False
            manifest = self._catalog.find(target, manifest.parent)
        return manifest is not None

    def _word(self, target: Target, backup: str) -> Verdict | None:
        return _last([*self._drilled(target, backup), *self._read_back(target, backup)])

    def _drilled(self, target: Target, backup: str) -> Iterable[_Word]:
        for one in self._drills:
            if (one.target, one.backup) == (target, backup):
                said = _said(one)
            elif one.target is None and one.set_id == backup:  # backups are named after their set
                said = _said(one, f"{target}: ")
            else:
                continue
            if said is not None:
                yield one.finished, said

    def _read_back(self, target: Target, backup: str) -> Iterable[_Word]:
        if (str(target), backup) not in self._last_keys:
            return
        last = self._catalog.last_verification(target, backup)
        if last is None or last.verdict is Verdict.UNVERIFIED:  # rare: then the ones before it are read too
            found = self._catalog.verifications(target, backup)
            yield from ((one.at, one.verdict) for one in found if one.verdict is not Verdict.UNVERIFIED)
        else:
            yield last.at, last.verdict


def _said(report: DrillReport, about: str = "") -> Verdict | None:
    """Give what a drill says of what it restored; None when it says nothing.

    :param about: the beginning of the names of the checks that can fail it
    """
    if report.verdict is Verdict.PASS:
        return Verdict.PASS
    failed = [one.name for one in report.checks if one.verdict is Verdict.FAIL and one.name not in _OBJECTIVES]
    return Verdict.FAIL if any(name.startswith(about) for name in failed) else None


def _last(words: Iterable[_Word]) -> Verdict | None:
    """Give the newest word; of two at the same time the worse one."""
    return max(words, key=lambda word: (word[0], word[1] is Verdict.FAIL), default=(None, None))[1]
