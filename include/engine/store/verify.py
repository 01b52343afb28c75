"""Verify: read back what a backup stored and compare it with the manifest.  Needs no key: what is compared is what is stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta

from include.engine.contracts import Progress, Stop
from include.engine.errors import Corrupt, Interrupted, MainstayError, PermanentError
from include.engine.model import Check, Entry, Manifest, Part, ReadBack, SetManifest, Target, Verdict, Verification
from include.engine.store.bucket import StoredObject
from include.engine.store.catalog import Catalog
from include.engine.store.commits import Commits
from include.engine.store.rereading import Choice, Trust, choose, newest_readings
from include.engine.store.shared import shared_folder
from include.engine.store.vault import VaultReader

_OBJECTS_AT_ONCE = 3
_RANGES_AHEAD = 4  # per object: 3 * (4 + 1) * 4 MiB is about all the memory that verifying takes


def verify_backup(
    catalog: Catalog,
    reader: VaultReader,
    manifest: Manifest,
    *,
    progress: Progress,
    stop: Stop,
    now: datetime,
    trust: Trust | None = None,
    besides: Sequence[Check] = (),
) -> Verification:
    """Read the objects of *manifest* back, compare size and SHA-256, and record the result in the catalog.

    All problems are listed, each naming its object.  FAIL when something is not what was written or the manifest is not the
    committed one; UNVERIFIED when the store did not let us look at everything; PASS otherwise.  One object that cannot be
    read for want of an answer ends the reading: a dead store is not asked ten thousand times.

    :param now: the time that the result is recorded under
    :param trust: believe readings of shared objects by earlier verifications (see
        :mod:`~include.engine.store.rereading`); read everything when it is None
    :param besides: what else was looked at that the backup needs: a FAIL among it fails the backup
    :raises Interrupted: when *stop* came; nothing is recorded then
    """
    listed = _listed(catalog, manifest)
    readings = _readings(catalog, manifest.target, now - trust.limit) if trust and listed else {}
    chosen = choose(manifest.entries, listed, readings, trust or Trust(lasts=timedelta()), now=now)
    progress.stage(f"verify {manifest.target} {manifest.id}", sum(entry.bytes for entry in chosen.read))
    reading = _Reading(reader, progress, stop)
    reading.run(chosen.read)
    wrong = [*_wrong_manifest(catalog, manifest, reading.unread), *sorted(reading.wrong)]
    wrong += [check.detail for check in besides if check.verdict is Verdict.FAIL]
    verdict = Verdict.FAIL if wrong else Verdict.UNVERIFIED if reading.unread else Verdict.PASS
    problems = (*wrong, *reading.unread)
    verification = _recorded(manifest, chosen, reading, listed, now=now, verdict=verdict, problems=problems)
    if verdict is Verdict.UNVERIFIED:
        with suppress(MainstayError):  # the store that could not be read may not be writable either
            catalog.record_verification(verification)
    else:
        catalog.record_verification(verification)
    return verification


def verify_set(commits: Commits, manifest: SetManifest) -> tuple[Check, ...]:
    """Check that a set is whole: every part's manifest is there and is the one that the set was sealed with, parents too.

    Reads manifests only; their objects are :func:`verify_backup`'s.
    """
    if not manifest.parts:
        return (Check(name=f"set {manifest.id}", verdict=Verdict.FAIL, detail="the set has no part"),)
    return tuple(_check_part(commits, part) for part in manifest.parts)


def require_sealed(catalog: Catalog, manifests: Sequence[Manifest]) -> None:
    """Check that backups which are in a set are described by the very manifests that the set was sealed with.

    An older manifest put in the place of a newer one names objects that are all there and all right: nothing else finds it.

    :raises Corrupt: naming the first that was replaced
    """
    commits = Commits(catalog)
    for manifest in manifests:
        sealed = None
        with suppress(PermanentError):  # a set that cannot be read must not keep anybody from its parts
            sealed = catalog.find_set(manifest.id)  # backups are named after their set
        for part in sealed.parts if sealed else ():
            if (part.target, part.backup) != (manifest.target, manifest.id):
                continue
            check = _check_part(commits, part)
            if check.verdict is Verdict.FAIL:
                raise Corrupt(
                    f"{manifest.target} {manifest.id}: {check.detail}",
                    hint="somebody replaced it: put the object's older version back, or restore another backup",
                )


class _Reading:
    """Reads entries on several threads and gathers what is wrong with them."""

    def __init__(self, reader: VaultReader, progress: Progress, stop: Stop) -> None:
        self._reader = reader
        self._progress = progress
        self._stop = stop
        self._lock = threading.Lock()
        self.objects = 0
        self.bytes = 0
        self.good: list[Entry] = []
        self.bad: list[Entry] = []
        self.wrong: list[str] = []
        self.unread: list[str] = []

    def run(self, entries: Sequence[Entry]) -> None:
        with ThreadPoolExecutor(_OBJECTS_AT_ONCE, thread_name_prefix="verify") as pool:
            for _ in pool.map(self._read, entries):
                self._stop.check()
        left = len(entries) - self.objects - len(self.wrong) - len(self.unread)
        if left:
            self.unread.append(f"{left} more object(s) were not read")

    def _read(self, entry: Entry) -> None:
        if self.unread or self._stop.stopped:
            return
        try:
            self._drain(self._reader.stored(entry, ahead=_RANGES_AHEAD))
        except Corrupt as error:
            with self._lock:
                self.wrong.append(error.message)
                self.bad.append(entry)
        except Interrupted:
            return  # run() raises it
        except MainstayError as error:
            with self._lock:
                self.unread.append(f"{entry.key} could not be read: {error.message}")
        else:
            with self._lock:
                self.objects += 1
                self.good.append(entry)

    def _drain(self, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            self._stop.check()
            with self._lock:
                self.bytes += len(chunk)
                self._progress.advance(len(chunk))


def _listed(catalog: Catalog, manifest: Manifest) -> Mapping[str, StoredObject]:
    """What is there of the objects that backups of this target share, by key: one request for a thousand."""
    folder = f"{shared_folder(manifest.target)}/"
    if not any(entry.key.startswith(folder) for entry in manifest.entries):
        return {}
    try:
        return {found.key: found for found in catalog.bucket.list(folder)}
    except MainstayError:
        return {}  # nothing is believed then: reading says what the store answers


def _readings(catalog: Catalog, target: Target, since: datetime) -> Mapping[str, tuple[datetime, ReadBack]]:
    """When each shared object was last read and found right; nothing where one who may have found it wrong cannot be heard."""
    try:
        noted = catalog.read_back.noted_since(target, since)
        found = catalog.read_back.readable(noted)
    except MainstayError:
        return {}
    unheard = any(one.may_name_damage and one.key not in found for one in noted)
    return {} if unheard else newest_readings(found.values())


def _recorded(
    manifest: Manifest,
    chosen: Choice,
    reading: _Reading,
    listed: Mapping[str, StoredObject],
    *,
    now: datetime,
    verdict: Verdict,
    problems: tuple[str, ...],
) -> Verification:
    good = sorted((entry for entry in reading.good if entry.key in listed), key=lambda entry: entry.key)
    return Verification(
        target=manifest.target,
        backup=manifest.id,
        at=now,
        objects=reading.objects,
        bytes=reading.bytes,
        verdict=verdict,
        problems=problems,
        trusted_objects=len(chosen.trusted),
        trusted_bytes=sum(entry.bytes for entry in chosen.trusted),
        trusted_since=chosen.oldest,
        # As it was listed before it was read: an object that was replaced meanwhile has another time, and is read again.
        read={entry.key: ReadBack(sha256=entry.sha256, modified=listed[entry.key].modified) for entry in good},
        wrong={entry.key: entry.sha256 for entry in sorted(reading.bad, key=lambda entry: entry.key)},
    )


def _wrong_manifest(catalog: Catalog, manifest: Manifest, unread: list[str]) -> Iterator[str]:
    if not manifest.entries:
        yield f"{manifest.target} {manifest.id} names no object: it holds nothing"
    try:
        committed = catalog.find(manifest.target, manifest.id)
    except Corrupt as error:
        yield error.message
    except MainstayError as error:
        unread.append(f"the manifest could not be read: {error.message}")
    else:
        key = catalog.manifest_key(manifest.target, manifest.id)
        if committed is None:
            yield f"{key} is missing from the store"
        elif committed != manifest:
            yield f"{key} is not the manifest that was verified: somebody replaced it"


def _check_part(commits: Commits, part: Part) -> Check:
    verdict, detail = Verdict.PASS, f"{part.backup} is the backup that the set was sealed with"
    try:
        found = commits.at(part.manifest_key)
        if found is None:
            verdict, detail = Verdict.FAIL, f"{part.manifest_key} is missing from the store"
        elif found.sha256 != part.manifest_sha256:
            verdict, detail = Verdict.FAIL, f"{part.manifest_key} is not what was sealed: its SHA-256 differs"
        elif lost := _lost_parent(commits, part.target, part.backup):
            verdict, detail = Verdict.FAIL, lost
    except Corrupt as error:
        verdict, detail = Verdict.FAIL, error.message
    except MainstayError as error:
        verdict, detail = Verdict.UNVERIFIED, error.message
    return Check(name=str(part.target), verdict=verdict, detail=detail)


def _lost_parent(commits: Commits, target: Target, backup: str) -> str | None:
    """Say which backup is missing that *backup* needs; nothing when all are there, itself among them."""
    child, seen = backup, {backup}
    found = commits.find(target, backup)
    while found is not None:
        if found.parent is None:
            return None
        parent = commits.find(target, found.parent)
        if parent is None or found.parent in seen:
            return f"{child} needs {found.parent}, which is missing"
        seen.add(found.parent)
        child, found = found.parent, parent
    return f"{target} has no backup {backup}"
