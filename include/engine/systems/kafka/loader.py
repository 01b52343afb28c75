"""The loading child: writes the records of segments to partitions, in order, idempotently.

In: settings, then per partition a ``begin`` frame and its segments.  Out: for each segment what was selected, loaded and seen.
A segment is acknowledged when all of its records are.  What a partition holds is always the first so many of its records: a record
waits for its broker as long as it takes, and when one fails, none that comes after it is written.  So the next attempt goes on
from the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from include.engine.errors import MainstayError, Unreachable
from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.isolation import Frame, beating, serve
from include.engine.systems.kafka.raw_produce import RawProducer
from include.engine.systems.kafka.reader import failure
from include.engine.systems.kafka.refusals import foreign
from include.engine.systems.kafka.segments import ContentDigest, content_digest, decode

_BATCH = 5_000
PATIENCE = 90.0  # seconds in which no record is acknowledged, elections and restarts of brokers included

PRODUCER = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.size": 900_000,
    "message.max.bytes": 1_000_000_000,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 262_144,
    # A record that is given up while later ones go on would leave a hole that the next attempt takes for written.
    "message.timeout.ms": 0,
    "enable.gapless.guarantee": True,
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
    producer = _producer(order["settings"])
    beat = beating(send)
    try:
        with RawProducer(order["admin"]) as raw:
            for frame in frames:
                if "begin" in frame:
                    begin = frame["begin"]
                    loading = _Loading(producer, raw, **begin, until=order.get("until"), beat=beat)
                else:
                    assert loading is not None
                    send({"loaded": msgspec.to_builtins(loading.load(frame.get("raw", b""), what=frame["what"]))})
    except BaseException:
        producer.purge()  # nothing more may be written once a record is missing
        raise


def select(table: pa.Table, until: int | None) -> pa.Table:
    """Keep the records up to a point in time, in milliseconds; those without a timestamp are kept."""
    return table if until is None else table.filter(pc.less_equal(table["timestamp"], until))


class _Loading:
    """One partition on its way into a topic."""

    def __init__(
        self,
        producer: Any,
        raw: RawProducer,
        *,
        topic: str,
        partition: int,
        skip: int,
        there: str,
        until: int | None,
        beat: Callable[[], None],
    ) -> None:
        self._producer = producer
        self._raw = raw
        self._topic = topic
        self._partition = partition
        self._skip = skip  # records that are there already, with this digest
        self._there = there
        self._skipped = ContentDigest()
        self._until = until
        self._beat = beat
        self._failed: list[Any] = []

    def load(self, raw: bytes, *, what: str) -> Loaded:
        """Write one segment and wait until every record of it is acknowledged."""
        chosen = select(decode(raw, what=what), self._until)
        content = content_digest(chosen) if chosen.num_rows else ""
        skipped = min(self._skip, chosen.num_rows)
        if skipped:
            self._pass_over(chosen.slice(0, skipped))
        rest = chosen.slice(skipped)
        for start in range(0, rest.num_rows, _BATCH):
            self._write(rest.slice(start, _BATCH))
        self._flush()
        return Loaded(selected=chosen.num_rows, loaded=rest.num_rows, bytes=chosen.nbytes, content=content)

    def _pass_over(self, table: pa.Table) -> None:
        for batch in table.to_batches():
            self._skipped.add(batch)
        self._skip -= table.num_rows
        if not self._skip and self._skipped.hexdigest() != self._there:
            raise foreign(f"{self._topic}-{self._partition}")

    def _write(self, table: pa.Table) -> None:
        from confluent_kafka import KafkaException

        topic, partition = self._topic, self._partition
        rows = zip(
            table["timestamp"].to_pylist(),
            table["key"].to_pylist(),
            table["value"].to_pylist(),
            table["headers"].to_pylist(),
            strict=True,
        )
        produce, told = self._producer.produce, self._told
        for time, key, value, headers in rows:
            pairs = [(h["key"], h["value"]) for h in headers] if headers else None
            if time == 0:  # librdkafka takes 0 for "now": the very first millisecond of 1970 needs another way
                self._flush()
                self._raw.produce(TP(topic, partition), time, key=key, value=value, headers=pairs or [])
                continue
            asked = (topic, value, key, partition, told, None, time, *((pairs,) if pairs else ()))
            try:
                produce(*asked)
            except BufferError:
                self._until_done(partial(self._had_room, asked))
            except KafkaException as error:
                raise self._refusal(error) from error
        self._called(lambda: self._producer.poll(0))
        self._check()
        self._beat()

    def _had_room(self, asked: tuple[Any, ...]) -> bool:
        self._producer.poll(0.05)
        try:
            self._producer.produce(*asked)
        except BufferError:
            return False
        return True

    def _called(self, call: Callable[[], Any]) -> Any:
        """Call the client.  A fatal error is raised out of any call, and spoils the reports that are given in the same call."""
        from confluent_kafka import KafkaError, KafkaException

        try:
            return call()
        except (KafkaException, KafkaError, SystemError) as error:  # type: ignore[misc]  # KafkaError is raised, whatever its bases
            raise self._refusal(error) from error

    def _flush(self) -> None:
        self._until_done(lambda: self._producer.flush(1.0) == 0)

    def _until_done(self, done: Callable[[], bool]) -> None:
        """Wait as long as records are acknowledged.

        :raises Unreachable: when none was for a long time
        """
        left, moved = len(self._producer), monotonic()
        while not self._called(done):
            self._check()
            if len(self._producer) < left:
                left, moved = len(self._producer), monotonic()
                self._beat()
            elif monotonic() - moved > PATIENCE:
                raise Unreachable(
                    f"{left} records of {self._topic}-{self._partition} were not acknowledged for {PATIENCE:.0f} s",
                    hint="check that the partition has enough in-sync replicas; run it again, it goes on where it stopped",
                )
        self._check()

    def _told(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failed.append(error)

    def _check(self) -> None:
        if self._failed:
            raise failure(self._failed[0], f"{self._topic}-{self._partition}")

    def _refusal(self, error: BaseException) -> MainstayError:
        """Give the first cause: after it, every record fails because one has failed."""
        cause: Any = error.__cause__ if isinstance(error, SystemError) else error
        told = cause.args[0] if isinstance(cause, Exception) and hasattr(cause.args[0], "code") else cause
        where = f"{self._topic}-{self._partition}"
        if self._failed or hasattr(told, "code"):
            return failure(self._failed[0] if self._failed else told, where)
        return Unreachable(f"the Kafka client failed on {where}: {error}", hint="the run can be repeated")


def _producer(settings: dict[str, str]) -> Any:
    from confluent_kafka import Producer

    return Producer(settings | PRODUCER)


if __name__ == "__main__":
    serve(work)
