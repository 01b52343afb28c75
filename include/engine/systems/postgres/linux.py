"""Two calls of Linux that Python does not have: act on files as another account, and begin to write them to the disk."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from include.engine.errors import Refused
from include.engine.sandbox.accounts import Account

_WRITE = 2  # SYNC_FILE_RANGE_WRITE: begin, and do not wait


@contextmanager
def acting_as(account: Account) -> Iterator[None]:
    """Let the kernel judge what this thread does with files as if *account* did it, and give it what is created.

    For root only; anybody else is the account.  Nothing else may happen in the context: a thread that is started in there would
    stay the account for ever (setfsuid(2): the setting is the thread's own, and inherited).

    :raises Refused: when the kernel does not let us
    """
    if account.uid == os.geteuid():
        yield
        return
    before = (_fsgid(account.gid), _fsuid(account.uid))
    try:
        if _fsuid(-1) != account.uid:  # neither call reports a failure otherwise
            raise Refused(f"we may not act as {account.name}", hint="run as root, or as the account itself")
        yield
    finally:
        _fsuid(before[1])
        _fsgid(before[0])


def begin_writeback(descriptor: int, start: int, length: int) -> None:
    """Ask for a part of a file to be written to the disk soon.  A hint: it promises nothing, and its failure means nothing."""
    _libc().sync_file_range(
        ctypes.c_int(descriptor), ctypes.c_int64(start), ctypes.c_int64(length), ctypes.c_uint(_WRITE)
    )


def _fsuid(uid: int) -> int:
    return int(_libc().setfsuid(ctypes.c_uint32(uid & 0xFFFFFFFF)))


def _fsgid(gid: int) -> int:
    return int(_libc().setfsgid(ctypes.c_uint32(gid & 0xFFFFFFFF)))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
