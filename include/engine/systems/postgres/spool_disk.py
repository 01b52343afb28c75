"""What it means that an archiver's spool cannot be written: wait, for what is shipped makes room, and the server keeps the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.engine.errors import Unreachable
from include.engine.full_disks import says_full


def unwritable(spool: Path, said: str) -> Unreachable:
    """Say that *spool* cannot be written; trying again helps as soon as the cause is gone."""
    if says_full(said):
        free = shutil.disk_usage(spool).free
        return Unreachable(
            f"the disk of the spool {spool} is full ({free >> 20} MiB are free): {said}",
            hint="make room there: archiving goes on by itself, and until then the server keeps what was not received, as far as "
            "its own disk and max_slot_wal_keep_size allow",
        )
    return Unreachable(
        f"the spool {spool} cannot be written: {said}", hint="check the disk and the rights of the directory"
    )


@contextmanager
def writing(spool: Path) -> Iterator[None]:
    """Turn what the system says of *spool* into an error of ours, which archiving outlives."""
    try:
        yield
    except OSError as error:
        raise unwritable(spool, str(error)) from error
