"""Names that hurt: of groups, in their notes, in the keys of headers.  What cannot be kept is what docs/kafka.md says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include.engine.contracts import Stop
from include.engine.model import Verdict
from include.engine.systems.kafka.client import TP, open_admin
from include.engine.systems.kafka.mirror import KafkaMirror
from include.engine.systems.kafka.raw_produce import RawProducer
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.verbs import mirror as mirrors
from tests.systems.kafka.stand import TARGET, Said, Stand, clock

pytestmark = pytest.mark.integration
NAMES = (
    "",
    " ",
    "a/b\\c",
    "\u00fc\u20ac\U0001f600",
    "nul\0inside",
    "line\nbreak",
    "'; drop --",
    "a,b=c",
    "..",
    "x" * 300,
)
NOTE = "n\0\u00f6\n"


def test_groups_come_back_and_are_mirrored_whatever_they_are_called(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster
) -> None:
    topic = stand.topic("t.-_.", partitions=1)
    stand.produce(topic, 60, partitions=1)
    positions = {stand.prefix + name: (number + 1, NOTE) for number, name in enumerate(NAMES)}
    with open_admin(stand.cluster.connection()) as admin:
        for group, position in positions.items():
            admin.commit(group, {TP(topic, 0): position})
        stand.backup()
        assert not any("is in no backup" in gap for gap in _gaps(stand))
        stand.restore(rename={topic: topic + "_back"})
        found = admin.committed(positions)
    assert {group: held[TP(topic + "_back", 0)] for group, held in found.items()} == positions
    report = mirrors.mirror(mirror, patience=timedelta(seconds=60), progress=Said(), stop=Stop(), clock=clock)
    assert report.verdict is Verdict.PASS, report.checks
    with open_admin(dr.connection()) as admin:
        there = admin.committed(positions)
    assert {group: held[TP(topic, 0)] for group, held in there.items()} == positions


def test_a_nul_ends_the_key_of_a_header_in_a_backup_as_documented_and_is_kept_by_a_mirror(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster
) -> None:
    topic = stand.topic("t", partitions=1)
    headers = [("a\0b", b"1\0 2"), ("\0", b""), ("plain", None)]
    with RawProducer({"extra": stand.cluster.connection().extra}) as raw:
        raw.produce(TP(topic, 0), int(clock().timestamp() * 1000), key=b"k\0", value=b"\0v", headers=headers)
    report = mirrors.mirror(mirror, patience=timedelta(seconds=60), progress=Said(), stop=Stop(), clock=clock)
    assert report.verdict is Verdict.PASS, report.checks
    assert _headers(stand.cluster, topic) == _headers(dr, topic) == headers
    stand.backup()
    stand.restore(rename={topic: topic + "_back"})
    assert _headers(stand.cluster, topic + "_back") == [("a", b"1\0 2"), ("", b""), ("plain", None)]


def _gaps(stand: Stand) -> list[str]:
    return [gap for gap in stand.source(TARGET).inventory_gaps() if stand.prefix in gap]


def _headers(cluster: KafkaCluster, topic: str) -> list[tuple[str, bytes | None]]:
    """Read the first record's headers with a client that knows how long a key is."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    consumer.assign([TopicPartition(topic, 0)])
    try:
        record = next(iter(consumer))
        return list(record.headers)
    finally:
        consumer.close()
