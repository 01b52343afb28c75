"""Keeps a session open for a moment after its use: the steps of one run follow each other, and a login is a password hash."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from include.engine.contracts import Connection
from include.engine.systems.cassandra.client import Cql

_LINGERS = 3.0  # seconds


class _Kept:
    """One open session, and how many use it now."""

    def __init__(self, cql: Cql) -> None:
        self.cql = cql
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
    kept = _take(key) or _put(key, Cql(connection))
    try:
        yield kept.cql
    except BaseException:
        kept.broken = True
        raise
    finally:
        _leave(key, kept)


def _take(key: tuple[int, bytes]) -> _Kept | None:
    with _lock:
        kept = _kept.get(key)
        if kept is not None:
            kept.users += 1
            if kept.timer is not None:
                kept.timer.cancel()
        return kept


def _put(key: tuple[int, bytes], cql: Cql) -> _Kept:
    kept = _Kept(cql)
    kept.users = 1
    with _lock:
        _kept.setdefault(key, kept)  # another thread may have been first: then this one is closed after its use
    return kept


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
    kept.cql.close()


def _close_idle(key: tuple[int, bytes], kept: _Kept) -> None:
    with _lock:
        if kept.users or _kept.get(key) is not kept:
            return
        del _kept[key]
    kept.cql.close()
