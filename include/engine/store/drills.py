"""Drills, for whoever asks what the newest have found: there is one more every week, or after every backup."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from include.engine.model import Drilled, DrillReport, Target
from include.engine.store import clocks, documents
from include.engine.store.catalog import Catalog

_AT_ONCE = 8
_ENOUGH, _LOOKED_AT = 5, 32


def newest_first(catalog: Catalog) -> Iterator[DrillReport]:
    """Give the drills, read a few at a time: whoever has seen enough reads no more.

    :raises Corrupt: when one of these cannot be read
    """
    listed = sorted(catalog.bucket.list("drills"), key=clocks.in_order, reverse=True)
    for start in range(0, len(listed), _AT_ONCE):
        found = documents.each(listed[start : start + _AT_ONCE], catalog.drill)
        yield from (report for report in found if report is not None)


def measured(catalog: Catalog, target: Target) -> list[Drilled]:
    """Give what the newest drills have measured of the restore of *target*: a few, looked for in the newest drills of all.

    :raises Corrupt: when one of these cannot be read
    """
    found: list[Drilled] = []
    for report in islice(newest_first(catalog), _LOOKED_AT):
        found += [part for part in report.parts if part.target == target]
        if not report.parts and report.target == target and report.backup and report.rto_seconds is not None:
            one = Drilled(target=target, backup=report.backup, bytes=report.bytes, seconds=report.rto_seconds)
            found.append(one)  # of a Mainstay that did not tell the parts
        if len(found) >= _ENOUGH:
            break
    return found
