"""Deletes old task logs from a folder of logs."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from include.engine.contracts import Stop


@dataclass(frozen=True)
class Removed:
    """What was deleted."""

    files: int
    bytes: int


def remove_old(folder: Path, *, before: datetime, stop: Stop) -> Removed:
    """Delete the logs below *folder* that were last written before *before*, and the directories that this leaves empty.

    Only ``*.log`` files go.  Symbolic links are neither followed nor deleted.  What vanishes meanwhile is no error: another
    worker may clean the same folder.

    :raises Interrupted: when *stop* came
    """
    files = bytes_ = 0
    for parent, directories, names in os.walk(folder, topdown=False):
        stop.check()
        for name in names:
            path = Path(parent, name)
            with suppress(FileNotFoundError):
                found = path.lstat()
                if path.suffix == ".log" and not path.is_symlink() and found.st_mtime < before.timestamp():
                    path.unlink()
                    files += 1
                    bytes_ += found.st_size
        for name in directories:
            with suppress(OSError):  # not empty, a link, or gone
                if Path(parent, name).stat().st_mtime < before.timestamp() or not any(Path(parent, name).iterdir()):
                    Path(parent, name).rmdir()
    return Removed(files=files, bytes=bytes_)
