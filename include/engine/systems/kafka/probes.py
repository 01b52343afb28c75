"""Reads a cluster: brokers, quorum, replicas, disks, lags, and how long unsaved records will live.

Each probe asks and gives readings, or raises: a number that could not be read is never invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.systems.kafka import cut as cuts
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, Admin, TopicState
from include.engine.systems.kafka.cut import OWN_GROUPS
from include.engine.systems.kafka.declared import effective_configs
from include.engine.systems.kafka.detail import Saved
from include.engine.systems.kafka.group_state import Sample, judge
from include.engine.systems.kafka.translate import Side

_NEAR = 100  # offsets to look through for the next record: markers and aborted records lie between


class Reading(Struct, frozen=True, kw_only=True):
    """A number, with what it is of."""

    name: str
    value: float
    unit: str
    labels: dict[str, str] = {}


class GroupLag(Struct, frozen=True, kw_only=True):
    """How far one group is behind in one partition."""

    group: str
    tp: TP
    sample: Sample
    seconds: float  # age of the next record that it will read; 0 when there is none


def cluster(admin: Admin) -> Iterator[Reading]:
    """Read brokers and the controllers' quorum.

    The quorum is asked itself: brokers that have lost it go on telling what they last knew.
    """
    brokers = admin.brokers()
    yield Reading(name="kafka_brokers", value=sum(not b.fenced for b in brokers), unit="brokers")
    yield Reading(name="kafka_fenced_brokers", value=sum(b.fenced for b in brokers), unit="brokers")
    told = admin.ask("the controllers' quorum", admin.client.describe_metadata_quorum)
    partition = told["topics"][0]["partitions"][0]
    voters = partition["current_voters"]
    newest = max(voter["log_end_offset"] for voter in voters)
    yield Reading(
        name="kafka_quorum_voters",
        value=len(voters),
        unit="controllers",
        labels={"leader": str(partition["leader_id"])},
    )
    for voter in voters:
        labels = {"controller": str(voter["replica_id"])}
        yield Reading(name="kafka_quorum_lag", value=newest - voter["log_end_offset"], unit="records", labels=labels)


def replicas(admin: Admin) -> Iterator[Reading]:
    """Read what is missing of partitions' replicas, and topics that one machine's death would take."""
    topics = admin.topics()
    partitions = [(topic, p) for topic in topics.values() for p in topic.partitions]
    brokers = len([broker for broker in admin.brokers() if not broker.fenced])
    minimum = {
        name: int(effective_configs(admin, name)["min.insync.replicas"])
        for name, topic in topics.items()
        if any(len(p.isr) < len(p.replicas) for p in topic.partitions)
    }
    found = {
        "kafka_offline_partitions": [t for t, p in partitions if p.leader < 0],
        "kafka_under_replicated_partitions": [t for t, p in partitions if len(p.isr) < len(p.replicas)],
        "kafka_under_min_isr_partitions": [t for t, p in partitions if len(p.isr) < minimum.get(t.name, 0)],
    }
    for name, topics_ in found.items():
        yield Reading(name=name, value=len(topics_), unit="partitions", labels=_some(topics_))
    own = [topic for topic in topics.values() if not cuts.is_internal(topic)]
    single = [topic for topic in own if topic.factor < 2]
    narrow = [topic for topic in own if len(topic.partitions) < brokers]
    yield Reading(name="kafka_topics_with_one_replica", value=len(single), unit="topics", labels=_some(single))
    yield Reading(
        name="kafka_topics_with_fewer_partitions_than_brokers", value=len(narrow), unit="topics", labels=_some(narrow)
    )


def disks(admin: Admin) -> Iterator[Reading]:
    """Read the disks that hold the logs."""
    for broker in admin.ask("log directories", admin.client.describe_log_dirs):
        for place in broker["log_dirs"]:
            labels = {"broker": str(broker["broker"]), "directory": place["log_dir"]}
            used = sum(p["partition_size"] for topic in place["topics"] for p in topic["partitions"])
            yield Reading(name="kafka_log_bytes", value=used, unit="bytes", labels=labels)
            if place.get("total_bytes", -1) > 0:
                free = place["usable_bytes"] / place["total_bytes"]
                yield Reading(name="kafka_disk_free_ratio", value=free, unit="ratio", labels=labels)


def group_lags(admin: Admin, connection: Connection, now: datetime) -> list[GroupLag]:
    """Read how far every group is behind, in records and in seconds.

    Seconds are the age of the record that the group will read next: what a person waits for, whatever the traffic.
    """
    names = [name for name, kind in admin.groups().items() if kind != "share" and not name.startswith(OWN_GROUPS)]
    committed = admin.committed(names)
    exists = {TP(t.name, p.index) for t in admin.topics().values() for p in t.partitions}
    partitions = {tp for held in committed.values() for tp in held if tp in exists}
    ends, lows = admin.offsets(partitions, LATEST), admin.offsets(partitions, EARLIEST)
    found: list[GroupLag] = []
    waiting = any(ends[tp] > at for held in committed.values() for tp, (at, _) in held.items() if tp in exists)
    side = Side(librdkafka_settings(connection)) if waiting else None
    try:
        for group, held in sorted(committed.items()):
            for tp, (position, _) in sorted(held.items()):
                if tp not in exists:
                    continue
                sample = Sample(at=now.timestamp(), committed=position, end=ends[tp], low=lows[tp])
                seconds = 0.0
                if side is not None and sample.lag:
                    start = max(position, lows[tp])
                    seconds = _age(side, tp, start, min(ends[tp], start + _NEAR), now)
                found.append(GroupLag(group=group, tp=tp, sample=sample, seconds=seconds))
    finally:
        if side is not None:
            side.__exit__(None, None, None)
    return found


def lag_readings(found: list[GroupLag]) -> Iterator[Reading]:
    """Say lags as readings."""
    for lag in found:
        labels = {"group": lag.group, "topic": lag.tp.topic, "partition": str(lag.tp.partition)}
        yield Reading(name="kafka_group_lag_records", value=lag.sample.lag, unit="records", labels=labels)
        yield Reading(name="kafka_group_lag_seconds", value=lag.seconds, unit="seconds", labels=labels)
        if judge([lag.sample]) == "LOSS":
            lost = lag.sample.low - lag.sample.committed
            yield Reading(name="kafka_group_lost_records", value=lost, unit="records", labels=labels)


def unsaved(admin: Admin, connection: Connection, saved: Saved | None, now: datetime) -> Iterator[Reading]:
    """Read in how many hours retention will delete records that no backup has: the time left to repair backups."""
    topics = {name: t for name, t in admin.topics().items() if not cuts.is_internal(t)}
    partitions = [TP(name, p.index) for name, topic in topics.items() for p in topic.partitions]
    ends, lows = admin.offsets(partitions, LATEST), admin.offsets(partitions, EARLIEST)
    with Side(librdkafka_settings(connection)) as side:
        for name, topic in sorted(topics.items()):
            configs = effective_configs(admin, name)
            retention = int(configs["retention.ms"])
            if "delete" not in configs["cleanup.policy"] or retention < 0:
                continue
            hours = [
                (retention / 1000 - _age(side, tp, start, min(ends[tp], start + _NEAR), now)) / 3600
                for tp in partitions
                if tp.topic == name and (start := max(_saved_to(saved, topic, tp), lows[tp])) < ends[tp]
            ]
            if hours:
                yield Reading(name="kafka_unsaved_expire_hours", value=min(hours), unit="hours", labels={"topic": name})


def _saved_to(saved: Saved | None, topic: TopicState, tp: TP) -> int:
    known = saved.cut.topics.get(tp.topic) if saved else None
    if known is None or known.id != topic.id or tp.partition >= known.partitions:
        return 0
    return known.high[tp.partition]


def _age(side: Side, tp: TP, start: int, stop: int, now: datetime) -> float:
    rows = side.rows(tp, start, stop)
    if not rows or rows[0].content[0] < 0:
        return 0.0
    return max(0.0, now.timestamp() - rows[0].content[0] / 1000)


def _some(topics: list[TopicState]) -> dict[str, str]:
    names = sorted({topic.name for topic in topics})
    return {"topics": ", ".join(names[:5]) + (" …" if len(names) > 5 else "")} if names else {}
