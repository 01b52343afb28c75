"""From a chain of backups to one data directory that PostgreSQL can recover: unpack, combine, verify, relocate."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from include.engine.contracts import Progress, Reader, Stop
from include.engine.errors import Corrupt, PermanentError
from include.engine.model import Check, Manifest, Stage, Verdict
from include.engine.sandbox.accounts import Account, own
from include.engine.sandbox.process import run_tool
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.guards import MARKER, empty
from include.engine.systems.postgres.unpack import Unpacking, unpack
from include.engine.systems.postgres.untar import full_or_broken

TABLESPACES = "tablespaces"  # below the data directory: one place to give, one to remove
PARTS = ".mainstay-parts"
_HOURS = 24 * 3600.0  # a tool that runs longer than this is stuck
_OURS = (MARKER, PARTS, TABLESPACES, "lost+found")


class Assembly:
    """Builds the data directory *data* from *chain*, full backup first.

    :param binaries: of the backup's major version
    """

    def __init__(
        self,
        chain: Sequence[Manifest],
        data: Path,
        *,
        binaries: PostgresBinaries,
        account: Account,
        progress: Progress,
        stop: Stop,
    ) -> None:
        self.chain, self.data = tuple(chain), data
        self.binaries, self.account = binaries, account
        self.progress, self.stop = progress, stop
        self.detail = PostgresDetail.of(self.chain[-1])
        self.stages: list[Stage] = []
        self.checks: list[Check] = []

    def build(self, reader: Reader) -> None:
        """Fill the directory.  It is ready for recovery when this returns, and flushed to the disk.

        :raises Corrupt: naming the object, or the file, that is not what was backed up
        :raises Incomplete: when the disk is full
        """
        works = self._works()
        started = time.monotonic()
        fetched = unpack(works, reader=reader, account=self.account, progress=self.progress, stop=self.stop)
        self._timed("fetch and unpack", started, fetched)
        for work in works:
            self._link_tablespaces(work)
        if len(works) > 1:
            started = self._begin("combine")
            self._combine(works)
            self._timed("combine", started)
        self._settle()

    def _settle(self) -> None:
        """Verify and flush side by side: one works on what is in memory, the other waits for the disk."""
        started = self._begin("verify")
        with ThreadPoolExecutor(1, thread_name_prefix="flush") as pool:
            flushed = pool.submit(self._tool, "initdb", "--sync-only", "-D", self.data)
            self._verify()
            self._timed("verify", started)
            started = self._begin("flush to disk")  # what is left of it
            self._relocate()
            flushed.result()
        self._timed("flush to disk", started)

    def _works(self) -> list[Unpacking]:
        if len(self.chain) == 1:
            return [Unpacking(self.chain[0], self.data, self.data / TABLESPACES)]
        parts = self.data / PARTS
        parts.mkdir(exist_ok=True)
        own(parts, self.account, mode=0o700)
        works = []
        for manifest in self.chain:
            part = parts / manifest.id
            part.mkdir()
            own(part, self.account, mode=0o700)
            works.append(Unpacking(manifest, part / "data", part / TABLESPACES, stays=False))
        return works

    def _link_tablespaces(self, work: Unpacking) -> None:
        # The archive leaves the links out and has a map instead; pg_verifybackup and pg_combinebackup follow links only.
        for tablespace in PostgresDetail.of(work.manifest).tablespaces:
            link = work.data / "pg_tblspc" / str(tablespace.oid)
            link.unlink(missing_ok=True)
            link.symlink_to(work.tablespaces / str(tablespace.oid))
            own(link, self.account)

    def _combine(self, works: Sequence[Unpacking]) -> None:
        out = self.data / PARTS / "out"
        mapping: list[str] = []
        for tablespace in self.detail.tablespaces:
            old, new = works[-1].tablespaces / str(tablespace.oid), self.data / TABLESPACES / str(tablespace.oid)
            new.parent.mkdir(exist_ok=True)
            own(new.parent, self.account, mode=0o700)
            mapping.append(f"--tablespace-mapping={_mapped(old)}={_mapped(new)}")
        # Linking needs no second copy of the data; 17 has it not, and a file system may refuse the quick copy.
        methods = ["--link", "--copy"] if self.binaries.major >= 18 else ["--copy-file-range", "--copy"]
        for method in methods:
            try:
                self._tool(
                    "pg_combinebackup", "--no-sync", method, *mapping, "--output", out, *(work.data for work in works)
                )
                break
            except PermanentError as error:
                if "No space" in error.hint:
                    raise full_or_broken(self.data, error.hint) from error
                if method == methods[-1]:
                    raise Corrupt(
                        f"the chain {', '.join(m.id for m in self.chain)} cannot be combined: {error.hint}",
                        hint="restore from the full backup it begins with, and take a new full backup now",
                    ) from error
                self._clear_combined(out)
        for entry in list(out.iterdir()):
            entry.rename(self.data / entry.name)
        out.rmdir()
        for work in works:
            empty(work.data.parent)
            work.data.parent.rmdir()
        out.parent.rmdir()

    def _clear_combined(self, out: Path) -> None:
        for place in (out, self.data / TABLESPACES):
            if place.exists():
                empty(place)
        if out.exists():
            out.rmdir()

    def _verify(self) -> None:
        started = time.monotonic()
        ignored = [f"--ignore={name}" for name in _OURS]
        try:
            self._tool("pg_verifybackup", "--quiet", *ignored, self.data)
        except PermanentError as error:
            raise Corrupt(
                f"what the backup {self.chain[-1].id} unpacks to is not what PostgreSQL wrote: {error.hint}",
                hint="restore from another backup of this target, and take a new full backup now",
            ) from error
        self.checks.append(
            Check(
                name="pg_verifybackup",
                verdict=Verdict.PASS,
                detail="every file has the size and checksum that PostgreSQL's manifest says, and the WAL is readable",
                seconds=time.monotonic() - started,
            )
        )

    def _relocate(self) -> None:
        """Write what recovery reads first: where the tablespaces are now, and that this is a recovery."""
        if self.detail.tablespaces:
            lines = [f"{t.oid} {_escaped(self.data / TABLESPACES / str(t.oid))}\n" for t in self.detail.tablespaces]
            self._write("tablespace_map", "".join(lines))
        (self.data / "standby.signal").unlink(missing_ok=True)  # the backup was taken from a standby
        self._write("recovery.signal", "")

    def _write(self, name: str, text: str) -> None:
        """Write a file that is on the disk when this returns: the flush may be over, or past it."""
        path = self.data / name
        with path.open("w") as stream:
            stream.write(text)
            own(path, self.account, mode=0o600)
            stream.flush()
            os.fsync(stream.fileno())
        folder = os.open(self.data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _tool(self, name: str, *arguments: str | Path) -> str:
        self.stop.check()
        return run_tool(
            [self.binaries.tool(name), *arguments],
            account=self.account,
            directory=self.data,
            environment={"LC_ALL": "C", **self.binaries.environment},
            timeout=_HOURS,
        )

    def _begin(self, name: str) -> float:
        self.stop.check()
        self.progress.stage(name)
        return time.monotonic()

    def _timed(self, name: str, started: float, bytes_: int = 0) -> None:
        self.stages.append(Stage(name=name, seconds=time.monotonic() - started, bytes=bytes_))


def _mapped(path: Path) -> str:
    return os.fspath(path).replace("\\", "\\\\").replace("=", "\\=")


def _escaped(path: Path) -> str:
    return os.fspath(path).replace("\\", "\\\\").replace("\n", "\\\n").replace("\r", "\\\r")
