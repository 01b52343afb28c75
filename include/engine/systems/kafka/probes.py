"""Reads a live cluster: brokers and the controllers' quorum, replicas, disks, groups, mirrors.

Each probe asks and gives readings, or raises: a number that could not be read is never invented.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from include.engine.contracts import Clock, Connection, Connections
from include.engine.errors import MainstayError
from include.engine.inventory import TargetSettings
from include.engine.model import Reading, Target
from include.engine.probing import Probe, Recall
from include.engine.systems.kafka import cut as cuts
from include.engine.systems.kafka.client import TP, Admin, TopicState, open_admin
from include.engine.systems.kafka.declared import effective_configs
from include.engine.systems.kafka.group_lag import GroupLag, group_lags
from include.engine.systems.kafka.group_state import SEVERITY, GroupState, Sample, judge
from include.engine.systems.kafka.mirror_probe import MirrorProbe
from include.engine.systems.kafka.settings import Settings

_OF_GROUPS = ("position", "lag_records", "lost_records", "lag_seconds", "state")
_WINDOW = 10  # looks at a group that are remembered: Burrow's own number
_REMEMBERED = timedelta(hours=2)  # looks that are older say nothing of now
_POSITION, _LAG = "kafka.group.position", "kafka.group.lag_records"

Read = Callable[..., Reading]


def open_probes(target: Target, settings: TargetSettings, connections: Connections) -> Sequence[Probe]:
    """Give a cluster's probes, and those of its mirrors (see ``probing.Probe``).  Asks no server for anything yet."""
    del target
    assert isinstance(settings, Settings)

    def connect() -> Connection:
        return connections.get(settings.connection)

    return (
        AdminProbe(
            name="cluster",
            metrics=("kafka.brokers.serving", "kafka.brokers.fenced", "kafka.quorum.voters", "kafka.quorum.lag"),
            source="brokers and voters, from the controllers' quorum itself",
            connect=connect,
            look=cluster,
        ),
        AdminProbe(
            name="replicas",
            metrics=_PARTITIONS,
            sometimes=_TOPICS,
            source="leaders and in-sync replicas of every partition, from the brokers' metadata",
            connect=connect,
            look=replicas,
        ),
        AdminProbe(
            name="disks",
            metrics=("kafka.disk.log_bytes",),
            sometimes=("kafka.disk.free",),  # brokers before 3.3 tell no size
            source="the log directories, from every broker",
            connect=connect,
            look=disks,
        ),
        GroupsProbe(connect),
        *(
            MirrorProbe(name, mirror, connections, settings.connection)
            for name, mirror in sorted(settings.mirrors.items())
        ),
    )


@dataclass
class AdminProbe:
    """A probe that needs an admin connection and nothing else.

    One of its own: brokers answer the requests of a connection in their order, so over a shared one a question that hangs, as
    the one for a quorum that is lost does, would be waited for by all others.
    """

    name: str
    metrics: Sequence[str]
    source: str
    connect: Callable[[], Connection]
    look: Callable[[Admin, Read], Iterator[Reading]]
    sometimes: Sequence[str] = ()

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``)."""
        with open_admin(self.connect(), patience=timeout) as admin:
            return list(self.look(admin, partial(Reading, at=clock())))


class GroupsProbe:
    """How far the consumer groups are behind, and what they do.

    Read again and again, or with a sweep's history, it also judges what each group does; one look alone tells only a loss.
    """

    name = "groups"
    metrics: Sequence[str] = ("kafka.groups.known",)
    sometimes: Sequence[str] = tuple(f"kafka.group.{name}" for name in _OF_GROUPS)
    source = "lag per group and partition, from the group coordinators and the record that each would read next"

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.recall: Recall | None = None
        self._connect = connect
        self._seen: dict[tuple[str, TP], deque[Sample]] = {}

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``)."""
        connection = self._connect()
        now = clock()
        with open_admin(connection, patience=timeout) as admin:
            found = group_lags(admin, connection, now, timeout=timeout)
        if self.recall is not None and not self._seen:
            self._remember(self.recall, now)
        return list(self._readings(found, now))

    def _remember(self, recall: Recall, now: datetime) -> None:
        try:
            past = recall((_POSITION, _LAG), now - _REMEMBERED)
        except MainstayError:
            return  # the sweep says so itself; without a past there is no state, and no reading of one
        looks: dict[tuple[str, TP], dict[datetime, dict[str, float]]] = {}
        for one in past:
            where = one.labels["group"], TP(one.labels["topic"], int(one.labels["partition"]))
            looks.setdefault(where, {}).setdefault(one.at, {})[one.metric] = one.value
        for where, times in looks.items():
            samples = (
                Sample(at=at.timestamp(), committed=int(seen[_POSITION]), end=int(seen[_POSITION] + seen[_LAG]))
                for at, seen in sorted(times.items())
                if len(seen) == 2
            )
            self._seen[where] = deque(samples, maxlen=_WINDOW)

    def _readings(self, found: Sequence[GroupLag], now: datetime) -> Iterator[Reading]:
        read = partial(Reading, at=now)
        yield read(metric="kafka.groups.known", value=len({lag.group for lag in found}), unit="1")
        for lag in found:
            looks = self._seen.setdefault((lag.group, lag.tp), deque(maxlen=_WINDOW))
            looks.append(lag.sample)
            yield from lag_readings(lag, judge(list(looks)), read)


