"""Which partitions an open transaction holds back, and since when: a backup cannot see what lies behind it.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.cut import KafkaCut
from include.engine.systems.kafka.detail import Held, Saved


def held(cut: KafkaCut, at: datetime, previous: Saved | None) -> tuple[Held, ...]:
    """Give the partitions whose committed end is before their end.

    Transactions are open at every moment where producers use them; what has not moved since the previous cut hangs.
    """
    before = {TP(one.topic, one.partition): one for one in previous.detail.held} if previous else {}
    found = []
    for name, topic in sorted(cut.topics.items()):
        for partition, end in enumerate(topic.end):
            offset = topic.high[partition]
            if end <= offset:
                continue
            known = before.get(TP(name, partition))
            same = known is not None and known.offset == offset and _id(previous, name) == topic.id
            one = Held(topic=name, partition=partition, offset=offset, waiting=end - offset, since=at)
            found.append(msgspec.structs.replace(one, since=known.since) if known is not None and same else one)
    return tuple(found)


def hanging(found: Sequence[Held], at: datetime) -> tuple[Held, ...]:
    """Give those that were open at an earlier cut already."""
    return tuple(one for one in found if one.since < at)


def reaches(found: Sequence[Held], at: datetime) -> datetime:
    """Give the moment up to which the backup has everything: the cut's, or since when a transaction hangs."""
    return min([at, *(one.since for one in found)])


def _id(previous: Saved | None, topic: str) -> str | None:
    known = previous.cut.topics.get(topic) if previous else None
    return known.id if known else None
