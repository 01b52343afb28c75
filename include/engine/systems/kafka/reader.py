"""The reading child: consumes ranges of partitions, read_committed, and gives them back as finished segments.

In: frames with settings, limits, ranges and the form: whole segments, their facts alone, or plain rows.  Out: a frame per
segment, one per hole that retention tore while we read, one per finished range.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from include.engine.errors import Incomplete, MainstayError, NotFound, PermanentError, Unauthorized, Unreachable
from include.engine.systems.kafka.isolation import Frame, beating, serve
from include.engine.systems.kafka.ranges import Range
from include.engine.systems.kafka.segments import CREATE_TIME, LOG_APPEND_TIME, Columns, Draft, encode

_BATCH = 10_000
_WAIT = 0.1  # seconds: `consume` waits all of it for a full batch, even after the end of the partition
_PATIENCE = 90.0  # seconds without a record or an end, with a leader election and a broker's restart in mind

CONSUMER = {
    "group.id": "mainstay-reader",  # never committed to, never joined: assign() only
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",  # retention that overtakes us must be seen, not skipped
    "isolation.level": "read_committed",
    "check.crcs": True,
    # A broker answers one fetch at a time: the one that waits at the end of a partition is waited for by the next partition.
    "fetch.wait.max.ms": 10,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 131_072,
    "fetch.message.max.bytes": 8 << 20,
    "fetch.max.bytes": 64 << 20,
    "receive.message.max.bytes": 1 << 30,
    "allow.auto.create.topics": False,
    "log_level": 2,
}


class Limits(Struct, frozen=True, kw_only=True):
    """How large a segment may get."""

    records: int = 500_000
    raw_bytes: int = 64 << 20
    cuts: tuple[int, ...] = ()  # instead: segments of exactly these many records, for comparing with known ones


def work(frames: Iterator[Frame], send: Callable[[Frame], None]) -> None:
    """Read everything that each frame asks for, until there are no more frames."""
    from confluent_kafka import Consumer

    consumer: Any = None
    beat = beating(send)
    for order in frames:
        consumer = consumer or Consumer(order["settings"] | CONSUMER)
        for wanted in msgspec.convert(order["ranges"], list[Range]):
            cuts = tuple(order.get("cuts", {}).get(f"{wanted.topic}-{wanted.partition}", ()))
            limits = msgspec.convert(order.get("limits", {}) | {"cuts": cuts}, Limits)
            _Reading(consumer, wanted, limits, send, form=order.get("form", "segments"), beat=beat).run()
            send({"finished": msgspec.to_builtins(wanted)})


class _Reading:
    """One range on its way into segments."""

    def __init__(
        self,
        consumer: Any,
        wanted: Range,
        limits: Limits,
        send: Callable[[Frame], None],
        *,
        form: str = "segments",
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._form = form
        self._beat = beat
        self._consumer = consumer
        self._wanted = wanted
        self._limits = limits
        self._send = send
        self._keep = form == "segments"
        self._draft = Draft(keep=self._keep)
        self._start = wanted.start
        self._cuts = list(reversed(limits.cuts))

    def run(self) -> None:
        from confluent_kafka import KafkaError, Message

        wanted = self._wanted
        self._assign(wanted.start)
        alive = time.monotonic()
        ended = False
        while not ended:
            # No more than can come: a full batch is given at once, a short one after the whole wait.
            messages = self._consumer.consume(max(1, min(_BATCH, wanted.stop - self._here)), _WAIT)
            if messages:
                alive = time.monotonic()
                self._beat()
            elif time.monotonic() - alive > _PATIENCE:
                raise Unreachable(
                    f"{wanted.topic}-{wanted.partition} gave no record for {_PATIENCE:.0f} s before offset {wanted.stop}",
                    hint="check that the partition has a leader; the run can be repeated",
                )
            if messages and not any(map(Message.error, messages)):
                ended = self._take(messages)
                continue
            good = []
            for message in messages:
                error = message.error()
                if error is None:
                    good.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name
                    # A new leader may end earlier than the old one did, until it knows what its followers have.
                    ended = message.offset() >= wanted.stop
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
                    self._take(good)
                    good = []
                    self._resume_after_hole()
                else:
                    _judge(error, wanted)
            ended = self._take(good) or ended
        self._flush(wanted.stop)

    @property
    def _here(self) -> int:
        return self._draft.last + 1 if self._draft.records else self._start

    def _assign(self, offset: int) -> None:
        from confluent_kafka import TopicPartition

        self._consumer.assign([TopicPartition(self._wanted.topic, self._wanted.partition, offset)])

    def _take(self, messages: list[Any]) -> bool:
        """Keep what lies before the end of the range; give whether the end was reached."""
        if not messages:
            return False
        reached = bool(messages[-1].offset() >= self._wanted.stop - 1)
        if messages[-1].offset() >= self._wanted.stop:
            messages = [message for message in messages if message.offset() < self._wanted.stop]
        while messages:
            room = self._room()
            self._append(messages[:room])
            messages = messages[room:]
            if self._full():
                self._flush(self._here)
        return reached

    def _room(self) -> int:
        most = self._cuts[-1] if self._cuts else self._limits.records
        # A quarter of a batch at a time, so that large records do not take a segment far past its limit.
        return max(1, min(most - self._draft.records, _BATCH // 4))

    def _full(self) -> bool:
        if self._limits.cuts:
            return bool(self._cuts) and self._draft.records >= self._cuts[-1]
        return self._draft.records >= self._limits.records or self._draft.raw_bytes >= self._limits.raw_bytes

    def _append(self, messages: list[Any]) -> None:
        from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

        message: Any = Message
        columns = Columns()  # by map, and not one by one: this is what a backup spends its time on
        kinds, times = zip(*map(message.timestamp, messages), strict=True)
        columns.offsets = list(map(message.offset, messages))
        columns.keys = list(map(message.key, messages))
        columns.values = list(map(message.value, messages))
        try:
            columns.headers = list(map(message.headers, messages))
        except (UnicodeDecodeError, SystemError) as error:
            raise PermanentError(
                f"{self._wanted.topic}-{self._wanted.partition}: a record of [{columns.offsets[0]}, {columns.offsets[-1]}] has a "
                "header whose key is no UTF-8, which the Kafka client cannot give",
                hint="exclude the topic in the inventory until the record has expired, or export it with Kafka's own tools",
            ) from error
        columns.times = list(times)
        columns.types = [LOG_APPEND_TIME if kind == TIMESTAMP_LOG_APPEND_TIME else CREATE_TIME for kind in kinds]
        if self._form == "rows":
            contents = zip(columns.times, columns.keys, columns.values, columns.headers, strict=True)
            self._send({"rows": list(zip(columns.offsets, contents, strict=True))})
            self._start = columns.offsets[-1] + 1
        else:
            self._draft.add(columns)

    def _flush(self, stop: int) -> None:
        if self._draft.records:
            described = self._draft.facts(
                topic=self._wanted.topic, partition=self._wanted.partition, start=self._start, stop=stop
            )
            raw = encode(self._draft.table()) if self._keep else b""
            self._send({"segment": msgspec.to_builtins(described), "raw": raw})
            self._draft = Draft(keep=self._keep)
            if self._cuts:
                self._cuts.pop()
        self._start = stop

    def _resume_after_hole(self) -> None:
        """Retention has moved past our position: say which offsets are gone, and go on after them."""
        from confluent_kafka import KafkaException, TopicPartition

        wanted = self._wanted
        here = self._here
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(wanted.topic, wanted.partition), timeout=30, cached=False
            )
        except KafkaException as error:
            _judge(error.args[0], wanted)
            raise
        if high < here:
            raise Incomplete(
                f"{wanted.topic}-{wanted.partition} ends at {high} now, before offset {here} that it had: its log was truncated",
                hint="a leader was elected uncleanly or the topic was recreated; take a new set",
            )
        self._flush(here)
        if low <= here:  # it was the broker that had not caught up yet
            self._assign(here)
            return
        self._send(
            {
                "gap": {
                    "topic": wanted.topic,
                    "partition": wanted.partition,
                    "start": here,
                    "stop": min(low, wanted.stop),
                }
            }
        )
        self._start = min(low, wanted.stop)
        self._assign(low)


def _judge(error: Any, wanted: Range) -> None:
    """Raise what a person must know; return when librdkafka mends it by itself."""
    from confluent_kafka import KafkaError

    where = f"{wanted.topic}-{wanted.partition}"
    code = error.code()
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):  # noqa: SLF001
        raise Incomplete(
            f"{where} is gone: it was deleted after the cut",
            hint="take a new set; exclude the topic in the inventory if it comes and goes",
        )
    raise failure(error, where)


def failure(error: Any, where: str) -> MainstayError:
    """Turn librdkafka's error into ours."""
    from confluent_kafka import KafkaError

    code, said = error.code(), f"{where}: {error.str()}"
    if code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL):  # noqa: SLF001
        return Unauthorized(
            f"Kafka did not accept the credentials, {said}", hint="check the connection's login and TLS files"
        )
    if code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
        return Unauthorized(
            f"Kafka does not let us read or write {said}", hint="docs/kafka.md lists the ACLs that are needed"
        )
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):  # noqa: SLF001
        return NotFound(f"Kafka does not know {said}", hint="the topic was deleted in the meantime")
    if (
        code == KafkaError.MSG_SIZE_TOO_LARGE or "Message size too large" in said
    ):  # the cause of a fatal error is text only
        return PermanentError(
            f"a record is larger than the target takes, {said}",
            hint="raise max.message.bytes of the topic (and message.max.bytes of the brokers) on the target",
        )
    return Unreachable(f"Kafka failed on {said}", hint="check the brokers; the run can be repeated")


if __name__ == "__main__":
    serve(work)
