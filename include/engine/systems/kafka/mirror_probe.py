"""Reads how a mirror is: its tasks, how far it is behind in records and in seconds, and its heartbeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from include.engine.contracts import Clock, Connection, Connections
from include.engine.errors import NotFound
from include.engine.model import Reading
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.caught_up import lags, positions
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, Admin, open_admin
from include.engine.systems.kafka.connect import Connect, Status
from include.engine.systems.kafka.firsts import age, first_times
from include.engine.systems.kafka.mirror_notes import last_proof
from include.engine.systems.kafka.ranges import Range
from include.engine.systems.kafka.settings import Mirror
from include.engine.systems.kafka.topology import HEARTBEATS, connector_name, heartbeat_name, mirrored
from include.engine.systems.kafka.translate import Side, is_beat_of

_BEATS = 200  # at the end of the topic of heartbeats: those of all mirrors that write to the target


class MirrorProbe:
    """How one declared mirror is.

    One that was never run, or was taken away, is not made: it has no tasks, and no lag.  One of which every connector was
    stopped, as a fail-over does, is that and nothing else: it is behind on purpose.
    """

    metrics: Sequence[str] = ("kafka.mirror.made", "kafka.mirror.tasks_failed")
    sometimes: Sequence[str] = (
        "kafka.mirror.stopped",
        "kafka.mirror.unproved",
        "kafka.mirror.proof_age",
        "kafka.mirror.tasks_running",
        "kafka.mirror.idle",
        "kafka.mirror.lag_records",
        "kafka.mirror.lag_seconds",
        "kafka.mirror.heartbeat_age",
    )
    source = "tasks and source offsets from Connect, ends and the next record from the source, heartbeats and notes on the copy"

    def __init__(self, name: str, mirror: Mirror, connections: Connections, source: str) -> None:
        self.name = f"mirror {name}"
        self._name = name
        self._mirror = mirror
        self._connections = connections
        self._source = source

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``)."""
        connect = Connect(self._connections.get(self._mirror.connect), patience=timeout / 2)
        there = [_there(connect, name) for name in (connector_name(self._name), heartbeat_name(self._name))]
        states = [state for status in there if status is not None for state in status.tasks]
        read = partial(Reading, at=clock(), labels={"mirror": self._name})
        found = [
            read(metric="kafka.mirror.made", value=float(None not in there), unit="1"),
            read(metric="kafka.mirror.tasks_failed", value=states.count("FAILED"), unit="1"),
        ]
        stopped = all(status is not None and status.connector == "STOPPED" for status in there)
        if None not in there:
            found.append(read(metric="kafka.mirror.stopped", value=float(stopped), unit="1"))
        if None in there or stopped:
            with open_admin(self._connections.get(self._source), patience=timeout):
                return found  # of a source that is down no mirror is news
        idle = sum("RUNNING" not in status.tasks for status in there if status is not None)
        found.append(read(metric="kafka.mirror.tasks_running", value=states.count("RUNNING"), unit="1"))
        found.append(read(metric="kafka.mirror.idle", value=idle, unit="connectors"))
        return [*found, *self._copying(connect, clock, timeout=timeout)]

    def _copying(self, connect: Connect, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read how far a mirror that was made is."""
        read_to = positions(connect.offsets(connector_name(self._name)), self._mirror.source_alias)
        source = self._connections.get(self._source)
        with open_admin(source, patience=timeout) as admin:
            offsets, seconds = self._behind(admin, source, read_to, clock, timeout=timeout)
        beat, proof = self._on_copy(self._connections.get(self._mirror.to), timeout=timeout)
        now = clock()
        read = partial(Reading, at=now, labels={"mirror": self._name})
        found = [read(metric="kafka.mirror.lag_records", value=offsets, unit="records")]
        if seconds is not None:
            found.append(read(metric="kafka.mirror.lag_seconds", value=seconds, unit="s"))
        if beat is not None:
            found.append(
                read(metric="kafka.mirror.heartbeat_age", value=max(0.0, now.timestamp() - beat / 1000), unit="s")
            )
        found.append(read(metric="kafka.mirror.unproved", value=float(proof is None), unit="1"))
        if proof is not None:
            found.append(read(metric="kafka.mirror.proof_age", value=(now - proof).total_seconds(), unit="s"))
        return found

    def _behind(
        self, admin: Admin, source: Connection, read_to: Mapping[TP, int], clock: Clock, *, timeout: float
    ) -> tuple[int, float | None]:
        """Give the offsets that are not copied, and the age of the oldest record in them.

        Offsets that hold markers and aborted records alone are never copied and are no lag.
        """
        topics = mirrored(admin, self._mirror)
        partitions = [TP(name, p) for name, count in topics.items() for p in range(count)]
        ends, lows = admin.offsets(partitions, LATEST), admin.offsets(partitions, EARLIEST)
        missing = lags(ends, lows, read_to)
        ranges = [Range(topic=m.topic, partition=m.partition, start=m.position, stop=m.end) for m in missing]
        times = first_times(librdkafka_settings(source), ranges, timeout=timeout)
        now: datetime = clock()
        ages = [age(times, place, now) for place in times]
        known = [seconds for seconds in ages if seconds is not None]
        offsets = sum(m.offsets for m in missing if (TP(m.topic, m.partition), m.position) in times)
        return offsets, max(known, default=None if ages else 0.0)

    def _on_copy(self, target: Connection, *, timeout: float) -> tuple[int | None, datetime | None]:
        """Give the time of the last heartbeat, in milliseconds, and of the last proof."""
        tp = TP(HEARTBEATS, 0)
        with open_admin(target, patience=timeout) as admin:
            proof = last_proof(admin, self._name, self._mirror)
            if HEARTBEATS not in admin.topics([HEARTBEATS]):
                return None, proof
            end = admin.offsets([tp], LATEST)[tp]
        with Side(librdkafka_settings(target), patience=timeout) as side:
            rows = side.rows(tp, max(0, end - _BEATS), end)
        mine = [row.content for row in rows if is_beat_of(row.content[1], self._mirror.source_alias)]
        return max((content[0] for content in mine), default=None), proof


def _there(connect: Connect, name: str) -> Status | None:
    try:
        return connect.status(name)
    except NotFound:
        return None
