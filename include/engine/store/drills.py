"""Drills, for whoever asks what the newest have found: there is one more every week, or after every backup."""

from __future__ import annotations

from collections.abc import Iterator

from include.engine.model import DrillReport
from include.engine.store import documents
from include.engine.store.catalog import Catalog

_AT_ONCE = 8


def newest_first(catalog: Catalog) -> Iterator[DrillReport]:
    """Give the drills, read a few at a time: whoever has seen enough reads no more.

    :raises Corrupt: when one of these cannot be read
    """
    keys = sorted((found.key for found in catalog.bucket.list("drills")), reverse=True)
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        found = documents.each(some, lambda key: documents.read(catalog.bucket, key, DrillReport))
        yield from (report for report in found if report is not None)
