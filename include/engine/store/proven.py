"""Which backups and sets are known to be good: the last word about each, of those who have read it back or restored it.

UNVERIFIED is no word: a store that was away for a minute takes no proof back, and gives none.  An object that backups share and
that the verification of one of them has found damaged is as damaged in the others, whatever was said of them before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from include.engine.errors import Corrupt, Unsupported
from include.engine.model import DrillReport, SetManifest, Target, Verdict, Verification
from include.engine.store.catalog import Catalog
from include.engine.store.damage import Damage
from include.engine.store.verifications import Noted, last_that_says, last_word

_OBJECTIVES = ("rto", "rpo")  # a restore that took too long says nothing against the backup
_Word = tuple[datetime, Verdict]


class LastWords:
    """What was found when backups were read back the last time, and what was found out about their objects since.

    The verifications of a target are listed once, when it is first asked about.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._damage: dict[Target, Damage] = {}
        self._opening = threading.Lock()  # pages ask for many backups at once

    def of(self, target: Target, backup: str) -> Verification | None:
        """Give the last verification of a backup that says something; nothing when it was never read back.

        A FAIL stays one until a later verification passes: one that could not look takes nothing back.  Of objects that were read
        before somebody may have found them wrong, whose word cannot be read, nobody knows: that is UNVERIFIED.

        :raises Corrupt: when what is recorded cannot be read
        """
        last = last_word(self.noted(target, backup), self._catalog.read_back.read)
        damage = self.damage(target)
        if last is None or last.verdict is Verdict.FAIL or not damage.suspected:
            return last
        try:
            manifest = self._catalog.find(target, backup)
        except (Corrupt, Unsupported):
            return last  # that is told of the backup itself
        found = damage.of(manifest) if manifest is not None else {}
        problems = tuple(
            f"{key} is damaged, as the verification of {by.backup} has found at {by.at.isoformat(timespec='seconds')}"
            for key, by in sorted(found.items())
        )
        if problems:
            return msgspec.structs.replace(last, verdict=Verdict.FAIL, problems=problems)
        unheard = damage.unheard(manifest, _read_at(last)) if manifest is not None else ()
        if last.verdict is not Verdict.PASS or not unheard:
            return last
        doubts = tuple(
            f"{key} cannot be read, and may have found what this backup shares damaged: `./mainstay verify {target}@{backup}` reads"
            " all of it again"
            for key in unheard
        )
        return msgspec.structs.replace(last, verdict=Verdict.UNVERIFIED, problems=doubts)

    def noted(self, target: Target, backup: str) -> Sequence[Noted]:
        """Give the names of a backup's verifications, oldest first."""
        return self.damage(target).by_backup.get(backup, ())

    def damage(self, target: Target) -> Damage:
        """Give what is known of the objects that the backups of *target* share."""
        with self._opening:
            if target not in self._damage:
                self._damage[target] = Damage(self._catalog.read_back, target)
            return self._damage[target]


class Proven:
    """What the catalog's drills and verifications say together, as they are when they are first asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._drills = catalog.drills()
        self._words = LastWords(catalog)

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
        damage = self._words.damage(target)
        if manifest is None or (damage.suspected and damage.unheard(manifest, self._proved_at(target, backup))):
            return False
        while manifest is not None and not (damage.suspected and damage.of(manifest)):
            if manifest.parent is None or manifest.parent in seen:
                return True
            seen.add(manifest.parent)
            if self._word(target, manifest.parent) is Verdict.FAIL:
                return False
            manifest = self._catalog.find(target, manifest.parent)
        return False

    def _word(self, target: Target, backup: str) -> Verdict | None:
        return _last([*self._drilled(target, backup), *self._read_back(target, backup)])

    def _proved_at(self, target: Target, backup: str) -> datetime:
        """Since when it is known of every object of a backup, which was found good, that it is right."""
        last = last_that_says(self._words.noted(target, backup), self._catalog.read_back.read)
        read = [_read_at(last)] if last is not None and last.verdict is Verdict.PASS else []
        return max([*read, *(at for at, said in self._drilled(target, backup) if said is Verdict.PASS)])

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
        last = last_that_says(self._words.noted(target, backup), self._catalog.read_back.read)
        return [] if last is None else [(last.at, last.verdict)]


def _read_at(verification: Verification) -> datetime:
    """When the first of the objects was read that a verification stands on."""
    return min(verification.at, verification.trusted_since or verification.at)


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
