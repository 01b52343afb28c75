"""The operation of the load from end to end: a record is sent, and answered when its row can be read.  In the generator.

The rows of a lane lie in one partition of the table, in the order in which they were sent.  A look asks each lane for the rows
from its oldest missing one on, so what is read does not grow with what was written before.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from include.engine.contracts import Connection
from include.engine.loading.contracts import Done
from include.engine.systems.spark.access import librdkafka_settings
from include.engine.systems.spark.batch_times import BatchTimes
from include.engine.systems.spark.people import time_uuid
from include.engine.systems.spark.tables import Tables

TABLE = "user_events"
PHASES = ("to Kafka's answer", "until its batch begins", "in the batch, until its row is read")
_NOON = datetime(2000, 1, 1, 12, tzinfo=UTC)  # all rows of a lane are of one day, whatever the time zone
_DAY = f"{_NOON:%Y-%m-%d}"
_APART = 10  # microseconds between the times of two events
_MOST_ROWS = 5000  # of one lane and one look
_ENDS_WITHIN = 10.0  # seconds, for the thread that looks


@dataclass
class _Sent:
    """One record on its way.  Times are nanoseconds on the monotonic clock."""

    index: int
    done: Done
    sent: int
    acknowledged: int = 0
    partition: int = -1
    offset: int = -1
    readable: int = 0


class Flow:
    """Sends to one topic and reads one table.

    :param parameters: ``kafka`` and ``cassandra``, connections; ``topic``; ``keyspace``; ``lanes``; ``payload_bytes``; ``poll``
        in seconds; ``offsets``, the folder where the job notes its batches
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        from confluent_kafka import Producer

        settings: dict[str, Any] = dict(librdkafka_settings(Connection(**parameters["kafka"])))
        own = {"enable.idempotence": True, "linger.ms": 5, "allow.auto.create.topics": False, "log_level": 2}
        self._producer = Producer(settings | own)
        self._topic: str = parameters["topic"]
        self._offsets = Path(parameters["offsets"])
        self._filler = "x" * parameters["payload_bytes"]
        # Ids of its own for each process and each measurement: they look for no other's rows.
        self._lanes = [uuid.uuid4() for _ in range(parameters["lanes"])]
        self._waiting: list[dict[uuid.UUID, _Sent]] = [{} for _ in self._lanes]
        self._count = 0
        self._chance = Random()  # noqa: S311 - no secret
        self._arrived: list[_Sent] = []
        self._lock = threading.Lock()
        self._problem: Exception | None = None
        self._seen = threading.Event()
        self._over = threading.Event()
        self._tables = Tables(Connection(**parameters["cassandra"])).__enter__()
        self._select = self._prepared(parameters["keyspace"])
        self._looking = threading.Thread(target=self._look, args=(parameters["poll"],), name="looking", daemon=True)
        self._looking.start()

    def submit(self, index: int, done: Done) -> None:
        """Send one."""
        lane = index % len(self._lanes)
        at = _NOON + timedelta(microseconds=_APART * self._count)
        self._count += 1
        made, user = time_uuid(at, self._chance.getrandbits(62)), str(self._lanes[lane])
        event = {"event_id": str(made), "user_id": user, "event_type": "load", "created_at": at.isoformat()}
        value = json.dumps(event | {"properties": {"filler": self._filler}}).encode()
        sent = _Sent(index, done, time.monotonic_ns())
        with self._lock:
            self._waiting[lane][made] = sent
        try:
            self._producer.produce(
                self._topic, value, user.encode(), on_delivery=partial(self._acknowledged, lane, made, sent)
            )
        except BaseException:
            with self._lock:
                self._waiting[lane].pop(made, None)
            raise

    def poll(self, seconds: float) -> None:
        """Take acknowledgements, and let rows be found."""
        if self._problem is not None:
            raise self._problem
        self._producer.poll(0)
        if seconds > 0:
            self._seen.wait(seconds)
            self._seen.clear()

    def phases(self) -> Iterable[tuple[int, str, int]]:
        """Say where the time of each record that arrived went: the job notes when each batch began (see ``loading.Phased``)."""
        # The job writes the time of day; both are of this machine, and were taken together.
        batches = BatchTimes.read(self._offsets, epoch=time.time_ns() - time.monotonic_ns())
        for one in self._arrived:
            begun = batches.begun(one.partition, one.offset)
            if begun is None or not one.acknowledged:
                continue
            # A row may be there before we have heard of the record's acknowledgement, and a batch may have begun.
            acknowledged = min(one.acknowledged, one.readable)
            begun = min(max(begun, acknowledged), one.readable)
            took = (acknowledged - one.sent, begun - acknowledged, one.readable - begun)
            yield from ((one.index, name, part) for name, part in zip(PHASES, took, strict=True))

    def close(self) -> None:
        """Let go of both."""
        self._over.set()
        self._looking.join(timeout=_ENDS_WITHIN)
        self._producer.purge()
        self._producer.poll(0)
        self._tables.__exit__(None, None, None)

    def _prepared(self, keyspace: str) -> Any:
        from cassandra import ConsistencyLevel

        statement = self._tables.session.prepare(
            f"SELECT event_id FROM {keyspace}.{TABLE} WHERE event_date = ? AND user_id = ? AND event_id >= ?"  # noqa: S608
            f" ORDER BY event_id ASC LIMIT {_MOST_ROWS}"
        )
        statement.consistency_level = ConsistencyLevel.LOCAL_QUORUM
        return statement

    def _acknowledged(self, lane: int, made: uuid.UUID, sent: _Sent, error: Any, message: Any) -> None:
        if error is None:
            sent.acknowledged, sent.partition, sent.offset = time.monotonic_ns(), message.partition(), message.offset()
            return
        with self._lock:
            self._waiting[lane].pop(made, None)
        sent.done(error.name())

    def _look(self, every: float) -> None:
        try:
            self._look_again_and_again(every)
        except Exception as error:  # noqa: BLE001 - raised where somebody hears it
            self._problem = error

    def _look_again_and_again(self, every: float) -> None:
        from cassandra import DriverException
        from cassandra.cluster import NoHostAvailable

        while not self._over.wait(every):
            with self._lock:
                oldest = [(lane, next(iter(waiting))) for lane, waiting in enumerate(self._waiting) if waiting]
            asked = [
                (lane, self._tables.session.execute_async(self._select, (_DAY, self._lanes[lane], first)))
                for lane, first in oldest
            ]
            for lane, answer in asked:
                try:
                    while found := [row.event_id for row in answer.result()]:
                        self._found(lane, found)
                        if len(found) < _MOST_ROWS or self._over.is_set():
                            break
                        # One row that is lost must not hide those behind it.
                        answer = self._tables.session.execute_async(self._select, (_DAY, self._lanes[lane], found[-1]))  # noqa: PLW2901
                except (DriverException, NoHostAvailable):  # a look that failed sees nothing; the next one may
                    continue

    def _found(self, lane: int, found: Sequence[uuid.UUID]) -> None:
        at = time.monotonic_ns()
        with self._lock:
            arrived = [sent for made in found if (sent := self._waiting[lane].pop(made, None)) is not None]
        for sent in arrived:
            sent.readable = at
            sent.done(None)
        self._arrived += arrived
        if arrived:
            self._seen.set()


def open_operation(parameters: dict[str, Any]) -> Flow:
    """Give one, connected."""
    return Flow(parameters)
