"""Moves received WAL from the spool into the bucket: stored, read back, and only then removed here.

Everything may be done twice: objects are create-only, and one that is there already must hold the same.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.errors import Corrupt, NotFound
from include.engine.model import Target, decode, encode
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.lsn import Segment, parse_history_name
from include.engine.systems.postgres.wal_objects import (
    WalIdentity,
    WalKind,
    WalObject,
    check_segment,
    list_wal,
    pack,
    partial_name,
    unpack,
    wal_folder,
    wal_key,
)

_STATE = "shipped.json"
_HEAD = 16  # bytes of a segment, its address among them, that are never all zeros


class ShippedState(Struct, frozen=True, kw_only=True):
    """What survives a restart of the archiver, beside the spool itself.

    :param kept: the newest whole segment: it is stored, and stays here because pg_receivewal goes on behind it
    """

    version: int = 1
    kept: str = ""
    last: str = ""
    last_lsn: int = 0
    at: datetime | None = None


class Shipper:
    """Ships one spool directory.

    :param received: where pg_receivewal writes
    :param recipients: age public keys; empty stores in the clear
    """

    def __init__(
        self,
        bucket: Bucket,
        target: Target,
        received: Path,
        *,
        identity: WalIdentity,
        recipients: Sequence[str],
        clock: Clock,
    ) -> None:
        self.bucket, self.target, self.received = bucket, target, received
        self.identity, self.recipients, self._clock = identity, tuple(recipients), clock
        self.shipped = 0
        self._state_path = received.parent / _STATE
        self.state = self._load()
        self._partials: dict[str, int] = {}
        self._histories: set[str] = set()
        self._lock = threading.RLock()  # the receiver's thread seeds, ours ships

    @property
    def spool_bytes(self) -> int:
        """Bytes that wait in the spool, as allocated."""
        total = 0
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):  # renamed by pg_receivewal meanwhile
                total += path.stat().st_blocks * 512
        return total

    def ship_closed(self, stopped: Callable[[], bool]) -> int:
        """Ship every whole segment and history file, oldest first; give how many.

        :raises Unreachable: when the store does not take it; nothing is removed
        :raises Corrupt: when the store has something else under the name
        """
        done = 0
        with self._lock:
            for path in self._files():
                if stopped():
                    break
                if parse_history_name(path.name) is not None:
                    self._ship_history(path)
                elif (segment := self._segment(path.name)) is not None and path.name != self.state.kept:
                    self._ship_whole(path, segment)
                    done += 1
            self._forget_left_timelines()
        return done

    def ship_partial(self) -> bool:
        """Ship the beginning of the segment that is being received, when it has grown; give whether it had.

        Not while a whole one before it waits: until that is stored, too, the archive would have a gap, and what is stated of how
        far it reaches would not be true.
        """
        grown = False
        with self._lock:
            for path in () if self._whole_waits() else self._files():
                segment = self._segment(path.stem) if path.suffix == ".partial" else None
                if segment is not None and self._ship_beginning(path, segment):
                    self._remember(segment.name, segment.start + self._partials[segment.name], kept=self.state.kept)
                    grown = True
        return grown

    def stored_to(self) -> tuple[int, int] | None:
        """Give the timeline and the position behind the last stored byte of what was received; None when there is none."""
        with self._lock:
            for path in reversed(self._files()):
                segment = self._segment(path.name.removesuffix(".partial"))
                if segment is None:
                    continue
                if not path.suffix:  # the newest whole one stays here; another one is not stored yet
                    return (segment.timeline, segment.end) if path.name == self.state.kept else None
                if known := self._known_partial(segment):
                    return segment.timeline, segment.start + known
        return None

    def seed(self, fork: Segment | None, *, anew: bool = False) -> None:
        """Make the directory such that pg_receivewal begins where the archive ends (see ``receiver.Seed``)."""
        if fork is not None:
            with self._lock:
                self._leave(fork)
        there = [path for path in self._files() if self._segment(path.name.removesuffix(".partial"))]
        if anew and all(map(self._is_stand_in, there)):
            for path in there:
                path.unlink()
        elif not there and (newest := self._newest_stored(fork)) is not None:
            self._keep_stand_in(newest)

    def _ship_whole(self, path: Path, segment: Segment) -> None:
        content = path.read_bytes()
        check_segment(path.name, content, segment, self.identity.system_identifier)
        self._store(segment.name, content)
        self.shipped += 1
        self._drop_partials(segment, below=segment.size + 1)
        # First the removal: what was kept may be a stand-in, which must never be taken for a segment to ship.
        if self.state.kept:
            (self.received / self.state.kept).unlink(missing_ok=True)
        self._remember(segment.name, segment.end, kept=segment.name)

    def _ship_beginning(self, path: Path, segment: Segment) -> bool:
        try:
            content = path.read_bytes().rstrip(b"\0")
        except FileNotFoundError:  # it was finished while we looked
            return False
        if len(content) <= self._known_partial(segment):
            return False
        check_segment(path.name, content, segment, self.identity.system_identifier, len(content))
        self._store(partial_name(segment.name, len(content)), content, part=True)
        self._partials = {segment.name: len(content)}
        self._drop_partials(segment, below=len(content))
        return True

    def _ship_history(self, path: Path) -> None:
        if path.name in self._histories:
            return
        # In the clear: it holds positions only, and the audit must be able to follow timelines without any key.
        self._store(path.name, path.read_bytes(), encrypt=False)
        self._histories.add(path.name)

    def _store(self, file: str, content: bytes, *, encrypt: bool = True, part: bool = False) -> None:
        recipients = self.recipients if encrypt else ()
        key = wal_key(self.target, file, encrypted=bool(recipients))
        packed = pack(content, recipients)
        if not self.bucket.create(key, packed):
            self._compare(key, content, packed)
        # What is on its way to be replaced is not worth its traffic: a part is judged by its length.
        elif self.bucket.size(key) != len(packed) if part else self.bucket.read(key) != packed:
            raise Corrupt(
                f"{key} is not what was sent: the store has damaged it",
                hint="remove the object and start the archiver again: what it holds is still in the spool; then check the store",
            )

    def _compare(self, key: str, content: bytes, packed: bytes) -> None:
        """Find that the object that is there already holds the same; we have no key to open an encrypted one with.

        Its length tells then: compression is deterministic, and so is the length of what age makes of it, behind its header.
        """
        stored = self.bucket.read(key)
        sealed = key.endswith(".age")
        same = _sealed_bytes(stored) == _sealed_bytes(packed) if sealed else unpack(key, [stored], ()) == content
        if not same:
            raise Corrupt(
                f"{key} is in the store already, with other content: two servers archive to one target",
                hint="stop this archiver; give each server that lives on a timeline of its own a target of its own",
            )

    def _drop_partials(self, segment: Segment, *, below: int) -> None:
        folder = f"{wal_folder(self.target)}/{segment.timeline:08X}"
        superseded = []
        for stored in self.bucket.list(folder, after=f"{folder}/{segment.name}"):
            found = WalObject.parse(stored)
            if found and found.kind is WalKind.PARTIAL and found.name == segment.name and found.valid < below:
                superseded.append(stored.key)
        self.bucket.delete(superseded)

    def _known_partial(self, segment: Segment) -> int:
        """How much of a segment's beginning is stored; the store is asked once per segment."""
        if segment.name not in self._partials:
            folder = f"{wal_folder(self.target)}/{segment.timeline:08X}"
            listed = self.bucket.list(folder, after=f"{folder}/{segment.name}")
            found = [wal for wal in map(WalObject.parse, listed) if wal and wal.name == segment.name]
            whole = any(wal.kind is WalKind.SEGMENT for wal in found)
            self._partials[segment.name] = segment.size if whole else max((wal.valid for wal in found), default=0)
        return self._partials[segment.name]

    def _newest_stored(self, fork: Segment | None) -> Segment | None:
        """The newest whole segment in the bucket, before *fork* when there is one: reception goes on behind it."""
        segments = []
        for wal in list_wal(self.bucket, self.target):
            segment = self._segment(wal.name) if wal.kind is WalKind.SEGMENT else None
            if segment is not None and (
                fork is None or (segment.timeline == fork.timeline and segment.number < fork.number)
            ):
                segments.append(segment)
        return max(segments, default=None, key=lambda segment: (segment.number, segment.timeline))

    def _keep_stand_in(self, segment: Segment) -> None:
        """Put an empty file of the right size in the place of a stored segment; it is never shipped, as it is ``kept``."""
        self._remember(self.state.last, self.state.last_lsn, kept=segment.name)
        with (self.received / segment.name).open("wb") as stream:
            stream.truncate(segment.size)
            os.fsync(stream.fileno())

    def _is_stand_in(self, path: Path) -> bool:
        with path.open("rb") as stream:
            return path.name == self.state.kept and not any(stream.read(_HEAD))

    def _leave(self, fork: Segment) -> None:
        """Ship what was received of a timeline behind the fork, and remove it: the server's history went another way."""
        self.ship_closed(lambda: False)
        self.ship_partial()
        for path in self._files():
            segment = self._segment(path.name.removesuffix(".partial"))
            if segment is not None and segment.timeline == fork.timeline and segment.number >= fork.number:
                path.unlink()

    def _whole_waits(self) -> bool:
        # Looked for twice: pg_receivewal renames a segment when it is whole, and who lists meanwhile may see neither name.
        names = {path.name for _ in range(2) for path in self._files()}
        return any(self._segment(name) is not None and name != self.state.kept for name in names)

    def _forget_left_timelines(self) -> None:
        """Remove the unfinished segment of a timeline that was left: it is stored, and will never be finished."""
        segments = {path: self._segment(path.name.removesuffix(".partial")) for path in self._files()}
        newest = max((segment.timeline for segment in segments.values() if segment), default=0)
        for path, segment in segments.items():
            if segment and path.suffix == ".partial" and segment.timeline < newest:
                self._ship_beginning(path, segment)
                path.unlink(missing_ok=True)

    def _segment(self, name: str) -> Segment | None:
        return Segment.parse(name, self.identity.wal_segment_size)

    def _files(self) -> list[Path]:
        """What was received, oldest first, in pg_receivewal's own order: position before timeline."""

        def order(path: Path) -> tuple[bool, str, str]:
            return (parse_history_name(path.name) is None, path.name[8:24], path.name[:8])

        return sorted((path for path in self.received.iterdir() if path.is_file()), key=order)

    def _remember(self, last: str, lsn: int, *, kept: str) -> None:
        self.state = ShippedState(kept=kept, last=last, last_lsn=lsn, at=self._clock())
        draft = self._state_path.with_suffix(".draft")
        with draft.open("wb") as stream:
            stream.write(encode(self.state))
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self._state_path)

    def _load(self) -> ShippedState:
        try:
            return decode(self._state_path.read_bytes(), ShippedState, where=str(self._state_path))
        except FileNotFoundError:
            return ShippedState()
        except (Corrupt, NotFound):
            return ShippedState()  # it only saves work: everything in the spool is shipped again and compared


def _sealed_bytes(age: bytes) -> int:
    """The length of an age file without its header, which ends with a line of ``---`` and holds paddings of any length."""
    mark = age.find(b"\n--- ")
    return len(age) - age.find(b"\n", mark + 1)
