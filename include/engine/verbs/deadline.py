"""A limit for work that can be asked to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from include.engine.contracts import Stop


@contextmanager
def within(limit: timedelta, stop: Stop, *, why: str) -> Iterator[None]:
    """Pull *stop* when the context lasts for longer than *limit*.

    :param why: what whoever is stopped is told
    """
    timer = threading.Timer(limit.total_seconds(), stop.stop, [why])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
