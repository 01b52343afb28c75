"""What the verbs ask of a system, and what everybody asks of the world.

A verb knows these Protocols and nothing else; a system's folder implements them; ``wiring`` puts the two together.
Each Protocol has one suite in ``tests/contracts/`` that every implementation passes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol, runtime_checkable

from msgspec import Struct

from include.engine.archiving import Archive
from include.engine.errors import Interrupted
from include.engine.model import Check, Cut, Entry, Manifest, Moved, Position, Restored, RestorePlan, Target
from include.engine.sharing import SharedObjects

Clock = Callable[[], datetime]  # aware, UTC


class Connection(Struct, frozen=True, kw_only=True):
    """Where a server is and how to log in.  Its ``repr`` hides the password."""

    host: str = ""
    port: int | None = None
    login: str = ""
    password: str = ""
    schema: str = ""
    extra: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Connection({self.login}@{self.host}:{self.port}/{self.schema})"


class Connections(Protocol):
    """Finds a connection by the name that the inventory gives.  Hooks read Airflow's, the shell reads the environment."""

    def get(self, name: str) -> Connection:
        """Give the connection *name*.

        :raises Misconfigured: when there is none; the hint says how to define it
        """
        ...


class Progress(Protocol):
    """Tells a person how far the work is.  Cheap to call, from any thread: implementations thin it out, and guard, themselves."""

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        """Begin a stage; *total_bytes* when it is known, which gives a time left."""
        ...

    def advance(self, bytes_: int) -> None:
        """Count *bytes_* more as done in this stage."""
        ...

    def say(self, text: str) -> None:
        """Tell one event, in one line."""
        ...


class Stop:
    """A wish to stop, carried to the work by an operator's ``on_kill``, a signal, or a deadline.

    Work calls :meth:`check` between two pieces, and registers with :meth:`on_stop` what unblocks it in the middle of one
    (close a socket, cancel a query).
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.RLock()  # a signal handler may interrupt the very thread that holds it
        self.reason = ""

    def stop(self, reason: str) -> None:
        """Ask the work to stop; safe to call twice and from a signal handler's thread."""
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call *callback* when the stop comes; at once if it has come already."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    @property
    def stopped(self) -> bool:
        """Whether the wish was expressed."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise :class:`Interrupted` when the work should stop."""
        if self._event.is_set():
            raise Interrupted(
                f"stopped: {self.reason}", hint="nothing was committed; run it again and it starts over or resumes"
            )


class Writer(Protocol):
    """Stores the objects of one attempt at one backup: compressed bytes in, hashed (and encrypted) objects out."""

    def write(
        self,
        name: str,
        chunks: Iterable[bytes],
        *,
        original_bytes: Callable[[], int] | None = None,
        expected_bytes: int | None = None,
    ) -> Entry:
        """Store *chunks* as one object under this attempt and give its entry.

        The object's key is unique to the attempt, so two attempts never touch each other's bytes.
        *original_bytes* is called after the last chunk, for the size before compression; *expected_bytes*, a size that the
        object will hardly exceed, lets the store choose parts that are large enough.

        :raises Unreachable: when the store fails after its own retries
        """
        ...

    def share(self, name: str, data: bytes, *, original_bytes: int | None = None, again: bool = False) -> Entry:
        """Store *data*, small enough to be held, as an object that later backups may name too, and give its entry.

        The key carries the digest of what is stored: equal objects are stored once, different ones never meet, and an
        attempt that is repeated finds its own.  The entry's name is *name*.  What no manifest names is swept.
        *again* stores it over one of the same key, which may have rotted: it becomes what its name says.

        :raises Unreachable: when the store fails after its own retries
        """
        ...


class Reader(Protocol):
    """Reads back what a backup stored, believing nothing."""

    def read(self, entry: Entry) -> Iterator[bytes]:
        """Give the object's bytes, decrypted; at the end they were compared with the entry.

        A consumer must not trust what it got before the iterator is exhausted.

        :raises Corrupt: naming the object, when it is missing, of another size or of another digest
        :raises Unauthorized: when no key at hand opens it; the hint names the key id
        """
        ...


class CopyJob(Struct, frozen=True, kw_only=True):
    """All that a system needs to take one backup."""

    id: str
    target: Target
    cut: Cut
    writer: Writer
    reader: Reader
    shared: SharedObjects
    history: Sequence[Manifest]  # committed backups of the target, oldest first
    doubted: frozenset[str] = (
        frozenset()
    )  # ids: of the newest and what it builds on, those that were found damaged since
    progress: Progress
    stop: Stop
    clock: Clock
    full: bool = False  # asked for by a person: do not take an incremental


