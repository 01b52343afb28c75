"""The loading child: writes the records of segments to partitions, in order, idempotently.

In: settings, then per partition a ``begin`` frame and its segments.  Out: for each segment what was selected, loaded and seen.
A segment is acknowledged when all of its records are.  Since only we write to the topic, and without transactions, the end
offset of a partition tells how many records an attempt that died had written: the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from include.engine.errors import TransientError
from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.isolation import Frame, serve
from include.engine.systems.kafka.raw_produce import RawProducer
from include.engine.systems.kafka.reader import failure
from include.engine.systems.kafka.segments import content_digest, decode

_BATCH = 5_000
_TIMEOUT_MS = 90_000  # for one record, elections and restarts of brokers included

PRODUCER = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.size": 900_000,
    "message.max.bytes": 1_000_000_000,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 262_144,
    "message.timeout.ms": _TIMEOUT_MS,
    "delivery.report.only.error": True,
    "allow.auto.create.topics": False,
    "log_level": 2,
}


class Loaded(Struct, frozen=True, kw_only=True):
    """What became of one segment."""

    selected: int  # records that the point in time allows
    loaded: int  # of those, written now; the others were there
    bytes: int
    content: str  # digest of the selected records


def work(frames: Iterator[Frame], send: Callable[[Frame], None]) -> None:
    """Load what the frames bring."""
    order = next(frames)
    loading: _Loading | None = None
    with RawProducer(order["admin"]) as raw:
        producer = _producer(order["settings"])
        for frame in frames:
            if "begin" in frame:
                begin = frame["begin"]
                loading = _Loading(producer, raw, **begin, until=order.get("until"))
            else:
                assert loading is not None
                send({"loaded": msgspec.to_builtins(loading.load(frame.get("raw", b""), what=frame["what"]))})


def select(table: pa.Table, until: int | None) -> pa.Table:
    """Keep the records up to a point in time, in milliseconds; those without a timestamp are kept."""
    return table if until is None else table.filter(pc.less_equal(table["timestamp"], until))


class _Loading:
    """One partition on its way into a topic."""

    def __init__(
        self, producer: Any, raw: RawProducer, *, topic: str, partition: int, skip: int, until: int | None
    ) -> None:
        self._producer = producer
        self._raw = raw
        self._topic = topic
        self._partition = partition
        self._skip = skip
        self._until = until
        self._failed: list[Any] = []

    def load(self, raw: bytes, *, what: str) -> Loaded:
        """Write one segment and wait until every record of it is acknowledged."""
        chosen = select(decode(raw, what=what), self._until)
        content = content_digest(chosen) if chosen.num_rows else ""
        skipped = min(self._skip, chosen.num_rows)
        self._skip -= skipped
        rest = chosen.slice(skipped)
        for start in range(0, rest.num_rows, _BATCH):
            self._write(rest.slice(start, _BATCH))
        self._flush()
        return Loaded(selected=chosen.num_rows, loaded=rest.num_rows, bytes=chosen.nbytes, content=content)

    def _write(self, table: pa.Table) -> None:
        produce, topic, partition, told = self._producer.produce, self._topic, self._partition, self._told
        rows = zip(
            table["timestamp"].to_pylist(),
            table["key"].to_pylist(),
            table["value"].to_pylist(),
            table["headers"].to_pylist(),
            strict=True,
        )
        for time, key, value, headers in rows:
            pairs = [(h["key"], h["value"]) for h in headers] if headers else None
            if time == 0:  # librdkafka takes 0 for "now": the very first millisecond of 1970 needs another way
                self._flush()
                self._raw.produce(TP(topic, partition), time, key=key, value=value, headers=pairs or [])
                continue
            while True:
                try:
                    if pairs:
                        produce(topic, value, key, partition, told, None, time, pairs)
                    else:
                        produce(topic, value, key, partition, told, None, time)
                    break
                except BufferError:
                    self._producer.poll(0.05)
                    self._check()
        self._producer.poll(0)
        self._check()

    def _flush(self) -> None:
        left = self._producer.flush(_TIMEOUT_MS / 1000 + 10)
        self._check()
        if left:
            raise TransientError(
                f"{left} records of {self._topic}-{self._partition} were not acknowledged in time",
                hint="check that the partition has enough in-sync replicas; run it again, it goes on where it stopped",
            )

    def _told(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failed.append(error)

    def _check(self) -> None:
        if self._failed:
            raise failure(self._failed[0], f"{self._topic}-{self._partition}")


def _producer(settings: dict[str, str]) -> Any:
    from confluent_kafka import Producer

    return Producer(settings | PRODUCER)


if __name__ == "__main__":
    serve(work)
