"""``./mainstay wal-archive``: the process beside a PostgreSQL server that brings its log to the bucket, second by second.

::

    archiver = WalArchiver(target, bucket, connection, spool=path, slot="mainstay_wal", binaries=find)
    run(archiver, stop)                               # until the stop; raises what a person must act on

Two halves share a spool directory and nothing else: ``pg_receivewal`` writes what the server has, the shipper moves it into
the bucket.  Each survives the other: with the store away the spool grows, with the server away the spool drains.  Killed at
any moment, both go on where they were, because a file leaves the spool only when it is stored, and the slot moves on only when
a file is flushed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from include.engine.contracts import Clock, Connection, Progress, Stop
from include.engine.errors import Contended, Interrupted, MainstayError, NotFound, TransientError
from include.engine.model import Target, decode, encode
from include.engine.sandbox.process import exclusive
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.lsn import Segment, format_lsn
from include.engine.systems.postgres.reached import ServerEnd, Witness, received_end
from include.engine.systems.postgres.receiver import APPLICATION, Attempts, Receiver
from include.engine.systems.postgres.shipper import Shipper
from include.engine.systems.postgres.spool_disk import writing
from include.engine.systems.postgres.wal_objects import WalIdentity, claim

STATUS_FILE = "status.json"
_LOOK = 0.5  # seconds between two looks at the spool
_SAY_AGAIN = 60.0  # seconds before the same trouble is told again
_LAST_CHANCE = 10.0  # seconds that a stop gives to what is being shipped


class ArchiverStatus(Struct, frozen=True, kw_only=True):
    """How an archiver is, for ``./mainstay status`` and the sweep.  Older than a minute, it says nothing."""

    version: int = 1
    target: Target
    pid: int
    at: datetime
    streaming: bool
    last_shipped: str = ""
    last_shipped_lsn: str = ""
    last_shipped_at: datetime | None = None
    segments_shipped: int = 0
    spool_bytes: int = 0
    spool_limit: int = 0
    errors: tuple[str, ...] = ()


class WalArchiver:
    """Archives the log of one server.

    :param spool: directory of this archiver alone, on a disk with room for the log of a long night without a store
    :param slot: physical replication slot; made when it is not there
    :param binaries: gives PostgreSQL's programs for a major version
    :param recipients: age public keys; empty stores in the clear
    :param partial_seconds: how often the segment that is being written is shipped, when it grew: the RPO of an idle server
    :param reached_seconds: how often it states in the bucket that the archive has everything, which is news while nothing happens
    :param spool_limit: bytes in the spool beyond which it warns
    """

    def __init__(
        self,
        target: Target,
        bucket: Bucket,
        connection: Connection,
        *,
        spool: Path,
        slot: str,
        binaries: Callable[[int], PostgresBinaries],
        clock: Clock,
        progress: Progress,
        recipients: Sequence[str] = (),
        partial_seconds: float = 5.0,
        reached_seconds: float = 30.0,
        spool_limit: int = 4 << 30,
    ) -> None:
        self.target, self.bucket = target, bucket
        self.spool, self.recipients = spool, tuple(recipients)
        self.partial_seconds, self.spool_limit = partial_seconds, spool_limit
        self._clock, self._progress = clock, progress
        self._received = spool / "received"
        self._received.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._shipper: Shipper | None = None
        self._trouble: MainstayError | None = None
        self._told: dict[str, float] = {}
        self._connection, self._slot, self._reached_seconds = connection, slot, reached_seconds
        self._witness: Witness | None = None
        self._receiver = Receiver(
            connection,
            slot,
            self._received,
            binaries=binaries,
            seed=self._seed,
        )

    def status(self, *, errors: Sequence[str] = ()) -> ArchiverStatus:
        """Say how it is now."""
        shipper = self._shipper
        state = shipper.state if shipper else None
        return ArchiverStatus(
            target=self.target,
            pid=os.getpid(),
            at=self._clock(),
            streaming=self._receiver.streaming,
            last_shipped=state.last if state else "",
            last_shipped_lsn=format_lsn(state.last_lsn) if state and state.last_lsn else "",
            last_shipped_at=state.at if state else None,
            segments_shipped=shipper.shipped if shipper else 0,
            spool_bytes=shipper.spool_bytes if shipper else 0,
            spool_limit=self.spool_limit,
            errors=tuple(errors),
        )

    def archive(self, stop: Stop) -> None:
        """Archive until *stop*.

        :raises Contended: when another archiver works on the spool
        :raises Refused: when the archive in the bucket is another cluster's
        :raises Corrupt: when the bucket has something else under a segment's name
        """
        busy = Contended(
            f"another archiver works in {self.spool}", hint="one per target is enough; stop the other one first"
        )
        with exclusive(self.spool / "lock", busy=busy):
            identity = self._identity(stop)
            if identity is None:
                return
            shipper = Shipper(
                self.bucket,
                self.target,
                self._received,
                identity=identity,
                recipients=self.recipients,
                clock=self._clock,
            )
            self._shipper = shipper
            self._witness = self._new_witness(Attempts(stop))
            receiving = threading.Thread(target=self._receiver.run, args=(stop,), name="receiver", daemon=True)
            receiving.start()
            try:
                self._ship_until(stop, shipper)
            finally:
                if not stop.stopped:
                    stop.stop("the archiver failed")
                receiving.join()
                self._write(self.status(errors=self._errors()))

    def _seed(self, fork: Segment | None, *, anew: bool) -> None:
        if self._shipper is not None:
            self._shipper.seed(fork, anew=anew)

    def _identity(self, stop: Stop) -> WalIdentity | None:
        """Wait for the server and the store to say who they are; nothing when the stop came first."""
        pause, attempts = 0.2, Attempts(stop)
        while not stop.stopped:
            try:
                identity = self._receiver.identify(attempts.next())
                claim(self.bucket, self.target, identity)
                return identity
            except Interrupted:
                break
            except TransientError as error:
                self._tell(error)
                self._write(self.status(errors=[str(error)]))
            _pause(stop, pause)
            pause = min(2 * pause, 10.0)
        return None

    def _ship_until(self, stop: Stop, shipper: Shipper) -> None:
        """Ship until the stop, and once more after it; a store that hangs does not hold up the end."""
        fatal: list[Exception] = []
        worker = threading.Thread(target=self._work, args=(stop, shipper, fatal), name="shipper", daemon=True)
        worker.start()
        while worker.is_alive() and not stop.stopped:
            worker.join(_LOOK)
            self._write(self.status(errors=self._errors()))
        worker.join(_LAST_CHANCE)
        if fatal:
            raise fatal[0]

    def _work(self, stop: Stop, shipper: Shipper, fatal: list[Exception]) -> None:
        partial_due = 0.0
        try:
            while not stop.stopped:
                try:
                    with writing(self.spool):
                        shipper.ship_closed(lambda: stop.stopped)
                        if time.monotonic() >= partial_due:
                            shipper.ship_partial()
                            partial_due = time.monotonic() + self.partial_seconds
                        if self._receiver.streaming and self._witness is not None:
                            self._witness.look(lambda: _shipped(shipper))
                    self._trouble = None
                except TransientError as error:
                    self._trouble = error
                for trouble in self._troubles():
                    self._tell(trouble)
                self._warn_of_size(shipper)
                _pause(stop, _LOOK)
            with writing(self.spool):
                _shipped(shipper)
        except TransientError as error:
            self._trouble = error  # the spool keeps it for the next start
        except Exception as error:  # noqa: BLE001 - whatever ends this thread is raised by the other one
            fatal.append(error)

    def _new_witness(self, attempts: Attempts) -> Witness:
        def ask() -> ServerEnd | None:
            stop = attempts.next()
            return received_end(self._connection, self._slot, application=APPLICATION, clock=self._clock, stop=stop)

        return Witness(self.bucket, self.target, ask, seconds=self._reached_seconds)

    def _troubles(self) -> list[MainstayError]:
        asked = self._witness.error if self._witness else None
        return [error for error in (self._trouble, self._receiver.error, asked) if error is not None]

    def _errors(self) -> list[str]:
        return [str(error) for error in self._troubles()]

    def _warn_of_size(self, shipper: Shipper) -> None:
        if (size := shipper.spool_bytes) > self.spool_limit:
            self._tell(
                Contended(
                    f"{size >> 20} MiB of WAL wait in {self.spool}, more than {self.spool_limit >> 20} MiB",
                    hint="the store is away or slower than the server writes; the disk fills up next, then the server's",
                )
            )

    def _tell(self, error: MainstayError) -> None:
        """Say an error once a minute, however often it happens."""
        kind = f"{type(error).__name__}: {error.message.split(':', 1)[0]}"
        now = time.monotonic()
        if now - self._told.get(kind, float("-inf")) >= _SAY_AGAIN:
            self._told[kind] = now
            self._progress.say(f"{self.target}: {error}")

    def _write(self, status: ArchiverStatus) -> None:
        draft = self.spool / f"{STATUS_FILE}.draft"
        with contextlib.suppress(OSError):  # on a full disk it is not told, and an old one says nothing
            draft.write_bytes(encode(status))
            draft.replace(self.spool / STATUS_FILE)


def run(archiver: WalArchiver, stop: Stop) -> None:
    """Archive until *stop*, for the command line: what is raised must be seen to by a person, the rest is waited out."""
    archiver.archive(stop)


def read_status(spool: Path) -> ArchiverStatus:
    """Read how the archiver of *spool* was a moment ago.

    :raises NotFound: when none has ever run there
    """
    path = spool / STATUS_FILE
    try:
        return decode(path.read_bytes(), ArchiverStatus, where=str(path))
    except FileNotFoundError as error:
        raise NotFound(f"no archiver has run in {spool}", hint="start it: ./mainstay wal-archive <target>") from error


def _shipped(shipper: Shipper) -> tuple[int, int] | None:
    shipper.ship_closed(lambda: False)
    shipper.ship_partial()
    return shipper.stored_to()


def _pause(stop: Stop, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not stop.stopped and time.monotonic() < deadline:
        time.sleep(min(0.05, seconds))