@runtime_checkable
class BackupSource(Protocol):
    """A live target, seen by the backup verb.  In ``systems/<system>/backup.py``."""

    target: Target

    def freeze(self, backup: str, clock: Clock) -> Cut:
        """Fix the cut, in seconds.  What is left on the server is named after *backup*, so calling again is harmless."""
        ...

    def copy(self, job: CopyJob) -> Manifest:
        """Move the bytes and describe them.  The manifest is not committed yet: the verb does that.

        :raises Incomplete: when a node or partition is missing or nothing at all was found
        :raises Interrupted: when ``job.stop`` came
        """
        ...

    def release(self, backup: str) -> None:
        """Remove from the server what :meth:`freeze` and :meth:`copy` left there.  Called whatever happened, also twice."""
        ...

    def inventory_gaps(self) -> Sequence[str]:
        """Name what is on the live system and is neither covered by a backup of this target nor left out on purpose."""
        ...


class RestoreJob(Struct, frozen=True, kw_only=True):
    """All that a system needs to restore a plan."""

    plan: RestorePlan
    chain: Sequence[Manifest]  # as in the plan: full first
    reader: Reader
    progress: Progress
    stop: Stop
    clock: Clock
    positions: Sequence[Position] = ()  # asked of a log: ``Restored.moved`` says where these are in the restored one
    moved: Sequence[Moved] = ()  # told to what reads a log: where its positions are now.  Empty when the log stayed
    checks: bool = True  # look at all that came back; without it, only at what no restore goes without


class PlanRequest(Struct, frozen=True, kw_only=True):
    """What a person wants restored, before anybody looked whether it can be."""

    manifests: Sequence[Manifest]  # all committed backups of the target, oldest first
    backup: str | None  # None: the newest that can reach the point
    destination_kind: str
    path: str
    server: str
    point: str
    confirm: str  # the name that a person typed to allow overwriting
    only: Sequence[str] = ()  # the parts to restore (topics, keyspaces, tables); empty for all
    rename: Mapping[str, str] = {}  # part to the name that it gets
    append: bool = False  # add to parts that hold something already, instead of refusing them
    access: bool | None = None  # put back who may do what; None: only where the restore makes the server
    rehearsal: bool = False  # into a sandbox that goes again: what stands in one that stays is nobody's concern
    clock: Clock | None = None  # tells an attempt of today from an old one; None: whatever was begun counts as old


@runtime_checkable
class RestoreEngine(Protocol):
    """Restores one target from the bucket alone.  In ``systems/<system>/restore.py``; needs no live source."""

    target: Target

    def plan(self, request: PlanRequest) -> RestorePlan:
        """Decide what a restore would do.  Reads the bucket and the destination, changes nothing.

        :raises NotFound: when no backup reaches the point; the hint gives the recoverable window
        :raises Refused: when the destination is the source, is running, or is not empty and its name was not typed
        """
        ...

    def restore(self, job: RestoreJob) -> Restored:
        """Do what the plan says, and read back that it was done.  Leaves the destination serving when the plan says so."""
        ...

    def rehearse(self, job: RestoreJob) -> AbstractContextManager[Rehearsal]:
        """Restore into a sandbox and check it: the system's part of a drill.  The sandbox lives until the context ends."""
        ...

    def by_hand(self, manifest: Manifest) -> str:
        """Say in Markdown how to restore *manifest* with stock tools only."""
        ...


@runtime_checkable
class LooksOnRequest(Protocol):
    """A restore engine that looks at all that came back only when it is asked to (``RestoreJob.checks``)."""

    unlooked: str  # what nobody has looked at otherwise, in a sentence


class Rehearsal(Struct, frozen=True, kw_only=True):
    """A restored system that was checked and is still up."""

    restored: Restored
    checks: Sequence[Check]
    newest_record: datetime | None  # the newest heartbeat or record that came back
    newest_at_source: datetime | None  # the moment up to which records could have come back, when it is known exactly
    connection: Connection | None = None  # to the restored system, for what reads it or writes to it; never recorded


class Lookup(Protocol):
    """Gives each target's implementations; built by ``wiring`` from the inventory, or from the bucket alone."""

    def source(self, target: Target) -> BackupSource:
        """Give the live target."""
        ...

    def engine(self, target: Target) -> RestoreEngine:
        """Give what restores the target."""
        ...

    def archive(self, target: Target) -> Archive | None:
        """Give the target's log archive, or nothing when its system has none."""
        ...
