"""The cut: the point in every partition and every group that a backup stands for.

Groups are read first, then the ends of all partitions, then their beginnings.  So no group can point past the cut, and what
retention deletes meanwhile is seen.  The ends are those of committed transactions: an open one is not in the backup.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
from msgspec import Struct

from include.engine.errors import Corrupt, Incomplete
from include.engine.loading.naming import is_of_a_test
from include.engine.model import Cut
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, Admin, TopicState

# What our own groups begin with.  A stream's truth is its checkpoint, which is a target; its group only shows how far it is.
OWN_GROUPS = tuple(f"mainstay-{what}" for what in ("drill-", "mirror-", "probe", "reader", "restore-", "stream-"))


class TopicCut(Struct, frozen=True, kw_only=True):
    """A topic at the cut: which one it is, and where each partition begins and ends (exclusive)."""

    id: str
    low: tuple[int, ...]
    high: tuple[int, ...]
    end: tuple[int, ...] = ()  # with what lies behind an open transaction, and so is not in the cut
    epochs: tuple[int, ...] = ()  # of the leaders that told the ends; -1 when one told none

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return len(self.high)


class Position(Struct, frozen=True, kw_only=True):
    """What a group has committed for one partition."""

    topic: str
    partition: int
    offset: int
    metadata: str = ""


class KafkaCut(Struct, frozen=True, kw_only=True):
    """All offsets of a cut."""

    cluster: str
    topics: dict[str, TopicCut]
    groups: dict[str, tuple[Position, ...]]

    @property
    def partitions(self) -> list[TP]:
        """All partitions, sorted."""
        return [TP(name, p) for name, topic in sorted(self.topics.items()) for p in range(topic.partitions)]


def take(
    admin: Admin, *, covers: Callable[[str], bool], keeps: Callable[[str], bool], clock: Callable[[], datetime]
) -> Cut:
    """Fix the cut now.

    :param covers: which topics
    :param keeps: which groups
    :raises Incomplete: when there is no topic at all, or a partition has no leader that could say where it ends
    """
    positions = positions_of(admin, keeps)
    topics = covered(admin, covers)
    if not topics:
        raise Incomplete("the cluster has no topic to back up", hint="check `topics` and `exclude` in the inventory")
    leaderless = [str(TP(t.name, p.index)) for t in topics.values() for p in t.partitions if p.leader < 0]
    if leaderless:
        raise Incomplete(
            f"{len(leaderless)} partitions have no leader: {', '.join(leaderless[:5])}",
            hint="start the brokers that hold them; a backup without them would not be whole",
        )
    partitions = [TP(topic.name, p.index) for topic in topics.values() for p in topic.partitions]
    at = clock()  # before the ends are read: whatever was acknowledged by now is in the cut
    high = admin.offsets(partitions, LATEST, committed=True)
    end = admin.offsets_and_epochs(partitions, LATEST, committed=False)
    low = admin.offsets(partitions, EARLIEST)
    found = KafkaCut(
        cluster=admin.cluster_id(),
        topics={
            name: TopicCut(
                id=topic.id,
                low=tuple(min(low[TP(name, p.index)], high[TP(name, p.index)]) for p in topic.partitions),
                high=tuple(high[TP(name, p.index)] for p in topic.partitions),
                end=tuple(end[TP(name, p.index)][0] for p in topic.partitions),
                epochs=tuple(end[TP(name, p.index)][1] for p in topic.partitions),
            )
            for name, topic in topics.items()
        },
        groups={
            group: kept
            for group, held in positions.items()
            if (kept := tuple(position for position in held if position.topic in topics))
        },
    )
    ends = {name: dict(enumerate(topic.high)) for name, topic in found.topics.items()}
    begins = {name: dict(enumerate(topic.low)) for name, topic in found.topics.items()}
    return Cut(
        at=at,
        position="offsets",
        offsets=ends,
        begins=begins,
        identities={name: topic.id for name, topic in found.topics.items()},
        detail=msgspec.to_builtins(found),
    )


def read(cut: Cut) -> KafkaCut:
    """Give the offsets of a cut.

    :raises Corrupt: when it is not one of Kafka's
    """
    try:
        return msgspec.convert(cut.detail, KafkaCut)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the cut is not one of Kafka: {error}", hint="take a new set") from error


def covered(admin: Admin, covers: Callable[[str], bool]) -> dict[str, TopicState]:
    """Give the topics of the pipeline that *covers* wants; never Kafka's own, and never a load test's."""
    return {name: topic for name, topic in admin.topics().items() if is_lasting(topic) and covers(name)}


def is_lasting(topic: TopicState) -> bool:
    """Say whether a topic is the pipeline's: a load test's is gone before a copy of it is made."""
    return not is_internal(topic) and not is_of_a_test(topic.name)


def is_internal(topic: TopicState) -> bool:
    """Say whether a topic is Kafka's own: its offsets and transactions cannot be copied, only translated."""
    return topic.internal or topic.name.startswith("__")


def positions_of(admin: Admin, keeps: Callable[[str], bool]) -> dict[str, tuple[Position, ...]]:
    """Give what the pipeline's groups have committed, of those that *keeps* wants."""
    names = [
        name
        for name, kind in admin.groups().items()
        if kind != "share" and not name.startswith(OWN_GROUPS) and keeps(name)
    ]
    return {
        group: tuple(
            Position(topic=tp.topic, partition=tp.partition, offset=offset, metadata=note)
            for tp, (offset, note) in sorted(committed.items())
        )
        for group, committed in admin.committed(names).items()
    }
