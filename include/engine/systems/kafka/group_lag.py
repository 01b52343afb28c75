"""How far every consumer group is behind: in records, and in seconds that somebody waits."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, Admin
from include.engine.systems.kafka.cut import OWN_GROUPS
from include.engine.systems.kafka.firsts import age, first_times
from include.engine.systems.kafka.group_state import Sample
from include.engine.systems.kafka.ranges import Range


class GroupLag(Struct, frozen=True, kw_only=True):
    """How far one group is behind in one partition."""

    group: str
    tp: TP
    sample: Sample
    seconds: float | None  # age of the next record that it will read; 0 when there is none; None when that has no time

    @property
    def lost(self) -> int:
        """How many offsets retention has taken before the group read them."""
        return max(0, self.sample.low - self.sample.committed)


def group_lags(admin: Admin, connection: Connection, now: datetime, *, timeout: float = 30.0) -> list[GroupLag]:
    """Read how far every group is behind, in records and in seconds.

    Seconds are the age of the record that the group will read next: what a person waits for, whatever the traffic.  A group
    that has only transaction markers before it has nothing to wait for.

    :raises Unreachable: when a number could not be read
    """
    names = [name for name, kind in admin.groups().items() if kind != "share" and not name.startswith(OWN_GROUPS)]
    committed = admin.committed(names)
    exists = {TP(t.name, p.index) for t in admin.topics().values() for p in t.partitions}
    held = {
        (group, tp): at
        for group, positions in sorted(committed.items())
        for tp, (at, _) in sorted(positions.items())
        if tp in exists
    }
    partitions = {tp for _, tp in held}
    ends, lows = admin.offsets(partitions, LATEST), admin.offsets(partitions, EARLIEST)
    places = {(tp, max(at, lows[tp])) for (_, tp), at in held.items() if at < ends[tp]}
    ranges = [Range(topic=tp.topic, partition=tp.partition, start=at, stop=ends[tp]) for tp, at in sorted(places)]
    times = first_times(librdkafka_settings(connection), ranges, timeout=timeout)
    return [
        GroupLag(
            group=group,
            tp=tp,
            sample=Sample(at=now.timestamp(), committed=at, end=ends[tp], low=lows[tp]),
            seconds=age(times, (tp, max(at, lows[tp])), now),
        )
        for (group, tp), at in held.items()
    ]
