"""Expiry: from the catalog and a policy to what is deleted, and why the rest is not.

One policy is applied twice: over the sets, and over the backups of each target.  A backup goes when no set that stays
refers to it *and* its target's own history does not want it, so a target that recent sets left out keeps its last backups.
Objects that backups share (content-addressed ones, Kafka segments) are never deleted here: ``sweep`` does that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from include.engine.model import Manifest, SetManifest, Target
from include.engine.store import documents
from include.engine.store.catalog import Catalog
from include.engine.store.lease import Leases, live_leases
from include.engine.store.proven import Proven
from include.engine.store.retention import Candidate, Policy, reasons

UNSEALED_AGE = timedelta(hours=48)  # a younger backup in no set may belong to one that is not sealed yet

_IN_USE = "in use: a part of it is taken or restored"
_HOLDS = ("locked until", _IN_USE)  # how a reason begins that is none of the policy's
LockedUntil = Callable[[str], datetime | None]  # by key
Reasons = dict[str, tuple[str, ...]]
_Sealed = Mapping[tuple[Target, str], Sequence[str]]  # the kept sets that a backup is part of; none for parts of others


class Doomed(Struct, frozen=True, kw_only=True):
    """A backup that no longer has to be kept."""

    target: Target
    backup: str
    parent: str | None
    objects: int  # in its own folder
    bytes: int


class ExpiryPlan(Struct, frozen=True, kw_only=True):
    """What expiry would do.  Mappings by target have ``str(target)`` as their key."""

    now: datetime
    policy: Policy
    sets: Reasons  # kept sets, and why
    delete_sets: tuple[str, ...]
    backups: dict[str, Reasons]  # kept backups of each target, and why
    delete: tuple[Doomed, ...]  # in this order: increments before what they are based on
    cannot: tuple[str, ...]  # what would go, and what holds it
    kept: dict[str, tuple[Manifest, ...]]  # oldest first; by it a system expires what goes with its backups, as WAL

    @property
    def bytes(self) -> int:
        """Bytes that would be freed."""
        return sum(doomed.bytes for doomed in self.delete)


class Expired(Struct, frozen=True, kw_only=True):
    """What expiry did."""

    sets: tuple[str, ...]
    backups: tuple[Doomed, ...]
    refused: tuple[str, ...]  # keys that the store would not delete
    spared: tuple[str, ...]  # planned, but wanted again, or in use, by the time of the deed

    @property
    def bytes(self) -> int:
        """Bytes that were freed, those that the store refused to free among them."""
        return sum(doomed.bytes for doomed in self.backups)


def plan_expiry(
    catalog: Catalog, policy: Policy, now: datetime, *, locked_until: LockedUntil | None = None
) -> ExpiryPlan:
    """Decide what to expire.  Reads the whole catalog, changes nothing.

    :param locked_until: asks the store for the lock on an object; it is asked for the manifests that would go
    :raises Corrupt: when a manifest cannot be read: it might need what would be deleted, so nothing is decided
    :raises Unsupported: when a newer Mainstay wrote one, likewise
    """
    decide = _Decide(catalog, policy, now, locked_until or _never_locked)
    all_sets = catalog.sets()
    sets = decide.sets(all_sets)
    sealed: dict[tuple[Target, str], list[str]] = defaultdict(list)
    for found in all_sets:
        for part in found.parts:
            sealed[part.target, part.backup] += [found.id] if found.id in sets else []
    backups: dict[str, Reasons] = {}
    kept: dict[str, tuple[Manifest, ...]] = {}
    delete: list[Doomed] = []
    cannot: list[str] = []
    for target in catalog.targets():
        manifests = catalog.backups(target)
        wanted = decide.backups(manifests, sealed)
        going = [manifest for manifest in manifests if manifest.id not in wanted]
        running = live_leases(catalog.bucket, target, now) if going else {}  # as they are after the manifests were read
        if running:  # it may build on what would go, or restore it
            why = "nothing is deleted while a backup is taken or restored"
            cannot += [f"{target}: {why}: {lease}" for lease in running.values()]
            wanted |= {manifest.id: ("a backup of the target is taken or restored",) for manifest in going}
            going = []
        backups[str(target)] = wanted
        kept[str(target)] = tuple(manifest for manifest in manifests if manifest.id in wanted)
        delete += [_doomed(manifest, kept[str(target)]) for manifest in reversed(going)]
    return ExpiryPlan(
        now=now,
        policy=policy,
        sets=sets,
        delete_sets=tuple(found.id for found in all_sets if found.id not in sets),
        backups=backups,
        delete=tuple(delete),
        cannot=(
            *cannot,
            *_only_held("set", sets),
            *(x for t, found in backups.items() for x in _only_held(t, found)),
        ),
        kept=kept,
    )


def kept_sets(
    catalog: Catalog,
    policy: Policy,
    now: datetime,
    found: Sequence[SetManifest],
    *,
    locked_until: LockedUntil | None = None,
) -> Reasons:
    """Give the kept ones of all sets, and why, as :func:`plan_expiry` decides it.

    What stays of the backups decides nothing about sets, so no manifest of theirs is read but those that prove the newest set.

    :param found: all sets of the catalog, oldest first
    """
    return _Decide(catalog, policy, now, locked_until or _never_locked).sets(found)


def apply(catalog: Catalog, plan: ExpiryPlan) -> Expired:
    """Delete what *plan*, made just now, says, but what somebody has pinned meanwhile, takes or restores.

    Manifests go before their objects, sets before their parts and increments before what they are based on, so that a crash leaves
    garbage, never something that lies.  What the store refuses to delete (a lock) is told, with all that it needs left alone.
    """
    deeds = _Deeds(catalog, plan)
    deeds.delete_sets(plan.delete_sets)
    deeds.delete_backups(plan.delete)
    spared = {(one.target, one.backup) for one in plan.delete} & deeds.busy.union(*deeds.wanted.values())
    return Expired(
        sets=tuple(deeds.sets),
        backups=tuple(deeds.backups),
        refused=tuple(deeds.refused),
        spared=(
            *(f"set {set_id}" for set_id in plan.delete_sets if set_id in deeds.wanted),
            *(f"{target} {backup}" for target, backup in sorted(spared)),
        ),
    )


class _Decide:
    """Applies one policy to sets and to backups, with what the catalog and the store know of them."""

    def __init__(self, catalog: Catalog, policy: Policy, now: datetime, locked_until: LockedUntil) -> None:
        self._catalog = catalog
        self._policy = policy
        self._now = now
        self._locked_until = locked_until
        self._proven = Proven(catalog)

    def sets(self, found: Sequence[SetManifest]) -> Reasons:
        keeps = documents.each(found, lambda one: self._catalog.kept(one.id))
        verified = next((one.id for one in reversed(found) if self._proven.is_set(one)), None)
        candidates = [
            Candidate(
                id=one.id,
                at=one.frozen,
                finished=one.finished,
                verified=one.id == verified,  # only the newest one counts, so we look no further
                kept_by=f"{keep.by}: {keep.reason}" if keep else None,
            )
            for one, keep in zip(found, keeps, strict=True)
        ]
        wanted = self._reasons(candidates, lambda set_id: f"sets/{set_id}/manifest.json")
        # Its parts would stay, and what they need of the set (the log's positions) would be gone when their turn comes.
        leases = Leases(self._catalog.bucket, self._now)
        in_use = [one.id for one in found if one.id not in wanted and any(map(leases.held, _parts(one)))]
        return wanted | dict.fromkeys(in_use, (_IN_USE,))

    def backups(self, found: Sequence[Manifest], sealed: _Sealed) -> Reasons:
        if not found:
            return {}
        verified = next((m.id for m in reversed(found) if self._proven.is_backup(m.target, m.id)), None)
        candidates = [
            Candidate(
                id=manifest.id,
                at=manifest.cut.at,
                finished=manifest.finished,
                verified=manifest.id == verified,
                kept_by=self._kept_by(manifest, sealed),
                needs=(manifest.parent,) if manifest.parent else (),
            )
            for manifest in found
        ]
        return self._reasons(candidates, lambda backup: self._catalog.manifest_key(found[0].target, backup))

    def _kept_by(self, manifest: Manifest, sealed: _Sealed) -> str | None:
        sets = sealed.get((manifest.target, manifest.id))
        if sets:
            return ", ".join(f"set {set_id}" for set_id in sets)
        if sets is None and manifest.finished > self._now - UNSEALED_AGE:
            return "a set that may not be sealed yet"
        return None

    def _reasons(self, candidates: Sequence[Candidate], key: Callable[[str], str]) -> Reasons:
        wanted = reasons(candidates, self._policy, self._now)
        going = [candidate.id for candidate in candidates if candidate.id not in wanted]
        locks = dict(zip(going, documents.each(going, lambda id_: self._locked_until(key(id_))), strict=True))
        if not any(locks.values()):
            return wanted
        # A lock only ever adds to what is kept, so nothing is left that was not asked for.
        locked = [msgspec.structs.replace(one, locked_until=locks.get(one.id)) for one in candidates]
        return reasons(locked, self._policy, self._now)


class _Deeds:
    """Deletes, and holds back whatever something that could not be deleted needs."""

    def __init__(self, catalog: Catalog, plan: ExpiryPlan) -> None:
        self._catalog = catalog
        self._now = plan.now
        self._named = {target: _keys(manifests) for target, manifests in plan.kept.items()}
        self._needed: set[tuple[Target, str]] = set()
        self.sets: list[str] = []
        self.wanted: dict[str, set[tuple[Target, str]]] = {}  # the parts of sets that are wanted again
        self.busy: set[tuple[Target, str]] = set()  # of targets of which a backup is taken or restored
        self.backups: list[Doomed] = []
        self.refused: list[str] = []

    def delete_sets(self, ids: Iterable[str]) -> None:
        # Once more: to decide takes minutes where there is much, and people pin and restore meanwhile.
        leases = Leases(self._catalog.bucket, self._now)
        for set_id in ids:
            found = self._catalog.find_set(set_id)
            if found is None:
                continue  # another expiry has just removed it
            parts = _parts(found)
            if self._catalog.kept(set_id) is not None or any(map(leases.held, parts)):
                self.wanted[set_id] = parts
            else:
                refused = self._catalog.delete_set(set_id)
                self.refused += refused
                if f"sets/{set_id}/manifest.json" not in refused:
                    self.sets.append(set_id)
                    continue
            self._needed |= parts

    def delete_backups(self, doomed: Sequence[Doomed]) -> None:
        busy = [t for t in {one.target for one in doomed} if live_leases(self._catalog.bucket, t, self._now)]
        self.busy = {(one.target, one.backup) for one in doomed if one.target in busy}
        self._needed |= self.busy
        for one in doomed:
            stays = (one.target, one.backup) in self._needed
            if not stays:
                refused = self._catalog.delete(one.target, one.backup, spare=self._named[str(one.target)])
                self.refused += refused
                stays = self._catalog.manifest_key(one.target, one.backup) in refused
            if not stays:
                self.backups.append(one)
            elif one.parent is not None:
                self._needed.add((one.target, one.parent))


def _doomed(manifest: Manifest, kept: Sequence[Manifest]) -> Doomed:
    own = Catalog.own_keys(manifest) - _keys(kept)
    sizes = {entry.key: entry.bytes for entry in manifest.entries if entry.key in own}
    return Doomed(
        target=manifest.target,
        backup=manifest.id,
        parent=manifest.parent,
        objects=len(sizes),
        bytes=sum(sizes.values()),
    )


def _parts(found: SetManifest) -> set[tuple[Target, str]]:
    return {(part.target, part.backup) for part in found.parts}


def _keys(manifests: Iterable[Manifest]) -> frozenset[str]:
    return frozenset(entry.key for manifest in manifests for entry in manifest.entries)


def _only_held(what: str, found: Reasons) -> list[str]:
    return [f"{what} {id_} is {why[0]}" for id_, why in found.items() if all(one.startswith(_HOLDS) for one in why)]


def _never_locked(_key: str) -> datetime | None:
    return None
