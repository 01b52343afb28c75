"""Finds a record of the source on its mirror, exactly, from the pairs of offsets that MirrorMaker 2 notes every so often.

MirrorMaker's own translation is coarse: it gives the noted offset and lets consumers read hundreds of records again.  Since a
mirror has the same records in the same order, counting records from a noted pair gives the very one.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from include.engine.errors import Incomplete
from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.isolation import Child, Frame
from include.engine.systems.kafka.ranges import Range

Content = tuple[int, bytes | None, bytes | None, tuple[tuple[object, ...], ...]]  # time, key, value, headers
Pair = tuple[int, int]  # offset on the source, offset on the mirror, of the same record
_AHEAD = 200  # offsets in which the record that is read next is looked for
SEARCHED = 10_000  # offsets of a mirror that are searched when there is nothing to count from


class Found(Struct, frozen=True, kw_only=True):
    """Where a position of the source is on the mirror."""

    offset: int
    compared: bool  # the next records of both sides were there and are the same
    equal: bool = True


class Row(Struct, frozen=True):
    """One record, as far as both sides must agree on it."""

    offset: int
    content: Content


class Side:
    """One cluster's records, read in a child process that lives as long as the context, or until it fails: then in the next."""

    def __init__(self, settings: Mapping[str, str], *, patience: float = 120.0) -> None:
        self._settings = dict(settings)
        self._patience = patience
        self._begin()

    def _begin(self) -> None:
        self._failed = False
        self._child = Child("reader", patience=self._patience)
        self._frames = self._child.frames()

    def rows(self, tp: TP, start: int, stop: int) -> list[Row]:
        """Give the committed records of ``[start, stop)``."""
        frames = self._read(tp, start, stop, form="rows")
        return [Row(offset, _content(*content)) for frame in frames for offset, content in frame["rows"]]

    def digest(self, tp: TP, start: int, stop: int, count: int) -> tuple[int, str]:
        """Give how many of the first *count* records of ``[start, stop)`` there are, and the digest of their contents."""
        for frame in self._read(tp, start, stop, form="facts", cuts={str(tp): [count]}):
            return frame["segment"]["records"], frame["segment"]["content"]
        return 0, ""

    def _read(self, tp: TP, start: int, stop: int, **asked: object) -> list[Frame]:
        if stop <= start:
            return []
        wanted = Range(topic=tp.topic, partition=tp.partition, start=start, stop=stop)
        if self._failed:
            self._begin()
        try:
            self._child.send({"settings": self._settings, "ranges": [msgspec.to_builtins(wanted)], **asked})
            return self._until_finished(tp)
        except BaseException:
            # One that has failed has ended, and says nothing more: whoever asks next would take that for no records.
            self._failed = True
            self._end()
            raise

    def _until_finished(self, tp: TP) -> list[Frame]:
        found: list[Frame] = []
        for frame in self._frames:
            if "finished" in frame:
                return found
            if "segment" in frame or "rows" in frame:
                found.append(frame)
        raise Incomplete(f"a reader ended before it had read {tp}", hint="run it again")

    def _end(self) -> None:
        self._child.kill()
        self._child.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


def read_pairs(mirror: Side, ends: Mapping[TP, int]) -> dict[TP, list[Pair]]:
    """Read all pairs that MirrorMaker 2 has noted, ascending.

    :param ends: of the partitions of its topic of notes
    """
    found: dict[TP, list[Pair]] = {}
    for tp, end in ends.items():
        for row in mirror.rows(tp, 0, end):
            key, value = row.content[1], row.content[2]
            if key is not None and value is not None:
                source, pair = parse_pair(key, value)
                found.setdefault(source, []).append(pair)
    return {tp: sorted(set(pairs)) for tp, pairs in found.items()}


def parse_pair(key: bytes, value: bytes) -> tuple[TP, Pair]:
    """Read one note: a string and an int32 as key, two int64 as value, big-endian."""
    (length,) = struct.unpack_from(">h", key)
    topic = key[2 : 2 + length].decode()
    (partition,) = struct.unpack_from(">i", key, 2 + length)
    source, mirror = struct.unpack(">qq", value)
    return TP(topic, partition), (source, mirror)


def is_beat_of(key: bytes | None, source: str) -> bool:
    """Say whether a heartbeat's key, two strings, names the mirror's source by this alias."""
    if key is None or len(key) < 2:
        return False
    (length,) = struct.unpack_from(">h", key)
    return key[2 : 2 + length] == source.encode()


