"""Ranges of offsets, to be read and as they were saved.  Nothing here loads a client or Arrow: planning needs neither."""

from __future__ import annotations

from msgspec import Struct


class Range(Struct, frozen=True, kw_only=True):
    """What to read: ``[start, stop)`` of a partition."""

    topic: str
    partition: int
    start: int
    stop: int


class SegmentFacts(Struct, frozen=True, kw_only=True):
    """What a manifest says about one segment, besides where it is stored."""

    topic: str
    partition: int
    start: int  # of the range that was read; the first record may come later
    stop: int  # exclusive: everything before it that could be read is in this segment or an earlier one
    first: int
    last: int
    records: int
    raw_bytes: int  # of keys, values and headers
    oldest: int  # least timestamp, milliseconds
    newest: int
    content: str  # digest of timestamps, keys, values and headers, in order, without offsets
