"""How the history grows thin with age: from a certain age on, only the extremes of every step of time are kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.engine import Connection as Session

from include.engine.health.tables import changes, points, sweeps, tellings

# From this age on, the lowest and the highest value of every step are kept.
STEPS = ((timedelta(days=2), timedelta(minutes=30)), (timedelta(days=14), timedelta(hours=6)))
FORGOTTEN = timedelta(days=400)
_AT_ONCE = 500  # rows that one statement names


def thin(session: Session, now: datetime) -> int:
    """Thin out what is old, and give how many points went."""
    removed = 0
    for index, (age, step) in enumerate(STEPS):
        older = STEPS[index + 1][0] if index + 1 < len(STEPS) else FORGOTTEN
        removed += _thinned(session, now - older, now - age, step)
    forgotten = (now - FORGOTTEN).timestamp()
    removed += session.execute(delete(points).where(points.c.at < forgotten)).rowcount
    old = select(changes.c.id).where(changes.c.at < forgotten)
    session.execute(delete(tellings).where(tellings.c.change.in_(old)))
    session.execute(delete(changes).where(changes.c.at < forgotten))
    session.execute(delete(sweeps).where(sweeps.c.at < forgotten))
    return removed


def _thinned(session: Session, start: datetime, end: datetime, step: timedelta) -> int:
    """Keep the first lowest and the first highest point of every step between two times."""
    slot = func.floor(points.c.at / step.total_seconds())
    place = (points.c.series, slot)
    ranked = (
        select(
            points.c.series,
            points.c.at,
            func.row_number().over(partition_by=place, order_by=(points.c.value, points.c.at)).label("low"),
            func.row_number().over(partition_by=place, order_by=(points.c.value.desc(), points.c.at)).label("high"),
        )
        .where(points.c.at >= start.timestamp(), points.c.at < end.timestamp())
        .subquery()
    )
    needless = select(ranked.c.series, ranked.c.at).where(ranked.c.low > 1, ranked.c.high > 1)
    rows: list[Any] = list(session.execute(needless))
    by_series: dict[int, list[float]] = {}
    for one, at in rows:
        by_series.setdefault(one, []).append(at)
    for one, times in by_series.items():
        for begin in range(0, len(times), _AT_ONCE):
            some = times[begin : begin + _AT_ONCE]
            session.execute(delete(points).where(points.c.series == one, points.c.at.in_(some)))
    return len(rows)
