"""How the history grows thin with age: from a certain age on, only the extremes of every step of time are kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.engine import Connection as Session

from include.engine.health.tables import changes, points, sweeps, tellings, thinned

# From this age on, the lowest and the highest value of every step are kept.
STEPS = ((timedelta(days=2), timedelta(minutes=30)), (timedelta(days=14), timedelta(hours=6)))
FORGOTTEN = timedelta(days=400)
_AT_ONCE = 500  # rows that one statement names


def thin(session: Session, now: datetime) -> int:
    """Thin out what has become old since the last time, in whole steps, and give how many points went."""
    removed = 0
    forgotten = (now - FORGOTTEN).timestamp()
    done = {row.step: row.until for row in session.execute(select(thinned))}
    for age, step in STEPS:
        seconds = int(step.total_seconds())
        begin, end = done.get(seconds, forgotten), (now - age).timestamp() // seconds * seconds
        if begin < end:
            removed += _thinned(session, begin, end, seconds)
            session.execute(delete(thinned).where(thinned.c.step == seconds))
            session.execute(insert(thinned).values(step=seconds, until=end))
    if not removed:
        return 0  # nothing has grown old
    removed += session.execute(delete(points).where(points.c.at < forgotten)).rowcount
    old = select(changes.c.id).where(changes.c.at < forgotten)
    session.execute(delete(tellings).where(tellings.c.change.in_(old)))
    session.execute(delete(changes).where(changes.c.at < forgotten))
    session.execute(delete(sweeps).where(sweeps.c.at < forgotten))
    return removed


def _thinned(session: Session, start: float, end: float, step: int) -> int:
    """Keep the first lowest and the first highest point of every step between two times."""
    slot = func.floor(points.c.at / step)
    place = (points.c.series, slot)
    ranked = (
        select(
            points.c.series,
            points.c.at,
            func.row_number().over(partition_by=place, order_by=(points.c.value, points.c.at)).label("low"),
            func.row_number().over(partition_by=place, order_by=(points.c.value.desc(), points.c.at)).label("high"),
        )
        .where(points.c.at >= start, points.c.at < end)
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
