"""Unpacks an archive of a base backup, from a stream straight into files, as the server's account.

The bytes go from the decompressor's buffer into the file: no pipe, no second process, no copy.  That is half of the CPU of
a restore with the stock tool, which reads 10 KiB at a time.  The standard library reads the headers; ours is to move the
bytes, and to refuse what PostgreSQL's archives never hold (src/backend/backup/basebackup.c: files and directories only,
two blocks of zeros at the end).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from include.engine.errors import Corrupt, Incomplete, MainstayError, PermanentError, Refused
from include.engine.full_disks import says_full
from include.engine.sandbox.accounts import Account
from include.engine.systems.postgres.linux import acting_as, begin_writeback

DAMAGED = "restore from another backup of this target, and take a new full backup now"

_BLOCK = 512
_WRITEBACK_BYTES = 8 << 20  # written at a time; the disk then works while we unpack, and not only behind us
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def untar(
    chunks: Iterable[bytes | memoryview], folder: Path, *, account: Account, what: str, write_back: bool = False
) -> None:
    """Unpack a tar stream into *folder*.  Each chunk is used up before the next one is asked for.

    :param what: the object's key, for errors
    :param write_back: begin to write to the disk at once, because it will be flushed later anyway
    :raises Corrupt: when it is no archive of a base backup, or ends too early
    :raises Incomplete: when the disk is full
    :raises Refused: when the account may not write there
    """
    if not account.reaches(folder):
        raise _closed(folder, account, "it cannot be entered")
    with _Unpacking(folder, account, what, write_back=write_back) as unpacking:
        for chunk in chunks:
            unpacking.take(memoryview(chunk))
        unpacking.end()


def full_or_broken(folder: Path, said: str) -> MainstayError:
    """Tell a full disk from other trouble with it."""
    if says_full(said):
        free = shutil.disk_usage(folder).free
        return Incomplete(
            f"the disk of {folder} is full ({free >> 20} MiB are free): {said}",
            hint="free some space or choose a larger place, and run the restore again; `--dry-run` tells what it needs",
        )
    return PermanentError(f"{folder} cannot be written: {said}", hint="check the disk and its permissions")


class _Unpacking:
    """One archive on its way: a header of 512 bytes, the file's bytes, zeros up to the next multiple of 512, and again."""

    def __init__(self, folder: Path, account: Account, what: str, *, write_back: bool) -> None:
        self._folder, self._account, self._what, self._write_back = folder, account, what, write_back
        self._top = os.open(folder, _DIRECTORY)
        self._parent: tuple[str, ...] = ()
        self._parent_fd = self._top
        self._file = -1
        self._header = bytearray()
        self._left = 0  # bytes of the file that are still to come
        self._padding = 0  # zeros behind it
        self._written = self._begun = 0  # of the file; and how much of that is on its way to the disk
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._leave_parent()
        os.close(self._top)

    def take(self, data: memoryview) -> None:
        """Use up the next bytes."""
        while data and not self._ended:
            if self._left:
                data = self._fill(data)
            elif self._padding:
                passed = min(self._padding, len(data))
                self._padding -= passed
                data = data[passed:]
            else:
                missing = _BLOCK - len(self._header)
                self._header += data[:missing]
                data = data[missing:]
                if len(self._header) == _BLOCK:
                    self._begin(bytes(self._header))
                    self._header.clear()

    def end(self) -> None:
        """Make sure that the archive has come to its own end.

        :raises Corrupt: when it has not
        """
        if not self._ended:
            raise Corrupt(f"{self._what} cannot be unpacked: it ends too early", hint=DAMAGED)

    def _begin(self, header: bytes) -> None:
        try:
            found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            self._ended = True
            return
        except tarfile.HeaderError as error:
            raise Corrupt(f"{self._what} cannot be unpacked: {error}", hint=DAMAGED) from error
        parts = tuple(part for part in found.name.split("/") if part not in ("", "."))
        if found.name.startswith("/") or ".." in parts or not (parts or found.isdir()) or found.size < 0:
            raise self._strange(f"an entry named {found.name!r}")
        try:
            with acting_as(self._account):
                if found.isdir():
                    self._make_directory(parts, found.mode & 0o777)
                elif found.isreg():
                    self._make_file(parts, found.mode & 0o777)
                else:
                    raise self._strange(f"{found.name!r} of type {found.type!r}")
        except OSError as error:
            raise self._explained(error) from error
        if found.isreg():
            self._left, self._padding = found.size, -found.size % _BLOCK
            self._written = self._begun = 0
            if not found.size:
                self._close()

    def _fill(self, data: memoryview) -> memoryview:
        try:
            done = os.write(self._file, data[: self._left])
        except OSError as error:
            raise self._explained(error) from error
        self._left -= done
        self._written += done
        if self._write_back and self._written - self._begun >= _WRITEBACK_BYTES:
            begin_writeback(self._file, self._begun, self._written - self._begun)
            self._begun = self._written
        if not self._left:
            self._close()
        return data[done:]

    def _close(self) -> None:
        descriptor, self._file = self._file, -1
        try:
            os.close(descriptor)
        except OSError as error:  # some file systems say only now that there is no space
            raise self._explained(error) from error

    def _make_directory(self, parts: tuple[str, ...], mode: int) -> None:
        if not parts:
            return
        self._enter_parent(parts[:-1])
        with contextlib.suppress(FileExistsError):
            os.mkdir(parts[-1], 0o700, dir_fd=self._parent_fd)
        descriptor = os.open(parts[-1], _DIRECTORY, dir_fd=self._parent_fd)
        os.fchmod(descriptor, mode)
        os.close(descriptor)

    def _make_file(self, parts: tuple[str, ...], mode: int) -> None:
        self._enter_parent(parts[:-1])
        try:
            self._file = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=self._parent_fd)
        except FileExistsError:  # renamed while the server read the directory, and so sent twice: the later one counts
            os.unlink(parts[-1], dir_fd=self._parent_fd)
            self._file = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=self._parent_fd)
        os.fchmod(self._file, mode)

    def _enter_parent(self, parts: tuple[str, ...]) -> None:
        """Open the directory of the next entry step by step, and follow no link: the archive has none."""
        if parts == self._parent:
            return
        self._leave_parent()
        for part in parts:
            inner = os.open(part, _DIRECTORY, dir_fd=self._parent_fd)
            self._leave_parent()
            self._parent_fd = inner
        self._parent = parts

    def _leave_parent(self) -> None:
        if self._parent_fd != self._top:
            os.close(self._parent_fd)
        self._parent, self._parent_fd = (), self._top

    def _strange(self, found: str) -> Corrupt:
        return Corrupt(
            f"{self._what} holds {found}, which no archive of a base backup does: nothing was written for it",
            hint=DAMAGED,
        )

    def _explained(self, error: OSError) -> MainstayError:
        if error.errno in (errno.EACCES, errno.EPERM):
            return _closed(self._folder, self._account, error.strerror or str(error))
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR):  # the archive contradicts itself
            return Corrupt(f"{self._what} cannot be unpacked: {error}", hint=DAMAGED)
        said = error.strerror or str(error)
        return full_or_broken(self._folder, said if says_full(said) else str(error))


def _closed(folder: Path, account: Account, said: str) -> Refused:
    # The place is at fault, not the backup.
    return Refused(
        f"{account.name} cannot write to {folder}: {said}",
        hint="open the way to it with chmod o+x, or choose another directory",
    )
