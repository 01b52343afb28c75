"""Whether a mirror has everything up to a cut, exactly: by its committed source offsets, never by comparing end offsets.

Offsets of a copy differ from the source's as soon as a transaction or a hole was in it.  What counts is how far the connector
has read, which exactly-once commits together with the records.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from include.engine.systems.kafka.client import TP

PROBED = 5_000  # offsets that may be read to see whether only markers are left in them


class MirrorCut(Struct, frozen=True, kw_only=True):
    """What the source had when it was asked: the mirror is compared with this, while the source goes on."""

    at: datetime
    low: dict[str, list[int]]
    high: dict[str, list[int]]

    def ends(self) -> dict[TP, int]:
        """Give each partition's end."""
        return {TP(topic, p): end for topic, found in self.high.items() for p, end in enumerate(found)}

    def lows(self) -> dict[TP, int]:
        """Give each partition's beginning."""
        return {TP(topic, p): low for topic, found in self.low.items() for p, low in enumerate(found)}


class Lag(Struct, frozen=True, kw_only=True):
    """What a mirror may still lack of one partition: offsets ``[position, end)``."""

    topic: str
    partition: int
    position: int
    end: int

    @property
    def offsets(self) -> int:
        """How many offsets; not all need be records."""
        return self.end - self.position

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition} [{self.position}, {self.end})"


def positions(offsets: list[tuple[dict[str, Any], dict[str, Any]]], alias: str) -> dict[TP, int]:
    """Read Connect's source offsets: the next offset that the connector will read of each partition."""
    return {
        TP(where["topic"], int(where["partition"])): int(at["offset"]) + 1
        for where, at in offsets
        if where.get("cluster") == alias
    }


def lags(cut: Mapping[TP, int], lows: Mapping[TP, int], read: Mapping[TP, int]) -> list[Lag]:
    """Give the partitions that the connector has not read up to the cut.  Pure.

    :param lows: where each partition begins: what retention has taken cannot be copied any more
    """
    found = []
    for tp, end in sorted(cut.items()):
        position = max(read.get(tp, 0), lows.get(tp, 0))
        if position < end:
            found.append(Lag(topic=tp.topic, partition=tp.partition, position=position, end=end))
    return found
