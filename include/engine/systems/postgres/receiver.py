"""Runs ``pg_receivewal``: keeps it running, restarts it where it was, and sees to it that nothing is left out.

Where it begins is decided by the newest file in its directory, and without one by its slot.  So the slot is made with its
log reserved before the first byte is asked for, and an empty directory is given the newest segment that the bucket has.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from psycopg.conninfo import make_conninfo

from include.engine.children import kept_in_memory
from include.engine.contracts import Connection, Stop
from include.engine.errors import Incomplete, Interrupted, MainstayError, Misconfigured, Unreachable
from include.engine.full_disks import says_full
from include.engine.sandbox import procfs
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.client import conninfo, diagnosed
from include.engine.systems.postgres.lsn import Segment, parse_lsn, valid_segment_size
from include.engine.systems.postgres.replication import ReplicationSession
from include.engine.systems.postgres.spool_disk import unwritable, writing
from include.engine.systems.postgres.wal_objects import WalIdentity

APPLICATION = "mainstay wal-archive"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds before pg_receivewal is started again
_GRACE = 10.0  # seconds it has for ending in good order
_UNITS = {"B": 0, "kB": 10, "MB": 20, "GB": 30}
_REMOVED = re.compile(r"requested WAL segment (\S+) has already been removed")
_FORKED = re.compile(r"forked from timeline (\d+) at ([0-9A-F]+/[0-9A-F]+)")


class Seed(Protocol):
    """Makes the directory such that reception begins where the archive ends."""

    def __call__(self, fork: Segment | None, *, anew: bool) -> None:
        """Do so.

        :param fork: the segment in which the server's history left the timeline that was being received
        :param anew: begin where the slot does, if nothing is there that was received
        """


class Attempts:
    """Gives each attempt of a process that runs for months a stop of its own: an ended one is forgotten."""

    def __init__(self, stop: Stop) -> None:
        self._outer = stop
        self._current = Stop()
        stop.on_stop(lambda: self._current.stop(stop.reason))

    def next(self) -> Stop:
        """Give the stop of the next attempt; it comes when the outer one does."""
        self._current = Stop()
        if self._outer.stopped:
            self._current.stop(self._outer.reason)
        return self._current


class Receiver:
    """``pg_receivewal`` for one slot, into one directory.

    :param directory: of its own; nobody else writes there
    :param binaries: gives the programs for a major version
    :param seed: called before each start
    """

    def __init__(
        self,
        connection: Connection,
        slot: str,
        directory: Path,
        *,
        binaries: Callable[[int], PostgresBinaries],
        seed: Seed,
    ) -> None:
        self.connection, self.slot, self.directory = connection, slot, directory
        self._binaries, self._seed = binaries, seed
        self._major = 0
        self._fork: Segment | None = None
        self._slot_is_new = self._anew = False
        self._segment_size = 0
        self.error: MainstayError | None = None
        self.streaming = False

    def identify(self, stop: Stop) -> WalIdentity:
        """Ask the server who it is, and make the slot when it is not there, with all log reserved from now on.

        :raises Unreachable: when it does not answer
        """
        with ReplicationSession(self.connection, application=APPLICATION, stop=stop) as session:
            self._major = session.server_version // 10000
            found = session.identify()
            size = _bytes(session.show("wal_segment_size"))
            kind, position, *_ = session.command(f'READ_REPLICATION_SLOT "{self.slot}"')[0]
            if kind and kind != "physical":
                raise Misconfigured(
                    f"the slot {self.slot} is a {kind} one", hint="give the WAL archive a slot of its own"
                )
            # Made without a reservation: the server keeps nothing for it yet, so it may as well be made anew.  And whoever asks for
            # what was removed may have said first that it is there: then a new slot stands where nothing can begin.
            useless = not position or self._anew
            if kind and useless:
                session.command(f'DROP_REPLICATION_SLOT "{self.slot}"')
            if not kind or useless:
                session.command(f'CREATE_REPLICATION_SLOT "{self.slot}" PHYSICAL (RESERVE_WAL)')
                self._slot_is_new = True
        self._segment_size = size
        return WalIdentity(system_identifier=found.system_identifier, wal_segment_size=size)

    def run(self, stop: Stop) -> None:
        """Receive until *stop*; every end of the program or the server is waited out.

        What is wrong meanwhile is in :attr:`error`.
        """
        pause = _FIRST_PAUSE
        halted = threading.Event()
        stop.on_stop(halted.set)
        attempts = Attempts(stop)
        while not stop.stopped:
            try:
                with writing(self.directory):
                    self._once(attempts.next())
                pause = _FIRST_PAUSE
            except Interrupted:
                break
            except MainstayError as error:
                self.error = error
            except Exception as error:  # noqa: BLE001 - nobody else would see that this thread has ended
                self.error = Unreachable(f"the log cannot be received: {error!r}", hint="it is tried again; report it")
            self.streaming = False
            halted.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(self, stop: Stop) -> None:
        self.identify(stop)
        self._kill_orphans()
        self._discard_torn()
        self._seed(self._fork, anew=self._anew)
        self._fork = None
        # Everybody on the machine can read a command line, and a file that has a name stays when we are killed.
        with kept_in_memory(self._passwords()) as passfile:
            child = self._started(passfile)
        stop.on_stop(lambda: threading.Thread(target=end, args=(child,), name="end pg_receivewal", daemon=True).start())
        said = self._listen(child)
        if not stop.stopped:
            raise self._diagnosed("\n".join(said))

    def _started(self, passfile: int) -> subprocess.Popen[str]:
        binaries = self._binaries(self._major)
        command = [
            str(binaries.tool("pg_receivewal")),
            *("--directory", str(self.directory), "--slot", self.slot, "--synchronous", "--no-loop", "--no-password"),
            *("--status-interval", "5", "--verbose", "--dbname", self._conninfo(f"/dev/fd/{passfile}")),
        ]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.directory), "LC_ALL": "C"}
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=environment | binaries.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            umask=0o077,
            pass_fds=(passfile,),
        )

    def _listen(self, child: subprocess.Popen[str]) -> list[str]:
        """Follow what it says until it has ended; give the last lines."""
        said: list[str] = []
        assert child.stderr is not None
        try:
            for line in child.stderr:
                said = [*said[-20:], line.strip()]
                if "starting log streaming" in line:
                    self.streaming, self.error = True, None
        finally:
            child.stderr.close()
            try:
                child.wait(_GRACE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        return said

    def _diagnosed(self, said: str) -> MainstayError:
        removed = _REMOVED.search(said)
        # Who drops the slot and empties the spool has seen the gap: the log goes on behind it.
        self._anew = removed is not None and self._slot_is_new
        if removed:
            return Incomplete(
                f"the server has removed the WAL segment {removed[1]} before it was archived",
                hint=f"the archive has a gap from there on: drop the slot {self.slot} and empty the spool, so that archiving "
                "begins anew, and then take a full backup; raise max_slot_wal_keep_size",
            )
        forked = _FORKED.search(said)
        if self.streaming and not forked:
            self._slot_is_new = False  # something was received
        if forked:
            self._fork = Segment.at(parse_lsn(forked[2]), int(forked[1]), self._segment_size)
            return Unreachable(
                f"the server's history left timeline {forked[1]} at {forked[2]}, before what was received of it",
                hint="a standby that was behind was promoted: archiving goes on along its timeline",
            )
        if full := next((line for line in said.splitlines() if says_full(line)), ""):
            return unwritable(self.directory, full)
        errors = [line for line in said.splitlines() if "error:" in line or "ERROR:" in line or "FATAL:" in line]
        return diagnosed(self.connection, "; ".join(errors) or said or "pg_receivewal ended")

    def _conninfo(self, passfile: str) -> str:
        open_text = conninfo(self.connection, database=None, application=APPLICATION)
        parameters = {
            key: str(value) for key, value in _parsed(open_text).items() if key not in ("password", "options")
        }
        return make_conninfo("", **{**parameters, "dbname": "replication", "passfile": passfile})

    def _passwords(self) -> str:
        escaped = self.connection.password.replace("\\", "\\\\").replace(":", "\\:")
        return f"*:*:*:*:{escaped}\n"

    def _kill_orphans(self) -> None:
        """End what an archiver that was killed has left: it would hold the slot."""
        for pid in procfs.pids():
            program = procfs.executable(pid) or ""
            if program.endswith("/pg_receivewal") and procfs.directory(pid) == str(self.directory.resolve()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _discard_torn(self) -> None:
        # Killed while it filled a new file with zeros: it refuses such a file for ever.  The server sends it again.
        for partial in self.directory.glob("*.partial"):
            if partial.stat().st_size not in (0, self._segment_size):
                partial.unlink()


def end(child: subprocess.Popen[str], *, grace: float = _GRACE) -> None:
    """Interrupt *child* until it has ended, and kill it when it has not after *grace* seconds.

    Once is not enough.  Whoever is started in the background of a shell, or by nohup, has its children born deaf to SIGINT:
    what comes before the program has set up its own handler is lost, and it would receive for ever.
    """
    deadline = time.monotonic() + grace
    while child.poll() is None:
        if time.monotonic() >= deadline:
            child.kill()
            return
        child.send_signal(signal.SIGINT)
        time.sleep(0.1)


def _parsed(text: str) -> dict[str, object]:
    from psycopg.conninfo import conninfo_to_dict

    return dict(conninfo_to_dict(text))


def _bytes(setting: str) -> int:
    match = re.fullmatch(r"(\d+)\s*(B|kB|MB|GB)", setting)
    size = int(match[1]) << _UNITS[match[2]] if match else 0
    if not valid_segment_size(size):
        raise Misconfigured(f"wal_segment_size is {setting!r}, which nobody knows", hint="report it with the version")
    return size
