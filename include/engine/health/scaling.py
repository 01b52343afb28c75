"""What will be too small, and when: value, limit, trend, time to breach, the cause that binds, what to do and what it costs.  Pure.

The rows are data (``scaling:`` in the rules); what binds is decided by :mod:`include.engine.health.causes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from include.engine.health.causes import CAUSES
from include.engine.health.history import SeriesName, labelled
from include.engine.health.judging import Limits, resolved
from include.engine.health.looks import Look
from include.engine.health.rules import RuleBook, Scaling
from include.engine.health.trends import Breach, Point, Trend, time_to, trend
from include.engine.model import Verdict

Points = Mapping[SeriesName, Sequence[Point]]
_HALF = 0.5  # of its limit: below, nothing binds yet
_UNKNOWN = "nobody knows: no reading tells what binds"


class ScalingRow(Struct, frozen=True, kw_only=True):
    """One row of the table.

    :param value: the worst of all series now; None when it was not read, which is never green
    :param trend: in units per second; None when the history is too short to tell
    :param breach: when the limit is met; None when it does not surely move there
    :param cause: what binds now; empty while less than half of the limit is used
    """

    name: str
    title: str
    subject: str = ""
    labels: dict[str, str] = {}
    value: float | None = None
    limit: float | None = None
    unit: str = "1"
    trend: Trend | None = None
    breach: Breach | None = None
    verdict: Verdict
    cause: str = ""
    action: str
    costs: str


def scaling(book: RuleBook, looks: Sequence[Look], points: Points, *, limits: Limits) -> list[ScalingRow]:
    """Make the table, of the systems that were looked at."""
    systems = {look.system for look in looks}
    wanted = [row for row in book.scaling.values() if row.metric.partition(".")[0] in systems]
    return [_row(row, looks, points, limits) for row in wanted]


def _row(row: Scaling, looks: Sequence[Look], points: Points, limits: Limits) -> ScalingRow:
    given = [(look.subject, one) for look in looks for one in look.readings if one.metric == row.metric]
    read = [(subject, one) for subject, one in given if math.isfinite(one.value)]
    unread = {look.subject for look in looks if look.owes(row.metric)}
    unread |= {subject for subject, one in given if not math.isfinite(one.value)}
    if not read:
        there = any(row.metric in look.metrics or look.readings for look in looks if look.trouble is None)
        cause = "nothing there to measure, or it could not be read" if there else "it could not be read"
        return ScalingRow(
            name=row.name,
            title=row.title,
            verdict=Verdict.UNVERIFIED,
            cause=cause,
            action=row.action,
            costs=row.costs,
        )
    subject, worst = max(read, key=lambda one: one[1].value)
    limit = resolved(row.limit, subject, limits)
    found = trend(points.get(SeriesName(subject, row.metric, labelled(worst.labels), worst.unit), ()))
    over = limit is not None and worst.value > limit
    of_subject = {one.metric: one for look in looks if look.subject == subject for one in look.readings}
    readings = [one for look in looks if look.subject == subject for one in look.readings]
    decide = CAUSES.get(row.cause)
    near = limit is not None and worst.value >= limit * _HALF
    binding = (decide(of_subject, readings, worst) if decide else "") or _UNKNOWN if near else ""
    # The worst that is known is within its limit; of what was not read, nobody knows.
    open_ = bool(unread) and limit is not None and not over
    if open_:
        told = f"{', '.join(sorted(unread))} could not be read"
        binding = f"{binding}; {told}" if binding else told
    return ScalingRow(
        name=row.name,
        title=row.title,
        subject=subject,
        labels=worst.labels,
        value=worst.value,
        limit=limit,
        unit=worst.unit,
        trend=found,
        breach=time_to(found, limit, above=True) if found is not None and limit is not None else None,
        verdict=Verdict.UNVERIFIED if limit is None or open_ else Verdict.FAIL if over else Verdict.PASS,
        cause=f"no limit is declared: set {row.limit} in the inventory" if limit is None else binding,
        action=row.action,
        costs=row.costs,
    )
