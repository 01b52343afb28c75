"""For how long a standby's replay has stood still: the primary keeps telling the last delay that it has measured.

``replay_lag`` is measured when a standby says that it has replayed something.  Where replay is paused, or waits for a query, it
says nothing more, and the last delay stays.  What earlier sweeps have read tells since when.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from include.engine.model import Reading

REPLAYED, BEHIND = "postgres.replication.replayed", "postgres.replication.lag_bytes"
REMEMBERED = timedelta(days=1)  # a replay that stands for longer is told as that


def stood(past: Sequence[Reading], standby: str, replayed: float, now: datetime) -> float:
    """Give for how many seconds at least a standby has had something to replay, and has replayed nothing.  Pure.

    :param past: what was read of all standbys, in whatever order
    :param replayed: the position now, in bytes
    """
    looks: dict[datetime, dict[str, float]] = {}
    for one in past:
        if one.labels.get("standby") == standby and one.at < now:
            looks.setdefault(one.at, {})[one.metric] = one.value
    since = now
    for at, seen in sorted(looks.items(), reverse=True):
        if seen.get(REPLAYED) != replayed or not seen.get(BEHIND):
            break  # it has moved since, or it had nothing to do then
        since = at
    return (now - since).total_seconds()
