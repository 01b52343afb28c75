"""Arithmetic of PostgreSQL's write-ahead log: positions, segment names, timelines.  Pure.

A position (LSN) is an ``int`` of bytes since the beginning of the log, written ``0/16B3748``.  The log is cut into segments
of equal size (16 MiB unless ``initdb --wal-segsize`` said otherwise), numbered from 0 and named after timeline and number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from include.engine.errors import Corrupt, Misconfigured

SEGMENT_BYTES = 16 << 20  # what initdb does unless told otherwise
_LOG_BYTES = 1 << 32  # the middle third of a segment's name counts units of 4 GiB

_LSN = re.compile(r"^([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})$")
_SEGMENT = re.compile(r"^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$")
_HISTORY = re.compile(r"^([0-9A-F]{8})\.history$")


def parse_lsn(text: str) -> int:
    """Give the byte position that ``0/16B3748`` stands for.

    :raises Misconfigured: when it is no LSN
    """
    match = _LSN.match(text.strip())
    if not match:
        raise Misconfigured(f"{text!r} is not an LSN", hint="write it as PostgreSQL does, like 0/16B3748")
    return int(match[1], 16) << 32 | int(match[2], 16)


def format_lsn(lsn: int) -> str:
    """Write a position as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def valid_segment_size(size: int) -> bool:
    """Say whether *size* (bytes) can be a segment size: a power of two from 1 MiB to 1 GiB."""
    return 1 << 20 <= size <= 1 << 30 and size & (size - 1) == 0


@dataclass(frozen=True, order=True)
class Segment:
    """One segment of the log.

    :param timeline: from 1
    :param number: from 0, counted in segments of *size*
    :param size: bytes; all segments of a cluster have the same
    """

    timeline: int
    number: int
    size: int = SEGMENT_BYTES

    @classmethod
    def at(cls, lsn: int, timeline: int, size: int = SEGMENT_BYTES) -> Segment:
        """Give the segment that holds the byte at *lsn*."""
        return cls(timeline, lsn // size, size)

    @classmethod
    def parse(cls, name: str, size: int = SEGMENT_BYTES) -> Segment | None:
        """Read a segment's file name; None when it is none, or none that *size* can produce."""
        match = _SEGMENT.match(name)
        if not match:
            return None
        timeline, log, within = (int(part, 16) for part in match.groups())
        if timeline == 0 or within >= _LOG_BYTES // size:
            return None
        return cls(timeline, log * (_LOG_BYTES // size) + within, size)

    @property
    def name(self) -> str:
        """Its file name in ``pg_wal``."""
        log, within = divmod(self.number, _LOG_BYTES // self.size)
        return f"{self.timeline:08X}{log:08X}{within:08X}"

    @property
    def start(self) -> int:
        """The position of its first byte."""
        return self.number * self.size

    @property
    def end(self) -> int:
        """The position after its last byte."""
        return self.start + self.size

    @property
    def next(self) -> Segment:
        """The segment after it on the same timeline."""
        return Segment(self.timeline, self.number + 1, self.size)


@dataclass(frozen=True)
class Fork:
    """A line of a history file: *timeline* ended at *lsn*, where the next one began."""

    timeline: int
    lsn: int
    reason: str = ""


def history_name(timeline: int) -> str:
    """Give the name of a timeline's history file.  Timeline 1 has none."""
    return f"{timeline:08X}.history"


def parse_history_name(name: str) -> int | None:
    """Read a history file's name; None when it is none."""
    match = _HISTORY.match(name)
    return int(match[1], 16) if match else None


def parse_history(text: str, *, where: str) -> tuple[Fork, ...]:
    """Read a history file: the timelines before this one, oldest first, each with the position where it was left.

    :param where: the file's name, for the error
    :raises Corrupt: when it is not such a file
    """
    forks: list[Fork] = []
    for line in (raw.strip() for raw in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        fields = line.split(None, 2)
        if len(fields) < 2 or not fields[0].isdecimal() or not _LSN.match(fields[1]):
            raise _no_history(where, repr(line[:80]))
        forks.append(Fork(int(fields[0]), parse_lsn(fields[1]), fields[2] if len(fields) > 2 else ""))
    if not forks:
        raise _no_history(where, "it is empty")
    if not all(a.timeline < b.timeline and a.lsn <= b.lsn for a, b in pairwise(forks)):
        raise _no_history(where, "its lines are out of order")
    return tuple(forks)


def _no_history(where: str, why: str) -> Corrupt:
    return Corrupt(
        f"{where} is not a timeline history: {why}",
        hint="fetch the file again from the server's pg_wal, or restore to a point before that timeline",
    )


@dataclass(frozen=True)
class Stretch:
    """A part of the way through the timelines: *timeline* from *start* up to *end* (None: as far as it goes)."""

    timeline: int
    start: int
    end: int | None


def route(timeline: int, start: int, goal: int, forks: Sequence[Fork]) -> tuple[Stretch, ...] | None:
    """Give the way that recovery takes from *start* on *timeline* to the timeline *goal*.

    :param forks: the history of *goal*; empty when it is *timeline* itself
    :returns: None when *goal* does not descend from *timeline* after *start*
    """
    if goal == timeline:
        return (Stretch(timeline, start, None),)
    ahead = [fork for fork in forks if fork.timeline >= timeline]
    if not ahead or ahead[0].timeline != timeline or ahead[0].lsn < start:
        return None
    stretches = []
    for fork in ahead:
        stretches.append(Stretch(fork.timeline, start, fork.lsn))
        start = fork.lsn
    return (*stretches, Stretch(goal, start, None))