def lag_readings(lag: GroupLag, state: GroupState, read: Read) -> Iterator[Reading]:
    """Say a lag as readings.  What is not known, the age of a record without a timestamp or a state, gives none."""
    of = partial(read, labels={"group": lag.group, "topic": lag.tp.topic, "partition": str(lag.tp.partition)})
    yield of(metric=_POSITION, value=lag.sample.committed, unit="offset")
    yield of(metric=_LAG, value=lag.sample.lag, unit="records")
    yield of(metric="kafka.group.lost_records", value=lag.lost, unit="records")
    if lag.seconds is not None:
        yield of(metric="kafka.group.lag_seconds", value=lag.seconds, unit="s")
    if state is not GroupState.UNKNOWN:
        yield of(metric="kafka.group.state", value=SEVERITY[state], unit="severity")


def cluster(admin: Admin, read: Read) -> Iterator[Reading]:
    """Read brokers and the controllers' quorum.

    The quorum is asked itself: brokers that have lost it go on telling what they last knew.
    """
    brokers = admin.brokers()
    yield read(metric="kafka.brokers.serving", value=sum(not b.fenced for b in brokers), unit="1")
    yield read(metric="kafka.brokers.fenced", value=sum(b.fenced for b in brokers), unit="1")
    told = admin.ask("the controllers' quorum", admin.client.describe_metadata_quorum)
    partition = told["topics"][0]["partitions"][0]
    voters = partition["current_voters"]
    newest = max(voter["log_end_offset"] for voter in voters)
    yield read(metric="kafka.quorum.voters", value=len(voters), unit="1")
    for voter in voters:
        labels = {"controller": str(voter["replica_id"])}
        yield read(metric="kafka.quorum.lag", value=newest - voter["log_end_offset"], unit="records", labels=labels)


_PARTITIONS = ("kafka.partitions.offline", "kafka.partitions.under_replicated", "kafka.partitions.under_min_isr")
_TOPICS = ("kafka.topics.replicas", "kafka.topics.min_isr", "kafka.topics.partitions_per_broker")


def replicas(admin: Admin, read: Read) -> Iterator[Reading]:
    """Read what is missing of partitions' replicas, and of the pipeline's topics the least that any has, with its names."""
    topics = admin.topics()
    partitions = [(topic, p) for topic in topics.values() for p in topic.partitions]
    brokers = len([broker for broker in admin.brokers() if not broker.fenced])
    own = [topic for topic in topics.values() if cuts.is_lasting(topic)]
    configs = effective_configs(admin, topics, ("min.insync.replicas",))
    minimum = {name: int(config["min.insync.replicas"]) for name, config in configs.items()}
    found = (
        [t for t, p in partitions if p.leader < 0],
        [t for t, p in partitions if len(p.isr) < len(p.replicas)],
        # Kafka 4 demands no more than there are: where all of fewer replicas than the minimum are in sync, it takes records.
        [t for t, p in partitions if len(p.isr) < min(minimum.get(t.name, 0), len(p.replicas))],
    )
    for metric, topics_ in zip(_PARTITIONS, found, strict=True):
        yield read(metric=metric, value=len(topics_), unit="1", labels=_some(topics_))
    known = [topic for topic in own if topic.name in minimum]  # others were deleted meanwhile
    least: tuple[Callable[[TopicState], float], ...] = (
        lambda topic: topic.factor,
        lambda topic: minimum[topic.name],
        lambda topic: len(topic.partitions) / brokers,
    )
    for metric, of in zip(_TOPICS, least if known and brokers else (), strict=False):
        value = min(of(topic) for topic in known)
        yield read(metric=metric, value=value, unit="1", labels=_some([one for one in known if of(one) == value]))


def disks(admin: Admin, read: Read) -> Iterator[Reading]:
    """Read the disks that hold the logs."""
    for broker in admin.ask("log directories", admin.client.describe_log_dirs):
        for place in broker["log_dirs"]:
            labels = {"broker": str(broker["broker"]), "directory": place["log_dir"]}
            used = sum(p["partition_size"] for topic in place["topics"] for p in topic["partitions"])
            yield read(metric="kafka.disk.log_bytes", value=used, unit="bytes", labels=labels)
            if place.get("total_bytes", -1) > 0:
                free = 100 * place["usable_bytes"] / place["total_bytes"]
                yield read(metric="kafka.disk.free", value=free, unit="%", labels=labels)


def _some(topics: Sequence[TopicState]) -> dict[str, str]:
    names = sorted({topic.name for topic in topics})
    return {"topics": ", ".join(names[:5]) + (" …" if len(names) > 5 else "")} if names else {}
