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
    emptied: set[Path] = set()  # a directory that we took nothing from may be one that a task has just made
    for parent, _, names in os.walk(folder, topdown=False):
        stop.check()
        place = Path(parent)
        for name in names:
            path = place / name
            with suppress(FileNotFoundError):
                found = path.lstat()
                if path.suffix == ".log" and not path.is_symlink() and found.st_mtime < before.timestamp():
                    path.unlink()
                    emptied.add(place)
                    files += 1
                    bytes_ += found.st_size
        if place in emptied and place != folder:
            with suppress(OSError):  # not empty, or gone
                place.rmdir()
                emptied.add(place.parent)
    return Removed(files=files, bytes=bytes_)