def present(pairs: Sequence[Pair], low: int, mirror_low: int) -> list[Pair]:
    """Keep the pairs whose record is left on both sides: one that retention has taken is none to count from.  Pure."""
    return [(here, there) for here, there in pairs if here >= low and there >= mirror_low]


def nearest(pairs: Sequence[Pair], position: int) -> Pair:
    """Give the last pair at or before *position*, else the first one after it.  Pure."""
    index = bisect_right(pairs, (position, 1 << 62))
    return pairs[index - 1] if index else pairs[0]


class Bounds(Struct, frozen=True, kw_only=True):
    """Where the records of a partition begin and end on both sides."""

    low: int = 0  # of what is left on the source
    end: int  # up to where the mirror is known to have everything
    now: int  # of the source, with what came since
    mirror_low: int = 0
    mirror_end: int  # of committed records


def translate(source: Side, mirror: Side, tp: TP, position: int, pairs: Sequence[Pair], *, at: Bounds) -> Found:
    """Find the record that *position* points to on the mirror.

    A position before the first record that is left on the source is that record: it is what would be read next.
    """
    position = max(position, at.low)
    kept = present(pairs, at.low, at.mirror_low)
    if not kept:
        return _by_content(source, mirror, tp, position, at)
    here, there = nearest(kept, position)
    if here <= position:
        before = len(source.rows(tp, here, position))
        after = source.rows(tp, position, min(at.end, position + _AHEAD))
        rows = _forward(mirror, tp, there, before + 1, at.mirror_end)
        if len(rows) > before:
            return _compared(rows[before], after)
        return Found(offset=at.mirror_end, compared=False, equal=len(rows) == before and not after)
    between = source.rows(tp, position, here)
    if not between:
        return Found(offset=there, compared=False)
    rows = _backward(mirror, tp, there, len(between))
    if len(rows) < len(between):
        # The mirror began later than the position: all that it has is still to be read.
        return Found(offset=rows[0].offset if rows else there, compared=False, equal=False)
    return _compared(rows[-len(between)], between)


def overlap(source: Sequence[Row], mirror: Sequence[Row]) -> int:
    """Count the last records of *source* that *mirror* has, too, in a row; it may have begun later, and have gone on.  Pure."""
    here, there = [row.content for row in source], [row.content for row in mirror]
    ends = [end for end in range(1, len(there) + 1) if here and there[end - 1] == here[-1]]
    counts = [(end, min(len(here), end)) for end in ends]
    return max((count for end, count in counts if here[-count:] == there[end - count : end]), default=0)


def _by_content(source: Side, mirror: Side, tp: TP, position: int, at: Bounds) -> Found:
    """Look for the next record itself: few are left when none that was noted is, for every hundredth is noted."""
    after = source.rows(tp, position, min(at.now, position + _AHEAD))
    rows = mirror.rows(tp, at.mirror_low, min(at.mirror_end, at.mirror_low + SEARCHED))
    wanted = [row.content for row in after]
    for index, row in enumerate(rows):
        found = [one.content for one in rows[index : index + len(wanted)]]
        if wanted and found == wanted[: len(found)]:
            return Found(offset=row.offset, compared=True)
    if position >= at.end:  # the mirror need not have it yet, and everything that it has was read
        return Found(offset=at.mirror_end, compared=False)
    return Found(offset=rows[0].offset if rows else at.mirror_end, compared=False, equal=not after)


def _compared(row: Row, expected: Sequence[Row]) -> Found:
    if not expected:
        # A record came after the end that is known: it is the next one to read, with nothing to hold it against.
        return Found(offset=row.offset, compared=False)
    return Found(offset=row.offset, compared=True, equal=row.content == expected[0].content)


def _forward(side: Side, tp: TP, start: int, count: int, end: int) -> list[Row]:
    """Give *count* records from *start* on, or all there are."""
    span = 2 * count + 100
    while True:
        stop = min(end, start + span)
        rows = side.rows(tp, start, stop)
        if len(rows) >= count or stop >= end:
            return rows[:count]
        span *= 4


def _backward(side: Side, tp: TP, end: int, count: int) -> list[Row]:
    """Give the *count* records before *end*, or all there are."""
    span = 2 * count + 100
    while True:
        start = max(0, end - span)
        rows = side.rows(tp, start, end)
        if len(rows) >= count or start == 0:
            return rows[-count:]
        span *= 4


def _content(time: int, key: bytes | None, value: bytes | None, headers: Sequence[Sequence[object]] | None) -> Content:
    return time, key, value, tuple(tuple(pair) for pair in headers or ())
