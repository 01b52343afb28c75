"""Segments: the records of an offset range as one Parquet file, readable with stock tools.

Columns: ``offset``, ``timestamp`` (milliseconds; -1 is "none"), ``timestamp_type`` (0 create, 1 log append), ``key``,
``value`` (null is a tombstone) and ``headers``, a list that keeps order, duplicates, empty and null values.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.engine.errors import Corrupt
from include.engine.systems.kafka.ranges import SegmentFacts

CREATE_TIME, LOG_APPEND_TIME = 0, 1
_ROW_GROUP = 32_768  # records: what a reader that looks for a time has to decompress at least

SCHEMA = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("timestamp_type", pa.int8(), nullable=False),
        pa.field("key", pa.large_binary()),
        pa.field("value", pa.large_binary()),
        pa.field("headers", pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())]))),
    ]
)

Header = tuple[str, bytes | None]
_NO_HEADERS = pa.StructArray.from_arrays([pa.array([], pa.string()), pa.array([], pa.binary())], names=["key", "value"])


class Columns:
    """Some records on their way into a segment, column by column."""

    __slots__ = ("headers", "keys", "offsets", "times", "types", "values")

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.times: list[int] = []
        self.types: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[Sequence[Header] | None] = []

    def batch(self) -> pa.RecordBatch:
        """Give them as Arrow."""
        arrays = [
            pa.array(self.offsets, pa.int64()),
            pa.array(self.times, pa.int64()),
            pa.array(self.types, pa.int8()),
            pa.array(self.keys, pa.large_binary()),
            pa.array(self.values, pa.large_binary()),
            _headers_array(self.headers),
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


class Draft:
    """A segment that grows.  Records are turned and digested in small batches, while they are still in the CPU's cache.

    :param keep: hold the records, for :meth:`table`; without, only what is said about them
    """

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._batches: list[pa.RecordBatch] = []
        self._first = -1
        self._oldest = self._newest = 0
        self._digest = ContentDigest()
        self.records = 0
        self.raw_bytes = 0
        self.last = -1  # offset

    def add(self, columns: Columns) -> None:
        """Add records, at least one."""
        batch = columns.batch()
        if self._keep:
            self._batches.append(batch)
        self._digest.add(batch)
        oldest, newest = min(columns.times), max(columns.times)
        if not self.records:
            self._first, self._oldest, self._newest = columns.offsets[0], oldest, newest
        self._oldest, self._newest = min(oldest, self._oldest), max(newest, self._newest)
        self.records += batch.num_rows
        self.raw_bytes += _content_bytes(batch)
        self.last = columns.offsets[-1]

    def table(self) -> pa.Table:
        """Give all of its records."""
        return pa.Table.from_batches(self._batches, SCHEMA)

    def facts(self, *, topic: str, partition: int, start: int, stop: int) -> SegmentFacts:
        """Describe it.  It holds at least one record."""
        return SegmentFacts(
            topic=topic,
            partition=partition,
            start=start,
            stop=stop,
            first=self._first,
            last=self.last,
            records=self.records,
            raw_bytes=self.raw_bytes,
            oldest=self._oldest,
            newest=self._newest,
            content=self._digest.hexdigest(),
        )


def encode(table: pa.Table) -> memoryview:
    """Write a table as a segment, and give its bytes without a copy."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=["offset", "timestamp"],
        row_group_size=_ROW_GROUP,
        store_schema=True,
    )
    return memoryview(sink.getvalue())


def decode(raw: bytes | memoryview, *, what: str) -> pa.Table:
    """Read a segment.

    :raises Corrupt: when it is none
    """
    try:
        table = pq.read_table(io.BytesIO(raw))
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(
            f"{what} is not a readable segment: {error}", hint="restore from another backup and take a new one now"
        ) from error
    if table.schema.names != SCHEMA.names:
        raise Corrupt(f"{what} lacks columns of a segment: it has {table.schema.names}", hint="use another backup")
    return table.cast(SCHEMA)


class ContentDigest:
    """A digest of timestamps, keys, values and headers, in order.  Offsets and the timestamp's type do not count.

    A restored topic has other offsets, and its times are the records' own whatever the broker called them.  How the records
    are cut into batches does not matter: every column has a digest of its own, and the whole is that of those.
    """

    def __init__(self) -> None:
        self._parts = [hashlib.sha256() for _ in range(10)]

    def add(self, batch: pa.RecordBatch) -> None:
        """Go on with further records."""
        if not batch.num_rows:
            return
        times, header_counts, *rest = self._parts
        times.update(_numbers(batch.column("timestamp")))
        headers = batch.column("headers")
        header_counts.update(_numbers(pc.fill_null(pc.list_value_length(headers), 0).cast(pa.int32())))
        flat = pc.list_flatten(headers)
        columns = [batch.column("key"), batch.column("value"), flat.field("key"), flat.field("value")]
        for index, column in enumerate(columns):
            _digest_bytes(rest[2 * index], rest[2 * index + 1], column)

    def hexdigest(self) -> str:
        """Give it."""
        whole = hashlib.sha256()
        for part in self._parts:
            whole.update(part.digest())
        return whole.hexdigest()


def content_digest(table: pa.Table) -> str:
    """Give the :class:`ContentDigest` of a whole table."""
    digest = ContentDigest()
    for batch in table.to_batches():
        digest.add(batch)
    return digest.hexdigest()


def _numbers(column: pa.Array) -> memoryview:
    """Give the bytes of numbers without a null, as Arrow holds them: little-endian.  numpy would do, and is slow to load."""
    width = column.type.bit_width // 8
    return memoryview(column.buffers()[1])[column.offset * width : (column.offset + len(column)) * width]


def _digest_bytes(lengths: Any, contents: Any, column: pa.Array) -> None:
    if not len(column):
        return
    lengths.update(_numbers(pc.fill_null(pc.binary_length(column), -1).cast(pa.int64())))
    # Nulls may hide bytes in a sliced array: writing them as empty makes the buffer exactly what the lengths say.
    plain = column.cast(pa.large_binary())
    if plain.null_count:
        plain = plain.fill_null(b"")
    _, bounds, content = plain.buffers()
    ends = memoryview(bounds).cast("q")
    first, last = ends[plain.offset], ends[plain.offset + len(plain)]
    if content is not None:
        contents.update(memoryview(content)[first:last])


def _content_bytes(batch: pa.RecordBatch) -> int:
    """Count the bytes of keys, values and headers."""
    columns = [batch.column("key"), batch.column("value")]
    headers = batch.column("headers")
    if len(headers.values):
        columns += [headers.values.field("key"), headers.values.field("value")]
    return sum(pc.sum(pc.binary_length(column)).as_py() or 0 for column in columns)


def _headers_array(headers: Sequence[Sequence[Header] | None]) -> pa.Array:
    keys: list[str] = []
    values: list[bytes | None] = []
    if not any(headers):
        return pa.ListArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), len(headers) + 1), _NO_HEADERS)
    bounds = [0]
    for each in headers:
        if each:
            for key, value in each:
                keys.append(key)
                values.append(value)
        bounds.append(len(keys))
    items = pa.StructArray.from_arrays(
        [pa.array(keys, pa.string()), pa.array(values, pa.binary())], names=["key", "value"]
    )
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), items)
