"""Whether the disk of a destination has room for what is restored there."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from include.engine.errors import Refused
from include.engine.systems.postgres.guards import Occupation


def require_space(path: Path, needed: int, thrown_away: int = 0) -> None:
    """Check that the disk of *path* has room for the restore.

    :param thrown_away: bytes on it that are removed before the restore begins
    :raises Refused: it has not; the message says how much is needed
    """
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(there).free + thrown_away
    if free < needed:
        raise Refused(
            f"the restore needs {needed} bytes ({needed / 2**30:.1f} GiB) in {path}, {free} ({free / 2**30:.1f} GiB) are free",
            hint="free some space, or choose a larger disk",
        )


def bytes_thrown_away(path: Path, found: Occupation) -> int:
    """Give what an unfinished restore takes of the disk, which is free again when the next one has taken its place."""
    if found.kind != "unfinished":
        return 0
    taken = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):  # its server may still run, until the directory is taken
                taken += Path(folder, name).lstat().st_blocks * 512  # a block is that, whatever the disk's own are
    return taken
