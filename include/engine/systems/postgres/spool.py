"""Feeds recovery with the log from the bucket, with bounded disk and no Python on the server's side.

PostgreSQL runs a ten-line shell script for each file that it wants.  The two sides talk through a directory:

- the script creates ``want/<file>`` and waits;
- we put the file into ``done/`` (complete, then renamed there), or create ``absent/<file>``;
- one that was there already, fetched ahead, the script takes at once, and moves its wish to ``took/<file>``: what is in ``want/``
  is always waited for, and all that recovery had asked for before has come;
- ``failed`` means that the archive has the file and it cannot be had: the script exits with 200, and PostgreSQL, which takes
  a code above 125 for a broken archive and not for its end, stops instead of opening with half of the data.

The segments after the one that was asked for are fetched meanwhile, a few at a time.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from include.engine.errors import Corrupt, Incomplete, MainstayError, NotFound
from include.engine.model import Target
from include.engine.sandbox.accounts import Account, own
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.fetch_script import PAUSE, fetch_script
from include.engine.systems.postgres.frozen_log import FrozenLog
from include.engine.systems.postgres.lsn import SEGMENT_BYTES, Segment, parse_history_name
from include.engine.systems.postgres.wal_audit import Archive
from include.engine.systems.postgres.wal_objects import WalKind, WalObject, check_segment, fetch, list_wal

AHEAD = 8  # segments in the spool at most: 128 MiB at PostgreSQL's own size
_AT_ONCE = 3
_POLL = 0.01  # seconds between two looks at ``want/``
_FAILING = "failing"  # made while there is room: on a full disk a file can be renamed, and may not be made
_RELIST = 1.0  # seconds that an answer of the store about what it has is believed


class WalSpool:
    """Serves ``restore_command`` of one recovering server while the context is open.

    :param directory: created anew, on the file system of the data directory, so that handing over is a rename
    :param account: who runs the server
    :param system_identifier: the cluster that every segment must come from
    :param timeout: seconds that the server waits for one file before recovery gives up
    :param frozen: the archive of a moment (see ``frozen_log``); what was archived later is not served
    :param inside: the last segment that the backup holds itself: from there on the log was seen to be whole, so one that is
        missing before its end ends the recovery; without, PostgreSQL takes it for the end
    """

    def __init__(
        self,
        bucket: Bucket,
        target: Target,
        directory: Path,
        *,
        account: Account,
        identities: Sequence[str] = (),
        segment_size: int = SEGMENT_BYTES,
        system_identifier: str | None = None,
        ahead: int = AHEAD,
        timeout: float = 900.0,
        frozen: FrozenLog | None = None,
        inside: Segment | None = None,
    ) -> None:
        self.bucket, self.target, self.directory = bucket, target, directory
        self.account, self.identities = account, tuple(identities)
        self.segment_size, self.system_identifier, self.ahead = segment_size, system_identifier, ahead
        self.timeout, self.frozen, self.inside = timeout, frozen, inside
        self.served_bytes = 0
        self._failure: MainstayError | None = None
        self._archive = Archive((), segment_size)
        self._listed = float("-inf")
        self._coming: dict[str, Future[None]] = {}
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="wal")
        self._thread = threading.Thread(target=self._serve, name="wal-spool", daemon=True)

    @property
    def restore_command(self) -> str:
        """The value of PostgreSQL's setting."""
        return f"{shlex.quote(str(self.directory / 'fetch')).replace('%', '%%')} %f %p"

    @property
    def failure(self) -> MainstayError | None:
        """Why recovery was stopped, when it was us who stopped it."""
        return self._failure

    def __enter__(self) -> Self:
        self._prepare()
        self._refresh()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        clear(self.directory)

    def _prepare(self) -> None:
        clear(self.directory)
        for path in (self.directory, *(self.directory / name for name in ("want", "took", "done", "absent", "coming"))):
            path.mkdir(mode=0o700)
            own(path, self.account)
        script = self.directory / "fetch"
        polls = int(self.timeout / PAUSE)
        script.write_text(fetch_script(self.directory, polls=polls))
        own(script, self.account, mode=0o500)
        (self.directory / _FAILING).touch()
        self._beat()

    def _serve(self) -> None:
        try:
            self._answer_all()
        except MainstayError as error:
            self._failure = error
        except OSError as error:
            self._failure = _disk(error, self.directory)
        finally:
            # Whatever ended this thread, recovery must not take silence for the end of the log.
            if not self._closing.is_set():
                (self.directory / _FAILING).rename(self.directory / "failed")

    def _answer_all(self) -> None:
        beaten = time.monotonic()
        while not self._closing.wait(_POLL):
            for name in sorted(os.listdir(self.directory / "took")):  # noqa: PTH208 - 100 times a second
                (self.directory / "took" / name).unlink()
                self._go_on(Segment.parse(name, self.segment_size))
            for name in os.listdir(self.directory / "want"):  # noqa: PTH208
                self._answer(name)
            if time.monotonic() - beaten > 10:
                self._beat()
                beaten = time.monotonic()

    def _beat(self) -> None:
        (self.directory / "alive").touch()

    def _answer(self, name: str) -> None:
        segment = Segment.parse(name, self.segment_size)
        ready = (self.directory / "done" / name).exists()
        try:
            (self.directory / "want" / name).unlink()
        except FileNotFoundError:
            return  # it has just been taken from what was fetched ahead
        if ready:  # and is being taken now
            self._go_on(segment)
            return
        while (found := self._at_hand(name, segment)) is not None:
            waited_for = self._order(found, segment)
            if segment is not None:
                self._forget_but(segment)
                self._order_ahead(segment)
            try:
                waited_for.result()
            except Corrupt:
                if self.frozen or found.kind is not WalKind.PARTIAL or self.bucket.exists(found.key):
                    raise
                self._coming.pop(found.key, None)
                self._refresh()  # listed and gone: a longer part, or the whole segment, has taken its place
                continue
            self._served(found)
            return
        self._place(self.directory / "absent" / name, b"")

    def _at_hand(self, name: str, segment: Segment | None) -> WalObject | None:
        """Find a file.  What is missing, or there in part, is the end of the log; nothing else may look like that to PostgreSQL.

        :raises NotFound: when the log goes on behind it
        """
        found = self._find(name, segment)
        if segment is None or not self._gap(segment, found):
            return found
        self._refresh()  # a segment that became whole while the archive was listed looks like one
        found = self._find(name, segment)
        if self._gap(segment, found):
            raise NotFound(
                f"the WAL archive has lost the segment {name} since the restore began: it has later ones",
                hint="plan the restore again, to learn what can still be reached; find out who deletes there: retention does not "
                "while a restore is under way, unless it takes longer than the target's `timeout` or may not write to the bucket",
            )
        return found

    def _gap(self, segment: Segment, found: WalObject | None) -> bool:
        if self.inside is None or segment.number <= self.inside.number:
            return False
        whole = found is not None and found.kind is WalKind.SEGMENT
        return not whole and (self._archive.newest_number(segment.timeline) or 0) > segment.number

    def _go_on(self, segment: Segment | None) -> None:
        """Count a segment that was there when it was asked for, and fetch further ahead.

        Nothing is removed: something may have been asked for since, and lie there until the script sees it.
        """
        found = self._archive.find(segment) if segment is not None else None
        if segment is not None and found is not None:
            self._served(found)
            self._order_ahead(segment)

    def _served(self, found: WalObject) -> None:
        self._coming.pop(found.key, None)
        self.served_bytes += found.bytes

    def _following(self, segment: Segment) -> list[Segment]:
        wanted = [segment.next]
        for _ in range(self.ahead - 2):
            wanted.append(wanted[-1].next)
        return wanted

    def _forget_but(self, segment: Segment) -> None:
        """Remove what nobody will fetch, as recovery waits for *segment* now: it may have jumped to another timeline."""
        keep = {segment.name, *(one.name for one in self._following(segment))}
        for waiting in (self.directory / "done").iterdir():
            if waiting.name not in keep:
                waiting.unlink(missing_ok=True)

    def _order_ahead(self, segment: Segment) -> None:
        for one in self._following(segment):
            ahead = self._archive.whole.get(one.timeline, {}).get(one.number)
            if ahead is None:
                return
            if ahead.key not in self._coming:  # what has come and is not there was taken just now
                self._order(ahead, one)

    def _order(self, wal: WalObject, segment: Segment | None) -> Future[None]:
        ready = self.directory / "done" / wal.name
        coming = self._coming.get(wal.key)
        if coming is not None and (not coming.done() or coming.exception() is not None or ready.exists()):
            return coming
        self._coming[wal.key] = coming = self._pool.submit(self._fetch, wal, segment)
        return coming

    def _fetch(self, wal: WalObject, segment: Segment | None) -> None:
        held = self.frozen.held.get(wal.key) if self.frozen else None
        content = fetch(self.bucket, wal, self.identities) if held is None else held
        if segment is not None:
            valid = wal.valid if wal.kind is WalKind.PARTIAL else 0
            check_segment(wal.key, content, segment, self.system_identifier, valid)
            content = content.ljust(self.segment_size, b"\0")
        self._place(self.directory / "done" / wal.name, content)

    def _place(self, path: Path, content: bytes) -> None:
        """Make a file appear as a whole, and the server's own."""
        draft = self.directory / "coming" / path.name
        with draft.open("wb") as stream:
            stream.write(content)
        own(draft, self.account, mode=0o600)
        draft.replace(path)

    def _find(self, name: str, segment: Segment | None) -> WalObject | None:
        """What the archive has for a file name; the store is asked again before it is called absent."""
        for attempt in ("known", "asked"):
            if attempt == "asked" and time.monotonic() - self._listed < _RELIST:
                break
            if attempt == "asked":
                self._refresh()
            if segment is not None:
                found = self._archive.find(segment)
                if found is not None and (found.kind is WalKind.SEGMENT or attempt == "asked"):
                    return found
            else:
                history = self._archive.histories.get(parse_history_name(name) or 0)
                if history is not None:
                    return history
        return self._archive.find(segment) if segment is not None else None

    def _refresh(self) -> None:
        self._archive = (
            self.frozen.archive if self.frozen else Archive(list_wal(self.bucket, self.target), self.segment_size)
        )
        self._listed = time.monotonic()


def clear(directory: Path) -> None:
    """Remove a spool, whatever is left of it."""
    for parent, folders, files in os.walk(directory, topdown=False):
        for name in files:
            Path(parent, name).unlink(missing_ok=True)
        for name in folders:
            Path(parent, name).rmdir()
    if directory.exists():
        directory.rmdir()


def _disk(error: OSError, directory: Path) -> MainstayError:
    return Incomplete(
        f"the WAL spool {directory} cannot be written: {error.strerror or error}",
        hint=f"recovery needs {AHEAD} segments of free space beside the data; free some and run the restore again",
    )
