"""Leases: how a running attempt tells a sweep that its objects, which no manifest names yet, are not garbage.

A lease is a create-only object in the attempt's own folder.  It is removed when the attempt ends and runs out when the
attempt died; there is nothing to renew, so a hanging process cannot hold on to its objects for ever.  Who reads a backup takes
another lease before one runs out: an attempt at a backup is stopped when its time is over, a restore must not be.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta

from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.errors import Contended, MainstayError, NotFound
from include.engine.model import Target, decode, encode
from include.engine.store.bucket import Bucket

LEASE = "lease.json"
CLOCK_TOLERANCE = timedelta(minutes=15)  # between the clock that wrote a lease and the one that judges it

_SOONEST = 0.05  # seconds between two leases of one reader
_SWEEP_LASTS = timedelta(minutes=30)
_READER = "reading-"  # begins the folder of who reads a backup, beside those of who took it


class Lease(Struct, frozen=True, kw_only=True):
    """Who holds a folder, and until when."""

    version: int = 1
    folder: str
    host: str
    pid: int
    started: datetime
    expires_at: datetime

    def live(self, now: datetime) -> bool:
        """Say whether it still counts: not run out, with some tolerance for clocks that differ."""
        return now < self.expires_at + CLOCK_TOLERANCE

    def __str__(self) -> str:
        return f"{self.folder} (host {self.host}, pid {self.pid}, until {self.expires_at:%Y-%m-%d %H:%M:%SZ})"


@contextmanager
def hold(bucket: Bucket, folder: str, *, until: datetime, clock: Clock) -> Iterator[Lease]:
    """Hold *folder*, that of one attempt at one backup, while the context lasts.

    :param folder: ``<system>/<name>/backups/<id>/<attempt>``
    :param until: when the lease runs out should this process die; longer than the work can take
    :raises Contended: when somebody else holds the folder, or shared objects of this target are being swept
    """
    lease = _take(bucket, f"{folder}/{LEASE}", folder, until, clock)
    try:
        # Both sides write first and look afterwards, so at least one of a sweep and a backup sees the other.
        sweeper = _find(bucket, _sweep_key(_target_folder(folder)))
        if sweeper is not None and sweeper.live(clock()):
            raise Contended(
                f"shared objects are being swept: {sweeper}", hint="try again when the sweep is over, in some minutes"
            )
        yield lease
    finally:
        with suppress(MainstayError):  # one that stays behind runs out; it must not hide how the work ended
            bucket.delete([f"{folder}/{LEASE}"])


def live_leases(bucket: Bucket, target: Target, now: datetime) -> Mapping[str, Lease]:
    """Give the leases of *target* that count, by the folder that each holds."""
    keys = [found.key for found in bucket.list(f"{target}/backups") if found.key.endswith(f"/{LEASE}")]
    leases = (_find(bucket, key) for key in keys)
    return {lease.folder: lease for lease in leases if lease is not None and lease.live(now)}


class Leases:
    """Tells which backups are in use at a moment; the leases of a target are listed once, when it is first asked about."""

    def __init__(self, bucket: Bucket, now: datetime) -> None:
        self._bucket, self._now = bucket, now
        self._folders: dict[Target, Sequence[str]] = {}

    def held(self, backup: tuple[Target, str]) -> bool:
        """Whether a backup is being taken or read."""
        target, name = backup
        if target not in self._folders:
            self._folders[target] = tuple(live_leases(self._bucket, target, self._now))
        return any(folder.startswith(f"{target}/backups/{name}/") for folder in self._folders[target])


@contextmanager
def sweeping(bucket: Bucket, target: Target, *, clock: Clock) -> Iterator[tuple[Mapping[str, Lease], datetime]]:
    """Keep backups of *target* from beginning while its shared objects are swept.

    Gives the leases of those that run already, and until when the sweep may go on.

    A backup may find a shared object there and not upload it again, just before a sweep removes it; this closes that gap.

    :raises Contended: when another sweep runs
    """
    key = _sweep_key(str(target))
    old = _find(bucket, key)
    if old is not None and not old.live(clock()):
        _bury(bucket, key, old, f"{target}/sweep", clock)
    lease = _take(bucket, key, str(target), clock() + _SWEEP_LASTS, clock)
    try:
        yield live_leases(bucket, target, clock()), lease.expires_at
    finally:
        with suppress(MainstayError):
            if _find(bucket, key) == lease:  # else ours ran out, and it is another sweep's now
                bucket.delete([key])


@contextmanager
def turn(bucket: Bucket, folder: str, *, until: datetime, clock: Clock) -> Iterator[Lease]:
    """Let one at a time, of all that use this bucket, do what *folder* stands for.

    A lease that ran out is taken over, and so is one of this machine whose process is gone: it was killed.

    :param until: when the lease runs out should this process die where nobody sees it
    :raises Contended: when somebody else has the turn
    """
    key = f"{folder}/{LEASE}"
    old = _find(bucket, key)
    if old is not None and (not old.live(clock()) or _died(old)):
        _bury(bucket, key, old, folder, clock)
    lease = _take(bucket, key, folder, until, clock)
    try:
        yield lease
    finally:
        with suppress(MainstayError):
            if _find(bucket, key) == lease:  # else ours ran out, and it is somebody else's now
                bucket.delete([key])


def working_here(bucket: Bucket, target: Target, backup: str) -> Sequence[Lease]:
    """Give the leases of attempts at one backup whose processes are certainly at work: other ones, of this machine.

    Of another machine nobody can tell from here.
    """
    folder = f"{target}/backups/{backup}"
    keys = [found.key for found in bucket.list(folder) if found.key.endswith(f"/{LEASE}")]
    leases = [lease for lease in (_find(bucket, key) for key in keys) if lease is not None]
    ours = (socket.gethostname(), os.getpid())
    return [
        lease
        for lease in leases
        if lease.host == ours[0] and (lease.host, lease.pid) != ours and not _died(lease) and not _is_reader(lease)
    ]


@contextmanager
def reading(bucket: Bucket, target: Target, backup: str, *, until: datetime, clock: Clock) -> Iterator[Lease]:
    """Keep expiry and sweeps from the backups of *target* while one of them is restored, however long that takes.

    :param until: when the first lease runs out should this process die; those after it last as long
    :raises Contended: when its shared objects are being swept: of what a backup names none is removed
    """
    ended, lasts = threading.Event(), until - clock()
    with ExitStack() as held:

        def take() -> Lease:
            folder = f"{target}/backups/{backup}/{_READER}{uuid.uuid4().hex[:12]}"
            return held.enter_context(hold(bucket, folder, until=clock() + lasts, clock=clock))

        def go_on() -> None:
            wait = lasts / 2
            while not ended.wait(max(wait.total_seconds(), _SOONEST)):
                try:
                    take()
                    wait = lasts / 2
                except MainstayError:  # the store is away: the one before it counts for a while yet
                    wait = lasts / 16

        lease = take()
        beside = threading.Thread(target=go_on, name=f"reading {target} {backup}", daemon=True)
        beside.start()
        try:
            yield lease
        finally:
            ended.set()
            beside.join()


def _is_reader(lease: Lease) -> bool:
    return lease.folder.rpartition("/")[2].startswith(_READER)


def _bury(bucket: Bucket, key: str, dead: Lease, folder: str, clock: Clock) -> None:
    """Remove a dead lease.

    Only one of all who see it may: the others would remove that of whoever came after it.  One that dies over it is itself
    followed by another one.

    :raises Contended: when somebody else is at it
    """
    name = f"{folder}/ended-{dead.started:%Y%m%dT%H%M%S%f}-{dead.host}-{dead.pid}"
    for number in itertools.count():
        place = f"{name}-{number}.json" if number else f"{name}.json"
        if bucket.create(place, encode(_lease(folder, clock() + CLOCK_TOLERANCE, clock))):
            break
        heir = _find(bucket, place)
        if heir is None or (heir.live(clock()) and not _died(heir)):
            raise Contended(f"somebody else is taking over {folder}", hint="try again in a minute")
    bucket.delete([key])


def _died(lease: Lease) -> bool:
    if lease.host != socket.gethostname():
        return False
    try:
        os.kill(lease.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def attempt_of(key: str) -> str | None:
    """Give the folder of the attempt that an object belongs to, or nothing when it is not an attempt's."""
    parts = key.split("/")
    return "/".join(parts[:5]) if len(parts) > 5 and parts[2] == "backups" else None


def _take(bucket: Bucket, key: str, folder: str, until: datetime, clock: Clock) -> Lease:
    lease = _lease(folder, until, clock)
    if bucket.create(key, encode(lease)):
        return lease
    found = _find(bucket, key)
    if found != lease:  # else it is ours: only the answer to the first try was lost
        raise Contended(
            f"{folder} is held already" + (f": {found}" if found else ""), hint="wait until that run is over"
        )
    return lease


def _lease(folder: str, until: datetime, clock: Clock) -> Lease:
    return Lease(folder=folder, host=socket.gethostname(), pid=os.getpid(), started=clock(), expires_at=until)


def _find(bucket: Bucket, key: str) -> Lease | None:
    try:
        return decode(bucket.read(key), Lease, where=key)
    except NotFound:
        return None


def _target_folder(folder: str) -> str:
    return "/".join(folder.split("/")[:2])


def _sweep_key(target_folder: str) -> str:
    return f"{target_folder}/sweep.json"
