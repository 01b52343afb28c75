"""Whether a log was cut back since a backup and has grown over the place since: its end alone does not tell.

A leader that was elected uncleanly, or a disk that was put back, lacks records that the backup has, and has others at their
offsets.  What tells is where the leader of then ended, by the leader of now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from include.engine.systems.kafka.client import TP, Admin
from include.engine.systems.kafka.cut import KafkaCut


def cut_back(admin: Admin, cut: KafkaCut, previous: KafkaCut) -> frozenset[TP]:
    """Give the partitions whose log does not go on from where *previous* ends, however far it goes by now.

    Asks only about those that have had another leader, or the same one anew; older backups do not say, and tell nothing.
    """
    asked: dict[TP, int] = {}
    gone = set()
    for tp, then, now in _epochs(cut, previous):
        if 0 <= now < then:  # the cluster itself was put back
            gone.add(tp)
        elif 0 <= then < now:
            asked[tp] = then
    ends = _ends_of(admin, asked)
    gone |= {tp for tp, end in ends.items() if 0 <= end < previous.topics[tp.topic].high[tp.partition]}
    return frozenset(gone)


def _epochs(cut: KafkaCut, previous: KafkaCut) -> Iterator[tuple[TP, int, int]]:
    for name, topic in cut.topics.items():
        before = previous.topics.get(name)
        if before is None or before.id != topic.id:
            continue
        for partition, (then, now) in enumerate(zip(before.epochs, topic.epochs, strict=False)):
            yield TP(name, partition), then, now


def _ends_of(admin: Admin, epochs: Mapping[TP, int]) -> dict[TP, int]:
    """Give where each partition's leader of that epoch ended; -1 when nobody knows any more."""
    if not epochs:
        return {}
    return admin.ask("the ends of leaders' epochs", lambda: dict(_asked(admin, epochs)))


def _asked(admin: Admin, epochs: Mapping[TP, int]) -> Iterator[tuple[TP, int]]:
    from kafka.errors import for_code
    from kafka.protocol.consumer import OffsetForLeaderEpochRequest

    kind = OffsetForLeaderEpochRequest.OffsetForLeaderTopic
    topics = admin.topics({tp.topic for tp in epochs})
    by_leader: dict[int, list[TP]] = {}
    for tp in sorted(epochs):
        by_leader.setdefault(topics[tp.topic].partitions[tp.partition].leader, []).append(tp)
    manager = admin.client._manager  # noqa: SLF001 - kafka-python has the request and no method for it
    for leader, led in by_leader.items():
        request = OffsetForLeaderEpochRequest(
            replica_id=-1,
            topics=[
                kind(
                    topic=tp.topic,
                    partitions=[
                        kind.OffsetForLeaderPartition(
                            partition=tp.partition, current_leader_epoch=-1, leader_epoch=epochs[tp]
                        )
                    ],
                )
                for tp in led
            ],
        )
        answer = manager.run(lambda request=request, leader=leader: manager.send(request, node_id=leader))
        for topic in answer.topics:
            for one in topic.partitions:
                tp = TP(topic.topic, one.partition)
                if one.error_code:
                    raise for_code(one.error_code)(str(tp))
                yield tp, one.end_offset
