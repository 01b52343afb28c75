"""Looks for what became of records: each of a window is a row in its table, or a dead letter, or lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Unreachable
from include.engine.model import Reconciled
from include.engine.systems.spark.access import python_settings
from include.engine.systems.spark.records import Key, compared_columns, key_columns, key_of, says
from include.engine.systems.spark.retention import retentions
from include.engine.systems.spark.settings import Flow
from include.engine.systems.spark.tables import Tables

WINDOW = 5_000  # records of each flow, at most
_MOST_NAMED = 20
_PATIENCE = 30.0  # seconds for the next records of a partition
_ASKED_WITHIN = 60.0  # seconds until all rows were looked for
_CLOCKS_DIFFER = 600_000  # milliseconds that a producer's clock may be ahead of the job's

Where = tuple[int, int]  # partition and offset


class Read(Struct, frozen=True):
    """One record."""

    at: Where
    time: int  # milliseconds
    value: bytes | None
    headers: Mapping[str, bytes]


def reconcile(
    name: str,
    flow: Flow,
    upto: Mapping[int, int],
    *,
    log: Connection,
    tables: Connection,
    window: int = WINDOW,
    restored: bool = False,
    count: int | None = None,
) -> Reconciled:
    """Look for what became of the newest *window* records of *flow* before *upto*.

    Records that are older than rows of the table live are left out, and broken ones that are older than dead letters are kept:
    what became of them, nobody can tell any more.

    :param upto: by partition, exclusive
    :param restored: nobody writes here but the job.  Then a row has to say what one of the records with its key says; of two in
        different partitions nobody knows which was the last.  And dead letters name offsets of another topic: their content tells
    :param count: rows of the table, about, when somebody has counted them
    :raises Unreachable: when the log or the table could not be read
    """
    each = max(1, window // max(1, len(upto)))
    with consuming(log) as consumer:
        found = list(read(consumer, flow.topic, {p: (end - each, end) for p, end in upto.items()}))
        since = min((record.time for record in found), default=None)
        letters = list(_letters(consumer, flow, since)) if found else []
    columns, wanted = key_columns(flow.shape), compared_columns(flow.shape) if restored else ()
    with Tables(tables) as session:
        records = living(found, session.lifetime(flow.table), time.time())
        by_key, broken = _sorted(flow.shape, records)
        keys = sorted(by_key, key=str)
        rows = session.rows(flow.table, columns, keys, wanted=wanted, count=count) if keys else []
    there = {
        key
        for key, row in zip(keys, rows, strict=True)
        if row is not None and (not restored or any(_agrees(row, said) for said in by_key[key].values()))
    }
    dead_places = {place for letter in letters if (place := _source(letter, flow.topic))} if not restored else set()
    told = (
        {record.at for record in _with_letters(broken, letters)} if restored else {r.at for r in broken} & dead_places
    )
    dead_keys = {key for letter in letters if (key := key_of(flow.shape, letter.value))}
    absent = [key for key in keys if key not in there]
    refused = {key for key in absent if key in dead_keys or set(by_key[key]) & dead_places}
    untold = [record for record in broken if record.at not in told]
    unexplained = living(untold, _kept(log, flow.letters) if untold else 0, time.time())
    lost = [_named(key) for key in absent if key not in refused]
    lost += [f"{flow.topic}-{record.at[0]} at {record.at[1]}" for record in unexplained]
    expired = len(untold) - len(unexplained)
    return Reconciled(
        flow=name,
        since=_moment(since),
        until=_moment(max((record.time for record in records), default=None)),
        records=len(keys) + len(broken) - expired,
        rows=len(keys) - len(absent),
        dead_letters=len(refused) + len(told),
        missing=tuple(lost[:_MOST_NAMED]),
        expired=len(found) - len(records) + expired,
    )


def read(consumer: Any, topic: str, ranges: Mapping[int, tuple[int, int]]) -> Iterator[Read]:
    """Give the committed records of *topic* in ``[start, stop)`` of each partition, as far as they are still there.

    :raises Unreachable: when they do not come
    """
    from kafka import TopicPartition

    wanted = {TopicPartition(topic, partition): span for partition, span in ranges.items()}
    lows = consumer.beginning_offsets(list(wanted))
    left = {tp: stop for tp, (start, stop) in wanted.items() if max(start, lows[tp]) < stop}
    consumer.assign(list(left))
    for tp in left:
        consumer.seek(tp, max(wanted[tp][0], lows[tp]))
    quiet = 0.0
    while left:
        found = consumer.poll(timeout_ms=1000)
        quiet = 0.0 if found else quiet + 1.0
        for tp, records in found.items():
            for one in records:
                if tp in left and one.offset < left[tp]:
                    yield Read((tp.partition, one.offset), one.timestamp, one.value, dict(one.headers))
        for tp in [tp for tp in left if consumer.position(tp) >= left[tp]]:
            del left[tp]
            consumer.pause(tp)
        if left and quiet >= _PATIENCE:
            raise Unreachable(f"{topic} could not be read to its end", hint="check the brokers")


@contextmanager
def consuming(connection: Connection, *, timeout: float | None = None) -> Iterator[Any]:
    """Give a consumer without a group.

    :param timeout: seconds for each request; Kafka's own when it is not given
    :raises Unreachable: when Kafka does not answer, also in the middle
    """
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    consumer = None
    bounds = (
        {} if timeout is None else dict.fromkeys(("request_timeout_ms", "bootstrap_timeout_ms"), int(1000 * timeout))
    )
    try:
        consumer = KafkaConsumer(
            **python_settings(connection),
            **bounds,
            enable_auto_commit=False,
            isolation_level="read_committed",
            group_id=None,
        )
        yield consumer
    except MainstayError:
        raise
    except (KafkaError, OSError, AssertionError) as error:
        raise Unreachable(
            f"Kafka does not give records: {type(error).__name__}: {error}", hint="check the brokers"
        ) from error
    finally:
        if consumer is not None:
            consumer.close(autocommit=False)


def ends(consumer: Any, topic: str) -> dict[int, int]:
    """Give where each partition of *topic* ends; nothing when there is no such topic."""
    from kafka import TopicPartition

    numbers = consumer.partitions_for_topic(topic) or ()
    found = consumer.end_offsets([TopicPartition(topic, number) for number in numbers])
    return {tp.partition: end for tp, end in found.items()}


def living(records: Sequence[Read], lifetime: float, now: float) -> list[Read]:
    """Give the records whose rows, or whose dead letters, must be there still.  Pure.

    They are written after their record was sent, and live from then on.

    :param lifetime: of a row or a letter, in seconds; 0 for ever
    :param now: seconds since the epoch
    """
    return [one for one in records if not lifetime or one.time / 1000 + lifetime > now + _ASKED_WITHIN]


def _kept(log: Connection, topic: str) -> float:
    """Give for how many seconds a topic keeps a record, at least; 0 for ever."""
    return retentions(log, [topic]).get(topic, 0)


def _with_letters(broken: Sequence[Read], letters: Sequence[Read]) -> Iterator[Read]:
    """Give the records that have a dead letter of the same content, each its own."""
    left = Counter(letter.value for letter in letters)
    for record in broken:
        if left[record.value] > 0:
            left[record.value] -= 1
            yield record


def _letters(consumer: Any, flow: Flow, since: int | None) -> Iterator[Read]:
    """Give the dead letters that may be about records since then: they are sent after them, by another clock."""
    from kafka import TopicPartition

    last = ends(consumer, flow.letters)
    if not last:
        return
    partitions = [TopicPartition(flow.letters, partition) for partition in last]
    found = consumer.offsets_for_times({tp: max(0, (since or 0) - _CLOCKS_DIFFER) for tp in partitions})
    spans = {
        tp.partition: (found[tp].offset if found.get(tp) else last[tp.partition], last[tp.partition])
        for tp in partitions
    }
    yield from read(consumer, flow.letters, spans)


def _sorted(shape: str, records: Sequence[Read]) -> tuple[dict[Key, dict[Where, dict[str, object]]], list[Read]]:
    """Sort records by the key of their row, with what each says; and give the broken ones."""
    by_key: dict[Key, dict[Where, dict[str, object]]] = {}
    broken: list[Read] = []
    for record in records:
        key = key_of(shape, record.value)
        if key is None:
            broken.append(record)
        else:
            by_key.setdefault(key, {})[record.at] = says(shape, record.value)
    return by_key, broken


def _agrees(row: Mapping[str, Any], said: Mapping[str, object]) -> bool:
    return all((dict(row[name] or {}) if isinstance(told, dict) else row[name]) == told for name, told in said.items())


def _source(letter: Read, topic: str) -> Where | None:
    try:
        if letter.headers["source_topic"].decode() != topic:
            return None
        return int(letter.headers["source_partition"]), int(letter.headers["source_offset"])
    except (KeyError, ValueError):
        return None


def _named(key: Key) -> str:
    return " ".join(str(part) for part in key)


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
