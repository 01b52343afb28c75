"""Drills, for whoever asks what the newest have found: there is one more every week, or after every backup."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from include.engine.model import DrillReport, decode
from include.engine.store.catalog import Catalog

_AT_ONCE = 8


def newest_first(catalog: Catalog) -> Iterator[DrillReport]:
    """Give the drills, read a few at a time: whoever has seen enough reads no more.

    :raises Corrupt: when one of these cannot be read
    """
    keys = sorted((found.key for found in catalog.bucket.list("drills")), reverse=True)
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="drills") as pool:
            read = list(pool.map(catalog.bucket.read, some))
        yield from (decode(raw, DrillReport, where=key) for key, raw in zip(some, read, strict=True))
