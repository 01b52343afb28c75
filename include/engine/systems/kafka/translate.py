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

from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.isolation import Child, Frame
from include.engine.systems.kafka.ranges import Range

Content = tuple[int, bytes | None, bytes | None, tuple[tuple[object, ...], ...]]  # time, key, value, headers
Pair = tuple[int, int]  # offset on the source, offset on the mirror, of the same record


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
    """One cluster's records, read in a child process that lives as long as the context."""

    def __init__(self, settings: Mapping[str, str], *, patience: float = 120.0) -> None:
        self._settings = dict(settings)
        self._child = Child("reader", patience=patience)
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
        self._child.send({"settings": self._settings, "ranges": [msgspec.to_builtins(wanted)], **asked})
        found = []
        for frame in self._frames:
            if "finished" in frame:
                break
            if "segment" in frame or "rows" in frame:
                found.append(frame)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.kill()
        self._child.__exit__(kind, error, trace)


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


def nearest(pairs: Sequence[Pair], position: int) -> Pair:
    """Give the last pair at or before *position*, else the first one after it.  Pure."""
    index = bisect_right(pairs, (position, 1 << 62))
    return pairs[index - 1] if index else pairs[0]


def translate(
    source: Side, mirror: Side, tp: TP, position: int, pairs: Sequence[Pair], *, source_end: int, mirror_end: int
) -> Found:
    """Find the record that *position* points to on the mirror.

    :param source_end: up to where the mirror is known to have everything
    :param mirror_end: the mirror's end, of committed records
    """
    here, there = nearest(pairs, position)
    if here <= position:
        before = len(source.rows(tp, here, position))
        after = source.rows(tp, position, min(source_end, position + 200))
        rows = _forward(mirror, tp, there, before + 1, mirror_end)
        if len(rows) > before:
            return _compared(rows[before], after)
        return Found(offset=mirror_end, compared=False, equal=len(rows) == before and not after)
    between = source.rows(tp, position, here)
    if not between:
        return Found(offset=there, compared=False)
    rows = _backward(mirror, tp, there, len(between))
    if len(rows) < len(between):
        # The mirror began later than the position: all that it has is still to be read.
        return Found(offset=rows[0].offset if rows else there, compared=False, equal=False)
    return _compared(rows[-len(between)], between)


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
