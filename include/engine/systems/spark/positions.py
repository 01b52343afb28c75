"""How far a job is, from Kafka alone: the group that the job commits to, and the record that it would read next."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, NotFound, Unauthorized, Unreachable
from include.engine.probing import Once
from include.engine.streaming import FlowSeen
from include.engine.systems.spark.access import python_settings

_WAIT = 10.0  # seconds for the first record that waits


class Place(Struct, frozen=True, kw_only=True):
    """Where a group is in one partition.

    :param committed: what it reads next; None when it has never committed
    :param note: what the job wrote with it: figures of its last batch
    :param waits_since: time of the first record that waits, in seconds since the epoch; None when none does
    """

    partition: int
    low: int
    end: int
    committed: int | None
    note: Mapping[str, Any]
    waits_since: float | None = None

    @property
    def next(self) -> int:
        """The record that it would read next; a job that has never committed begins with the oldest."""
        return self.low if self.committed is None else max(self.committed, self.low)

    @property
    def lost(self) -> int:
        """Records that retention deleted before they were read."""
        return 0 if self.committed is None else max(0, self.low - self.committed)


def read(connection: Connection, group: str, topics: Sequence[str], *, timeout: float = 30.0) -> dict[str, list[Place]]:
    """Give where *group* is, for each of *topics* and each partition.

    :raises NotFound: when there is no such topic
    :raises Unreachable: when Kafka does not answer
    """
    with _consumer(connection, group, timeout) as consumer:
        found = {topic: _places(consumer, topic) for topic in topics}
        return {topic: _waiting(consumer, topic, places, timeout) for topic, places in found.items()}


class Places:
    """Where a group is, read once for all probes of a sweep that need it.

    :param connect: gives the connection to Kafka
    """

    def __init__(self, connect: Callable[[], Connection], group: str, topics: Sequence[str]) -> None:
        self._timeout = 30.0
        self._places = Once(lambda: read(connect(), group, topics, timeout=self._timeout))

    def read(self, timeout: float) -> dict[str, list[Place]]:
        """Read it, or give what another probe has read (see :func:`read`)."""
        self._timeout = timeout
        return self._places()


def seen(flow: str, topic: str, places: Sequence[Place], now: float) -> FlowSeen:
    """Sum up one flow.  Pure.

    :param now: seconds since the epoch
    """
    note: Mapping[str, Any] = max((place.note for place in places), key=lambda one: one.get("at", 0), default={})
    waiting = [place.waits_since for place in places if place.waits_since is not None]
    return FlowSeen(
        name=flow,
        topic=topic,
        position=sum(place.committed or 0 for place in places),
        behind=sum(place.end - place.next for place in places if place.waits_since is not None),
        seconds=max((now - since for since in waiting), default=0.0) if waiting else 0.0,
        lost=sum(place.lost for place in places),
        batch=note.get("batch"),
        batch_seconds=note["ms"] / 1000 if "ms" in note else None,
        input_rate=note.get("in"),
        processed_rate=note.get("out"),
        state_bytes=note.get("state"),
        dead_letters=note.get("dead"),
        at=note["at"] / 1000 if "at" in note else None,
    )


def _places(consumer: Any, topic: str) -> list[Place]:
    from kafka import TopicPartition

    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise NotFound(f"Kafka has no topic {topic}", hint="create it, or name another one in the inventory")
    partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
    lows, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    places = []
    for tp in partitions:
        committed = consumer.committed(tp, metadata=True)
        places.append(
            Place(
                partition=tp.partition,
                low=lows[tp],
                end=ends[tp],
                committed=committed.offset if committed and committed.offset >= 0 else None,
                note=_note(committed.metadata if committed else ""),
            )
        )
    return places


def _waiting(consumer: Any, topic: str, places: Sequence[Place], timeout: float) -> list[Place]:
    """Find the first record that waits in each partition that has one: markers of transactions are none."""
    from kafka import TopicPartition
    from msgspec.structs import replace

    open_ = {TopicPartition(topic, place.partition): place for place in places if place.next < place.end}
    times: dict[int, float] = {}
    if open_:
        consumer.assign(list(open_))
        for tp, place in open_.items():
            consumer.seek(tp, place.next)
        until = time.monotonic() + min(timeout, _WAIT)
        left = set(open_)
        while left:
            for tp, records in consumer.poll(timeout_ms=500, max_records=len(open_) * 8).items():
                if tp in left and records:
                    times[tp.partition] = records[0].timestamp / 1000
                    left.discard(tp)
                    consumer.pause(tp)
            left -= {tp for tp in left if consumer.position(tp) >= open_[tp].end}
            if left and time.monotonic() > until:
                raise Unreachable(
                    f"the records that wait in {topic} could not be read", hint="check the brokers; nothing is known"
                )
    return [replace(place, waits_since=times.get(place.partition)) for place in places]


def _note(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _consumer(connection: Connection, group: str, timeout: float) -> Iterator[Any]:
    from kafka import KafkaConsumer
    from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError

    consumer = None
    try:
        consumer = KafkaConsumer(
            **python_settings(connection),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            request_timeout_ms=int(timeout * 1000),
            bootstrap_timeout_ms=int(timeout * 1000),
            max_partition_fetch_bytes=64 << 10,
            fetch_max_wait_ms=100,
        )
        yield consumer
    except MainstayError:
        raise
    except (SaslAuthenticationFailedError, AuthorizationError) as error:
        raise Unauthorized(f"Kafka refuses the stream's group {group}: {error}", hint="check its connection") from error
    except (KafkaError, OSError, AssertionError) as error:
        raise Unreachable(
            f"Kafka does not say where {group} is: {type(error).__name__}: {error}", hint="check the brokers"
        ) from error
    finally:
        if consumer is not None:
            consumer.close(autocommit=False)
