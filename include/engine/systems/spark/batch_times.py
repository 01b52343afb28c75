"""When each batch of a flow began, from what Spark notes in the checkpoint before it.  Reads a folder only."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from include.engine.systems.spark import checkpoint

_MILLISECOND = 1_000_000  # nanoseconds


class Batch(Struct, frozen=True, kw_only=True):
    """One batch.

    :param begun: when Spark had fixed what belongs to it, in nanoseconds since the epoch
    :param ends: by partition, the record that the next batch begins with
    """

    begun: int
    ends: dict[int, int]


class BatchTimes:
    """The batches of one flow of one topic, in order.

    :param epoch: what is taken from their times, in nanoseconds: the difference to the clock that is asked for
    """

    def __init__(self, batches: Iterable[Batch], *, epoch: int = 0) -> None:
        found = list(batches)
        self._begun = [batch.begun - epoch for batch in found]
        partitions = {partition for batch in found for partition in batch.ends}
        self._ends = {partition: [batch.ends.get(partition, 0) for batch in found] for partition in partitions}

    @classmethod
    def read(cls, folder: Path, *, epoch: int = 0) -> BatchTimes:
        """Read the notes ``<checkpoint>/<flow>/offsets``; none when there is no such folder."""
        names = [path.name for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
        return cls((_batch(folder / name) for name in sorted(names, key=int)), epoch=epoch)

    def begun(self, partition: int, offset: int) -> int | None:
        """Give when the batch began that a record belongs to; nothing when no batch has it."""
        ends = self._ends.get(partition, [])
        found = bisect_right(ends, offset)
        return self._begun[found] if found < len(ends) else None


def _batch(path: Path) -> Batch:
    raw = path.read_bytes()
    told = checkpoint.parse(path.parent.parent.name, f"offsets/{path.name}", raw)
    ((ends),) = told.values()
    settings = json.loads(raw.splitlines()[1])
    return Batch(begun=int(settings["batchTimestampMs"]) * _MILLISECOND, ends=ends)
