"""Reads the JSON documents of a bucket, one or many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from include.engine.errors import NotFound
from include.engine.model import Document, decode
from include.engine.store.bucket import Bucket

_READS_AT_ONCE = 16

Item = TypeVar("Item")
Found = TypeVar("Found")


def read(bucket: Bucket, key: str, kind: type[Document]) -> Document | None:
    """Read one; nothing when it is not there, or has gone since it was listed.

    :raises Corrupt: when it cannot be read
    """
    try:
        raw = bucket.read(key)
    except NotFound:
        return None
    return decode(raw, kind, where=key)


def each(names: Sequence[Item], one: Callable[[Item], Found]) -> list[Found]:
    """Read several side by side by *one*, and give what it gave, in their order."""
    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="documents") as pool:
        return list(pool.map(one, names))


def by_turns(names: Sequence[Item], one: Callable[[Item], Found]) -> Iterator[Found]:
    """Give the same, a few at a time: of large documents no more than these are in memory at once."""
    for start in range(0, len(names), _READS_AT_ONCE):
        yield from each(names[start : start + _READS_AT_ONCE], one)
