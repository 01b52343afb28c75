"""The child that finds the first record of many offset ranges at once, to tell how old what waits there is.

In: a frame with settings, ranges and a time limit.  Out: one frame with the first committed record's offset and timestamp of
every range that holds a record; markers and aborted records are none.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from include.engine.errors import Unreachable
from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.isolation import Child, Frame, serve
from include.engine.systems.kafka.ranges import Range
from include.engine.systems.kafka.reader import CONSUMER, failure

_FEW = {
    "group.id": "mainstay-probe",
    "auto.offset.reset": "earliest",  # retention may take what was looked for: the first that is left is next
    "queued.min.messages": 1,
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 16_384,
    "fetch.message.max.bytes": 65_536,
    "fetch.max.bytes": 4 << 20,
}


Place = tuple[TP, int]  # where a range starts


def first_times(
    settings: Mapping[str, str], wanted: Sequence[Range], *, timeout: float, committed: bool = True
) -> dict[Place, int | None]:
    """Give the timestamp, in milliseconds, of each range's first record; ranges without a record are left out.

    A record that has no timestamp has None: its age is not known, and not zero.

    :param wanted: several may be of one partition
    :param committed: do not look at records of open transactions, and behind them
    :raises Unreachable: when not every range was looked into within *timeout* seconds
    """
    ranges = [one for one in wanted if one.start < one.stop]
    if not ranges:
        return {}
    with Child("firsts", patience=timeout + 10) as child:
        isolation = {"isolation.level": "read_committed" if committed else "read_uncommitted"}
        order = {"settings": dict(settings), "ranges": msgspec.to_builtins(ranges), "timeout": timeout}
        child.send(order | {"isolation": isolation})
        child.finish_sending()
        found: dict[Place, int | None] = {}
        for frame in child.frames():
            for topic, partition, start, at in frame["firsts"]:
                found[TP(topic, partition), start] = at if at >= 0 else None
    return found


def age(found: Mapping[Place, int | None], place: Place, now: datetime) -> float | None:
    """Give the seconds since the first record after *place*; 0 when there is none, None when it has no timestamp."""
    if place not in found:
        return 0.0
    at = found[place]
    return None if at is None else max(0.0, now.timestamp() - at / 1000)


def work(frames: Iterator[Frame], send: Callable[[Frame], None]) -> None:
    """Look for what each frame asks for."""
    from confluent_kafka import Consumer

    for order in frames:
        consumer = Consumer(order["settings"] | CONSUMER | _FEW | order["isolation"])
        deadline = time.monotonic() + order["timeout"]
        for ranges in _rounds(msgspec.convert(order["ranges"], list[Range])):
            send({"firsts": _look(consumer, ranges, deadline)})


def _rounds(ranges: Sequence[Range]) -> list[list[Range]]:
    """Split *ranges* so that a partition is in no round twice: a consumer has one position in each."""
    rounds: list[list[Range]] = []
    times: Counter[tuple[str, int]] = Counter()
    for one in ranges:
        number = times[one.topic, one.partition]
        times[one.topic, one.partition] += 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(one)
    return rounds


def _look(consumer: Any, ranges: Sequence[Range], deadline: float) -> list[tuple[str, int, int, int]]:
    from confluent_kafka import KafkaError, TopicPartition

    left = {(one.topic, one.partition): one for one in ranges}
    consumer.assign([TopicPartition(one.topic, one.partition, one.start) for one in ranges])
    found: list[tuple[str, int, int, int]] = []
    while left:
        if time.monotonic() >= deadline:
            named = ", ".join(f"{topic}-{partition}" for topic, partition in sorted(left)[:5])
            raise Unreachable(
                f"the next records of {len(left)} partitions were not read in time: {named}",
                hint="check that the partitions have leaders; ask again",
            )
        done = []
        for message in consumer.consume(min(500, len(left)), 0.1):
            where = (message.topic(), message.partition())
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name
                raise failure(error, f"{where[0]}-{where[1]}")
            wanted = left.pop(where, None)
            if wanted is None:
                continue  # it came before the pause did
            done.append(TopicPartition(*where))
            if error is None and message.offset() < wanted.stop:
                found.append((*where, wanted.start, message.timestamp()[1]))
        if done:
            consumer.pause(done)
    consumer.resume(
        [TopicPartition(one.topic, one.partition) for one in ranges]
    )  # a pause would outlive the assignment
    consumer.unassign()
    return found


if __name__ == "__main__":
    serve(work)
