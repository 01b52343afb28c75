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
from msgspec import Struct

from include.engine.errors import Corrupt

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


class Columns:
    """Records on their way into a segment, column by column."""

    __slots__ = ("headers", "keys", "offsets", "raw_bytes", "times", "types", "values")

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.times: list[int] = []
        self.types: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[Sequence[Header] | None] = []
        self.raw_bytes = 0

    def __len__(self) -> int:
        return len(self.offsets)

    def table(self) -> pa.Table:
        """Give them as an Arrow table."""
        return pa.table(
            [
                pa.array(self.offsets, pa.int64()),
                pa.array(self.times, pa.int64()),
                pa.array(self.types, pa.int8()),
                pa.array(self.keys, pa.large_binary()),
                pa.array(self.values, pa.large_binary()),
                _headers_array(self.headers),
            ],
            schema=SCHEMA,
        )


def encode(table: pa.Table) -> bytes:
    """Write a table as a segment."""
    sink = io.BytesIO()
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
    return sink.getvalue()


def decode(raw: bytes, *, what: str) -> pa.Table:
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


def facts(table: pa.Table, *, topic: str, partition: int, start: int, stop: int, raw_bytes: int) -> SegmentFacts:
    """Describe the records of *table*, which must hold at least one."""
    offsets, times = table["offset"], table["timestamp"]
    return SegmentFacts(
        topic=topic,
        partition=partition,
        start=start,
        stop=stop,
        first=offsets[0].as_py(),
        last=offsets[-1].as_py(),
        records=table.num_rows,
        raw_bytes=raw_bytes,
        oldest=pc.min(times).as_py(),
        newest=pc.max(times).as_py(),
        content=content_digest(table),
    )


def content_digest(table: pa.Table) -> str:
    """Give a digest of timestamps, keys, values and headers, in order.  Offsets and the timestamp's type do not count.

    A restored topic has other offsets, and its times are the records' own whatever the broker called them.
    """
    digest = hashlib.sha256()
    table = table.combine_chunks()
    digest.update(table["timestamp"].to_numpy().tobytes())
    _digest_bytes(digest, table["key"])
    _digest_bytes(digest, table["value"])
    headers = pc.fill_null(pc.list_value_length(table["headers"]), 0)
    digest.update(headers.to_numpy().astype("<i4").tobytes())
    flat = pc.list_flatten(table["headers"])
    _digest_bytes(digest, pc.struct_field(flat, "key"))
    _digest_bytes(digest, pc.struct_field(flat, "value"))
    return digest.hexdigest()


def _digest_bytes(digest: Any, column: pa.ChunkedArray) -> None:
    lengths = pc.fill_null(pc.binary_length(column), -1)
    digest.update(lengths.to_numpy().astype("<i8").tobytes())
    for chunk in column.chunks:
        if not len(chunk):
            continue
        # Nulls may hide bytes in a sliced array: writing them as empty makes the buffer exactly what the lengths say.
        plain = chunk.cast(pa.large_binary()).fill_null(b"")
        _, bounds, content = plain.buffers()
        ends = memoryview(bounds).cast("q")
        first, last = ends[plain.offset], ends[plain.offset + len(plain)]
        if content is not None:
            digest.update(memoryview(content)[first:last])


def _headers_array(headers: Sequence[Sequence[Header] | None]) -> pa.Array:
    bounds, keys, values = [0], [], []
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
