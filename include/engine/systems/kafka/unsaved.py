"""Reads what no backup has yet, and in how many hours retention will delete it: the time left to repair backups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial

from include.engine.contracts import Clock, Connection, Connections
from include.engine.inventory import TargetSettings
from include.engine.model import Manifest, Reading, Target
from include.engine.probing import Probe
from include.engine.systems.kafka import cut as cuts
from include.engine.systems.kafka import detail as details
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, Admin, TopicState, open_admin
from include.engine.systems.kafka.declared import effective_configs
from include.engine.systems.kafka.detail import Saved
from include.engine.systems.kafka.firsts import age, first_times
from include.engine.systems.kafka.ranges import Range
from include.engine.systems.kafka.settings import Settings

Newest = Callable[[], Manifest | None]


def open_probes(target: Target, settings: TargetSettings, connections: Connections, newest: Newest) -> Sequence[Probe]:
    """Give the probe that compares a cluster with its newest backup.  Asks nobody for anything yet.

    :param newest: reads the newest backup's manifest, when it is asked
    """
    del target
    assert isinstance(settings, Settings)
    return (UnsavedProbe(settings, connections, newest),)


class UnsavedProbe:
    """What the inventory wants saved and no backup has."""

    name = "unsaved"
    metrics: Sequence[str] = ("kafka.unsaved.records", "kafka.unsaved.lost_records")
    sometimes: Sequence[str] = ("kafka.unsaved.hours_left", "kafka.transaction.open_seconds")
    source = "partitions' ends against the newest backup's cut and gaps; hours left from retention.ms and the oldest such record"

    def __init__(self, settings: Settings, connections: Connections, newest: Newest) -> None:
        self._settings = settings
        self._connections = connections
        self._newest = newest

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``)."""
        connection = self._connections.get(self._settings.connection)
        manifest = self._newest()
        saved = details.read(manifest) if manifest is not None else None
        with open_admin(connection, patience=timeout) as admin:
            return list(unsaved(admin, connection, saved, self._settings.covers, clock(), timeout=timeout))


def unsaved(
    admin: Admin,
    connection: Connection,
    saved: Saved | None,
    covers: Callable[[str], bool],
    now: datetime,
    *,
    timeout: float = 30.0,
) -> Iterator[Reading]:
    """Read it, per partition.

    Hours are at least what is left: retention takes whole segments, when the newest record in them is old enough.  Limits in
    bytes (``retention.bytes``) may be quicker; they cannot be told in hours.
    """
    topics = cuts.covered(admin, covers)
    partitions = [TP(name, p.index) for name, topic in topics.items() for p in topic.partitions]
    # With what waits behind open transactions: no backup has it, and it will be as lost as the rest.
    stable, ends = admin.offsets(partitions, LATEST), admin.offsets(partitions, LATEST, committed=False)
    lows = admin.offsets(partitions, EARLIEST)
    begins = {tp: max(saved_to(saved, topics[tp.topic], tp), lows[tp]) for tp in partitions}
    count = sum(max(0, ends[tp] - begins[tp]) for tp in partitions)
    read = partial(Reading, at=now)
    yield read(metric="kafka.unsaved.records", value=count, unit="records")
    lost = sum(gap.stop - gap.start for gap in saved.detail.gaps) if saved else 0
    yield read(metric="kafka.unsaved.lost_records", value=lost, unit="records")
    settings = librdkafka_settings(connection)
    waiting = sorted(tp for tp in partitions if begins[tp] < ends[tp])
    limits = _retentions(admin, {tp.topic for tp in waiting})
    ranges = [_range(tp, begins[tp], stable[tp]) for tp in waiting if tp.topic in limits and begins[tp] < stable[tp]]
    times = first_times(settings, ranges, timeout=timeout)
    held = [_range(tp, stable[tp], ends[tp]) for tp in partitions if stable[tp] < ends[tp]]
    open_since = first_times(settings, held, timeout=timeout, committed=False)
    found = {tp: age(open_since, (tp, start), now) for tp, start in open_since}
    ages = found | {tp: age(times, (tp, start), now) for tp, start in times}
    for tp, seconds in sorted(found.items()):
        if seconds is not None:
            yield read(metric="kafka.transaction.open_seconds", value=seconds, unit="s", labels=_labels(tp))
    for tp, seconds in sorted(ages.items()):
        if seconds is not None and tp.topic in limits:
            left = (limits[tp.topic] - seconds) / 3600
            yield read(metric="kafka.unsaved.hours_left", value=left, unit="h", labels=_labels(tp))


def _range(tp: TP, start: int, stop: int) -> Range:
    return Range(topic=tp.topic, partition=tp.partition, start=start, stop=stop)


def _labels(tp: TP) -> dict[str, str]:
    return {"topic": tp.topic, "partition": str(tp.partition)}


def saved_to(saved: Saved | None, topic: TopicState, tp: TP) -> int:
    """Give the offset up to which a backup has a partition: none of it when the topic was created anew since.  Pure."""
    known = saved.cut.topics.get(tp.topic) if saved else None
    if known is None or known.id != topic.id or tp.partition >= known.partitions:
        return 0
    return known.high[tp.partition]


def _retentions(admin: Admin, topics: set[str]) -> dict[str, float]:
    """Give the seconds after which each topic's records are deleted; topics that delete none by time are left out."""
    found = effective_configs(admin, topics, ("retention.ms", "cleanup.policy"))
    return {
        name: int(configs["retention.ms"]) / 1000
        for name, configs in found.items()
        if "delete" in configs["cleanup.policy"] and int(configs["retention.ms"]) >= 0
    }
