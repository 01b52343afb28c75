"""Keeps a session open for a moment after its use: the steps of one run follow each other, and a login is a password hash.

Who asks while another logs in waits for that login and shares its outcome: the probes of a sweep begin all at once, and eight
logins on a busy node take longer than all that they read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import msgspec

from include.engine.contracts import Connection
from include.engine.systems.cassandra.client import Cql

_LINGERS = 3.0  # seconds


class _Kept:
    """One session, open or opening, and how many use it now."""

    def __init__(self) -> None:
        self.opened: Future[Cql] = Future()
        self.users = 0
        self.broken = False
        self.timer: threading.Timer | None = None


_lock = threading.Lock()
_kept: dict[tuple[int, bytes], _Kept] = {}  # by process, as a fork must not use its parent's, and by connection


@contextmanager
def session(connection: Connection) -> Iterator[Cql]:
    """Give a session: the one that was used a moment ago, or a new one.  After an error nobody gets it again.

    :raises Unreachable: when no node answers
    """
    key = (os.getpid(), msgspec.json.encode(connection))
    kept, first = _take(key)
    try:
        if first:
            _open(kept, connection)
        yield kept.opened.result()
    except BaseException:
        kept.broken = True
        raise
    finally:
        _leave(key, kept)


def _take(key: tuple[int, bytes]) -> tuple[_Kept, bool]:
    """Give the session of *key*, and whether the caller is the one to open it."""
    with _lock:
        first = key not in _kept
        kept = _kept.setdefault(key, _Kept())
        kept.users += 1
        if kept.timer is not None:
            kept.timer.cancel()
        return kept, first


def _open(kept: _Kept, connection: Connection) -> None:
    try:
        kept.opened.set_result(Cql(connection))
    except BaseException as error:
        kept.opened.set_exception(error)  # whoever waits for it fails as well
        raise


def _leave(key: tuple[int, bytes], kept: _Kept) -> None:
    with _lock:
        kept.users -= 1
        if kept.broken and _kept.get(key) is kept:
            del _kept[key]
        if kept.users:
            return
        if _kept.get(key) is kept:
            kept.timer = threading.Timer(_LINGERS, _close_idle, [key, kept])
            kept.timer.daemon = True
            kept.timer.start()
            return
    _close(kept)


def _close_idle(key: tuple[int, bytes], kept: _Kept) -> None:
    with _lock:
        if kept.users or _kept.get(key) is not kept:
            return
        del _kept[key]
    _close(kept)


def _close(kept: _Kept) -> None:
    if kept.opened.exception() is None:
        kept.opened.result().close()
