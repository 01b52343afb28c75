"""The default rules of Kafka on a real cluster: make a condition true, see the finding, undo it, see it close."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import TopicPartition

from include.engine import lookout
from include.engine.store.bucket import Bucket
from include.engine.systems.kafka.client import open_admin
from tests.estate import eventually
from tests.integration.sweeping import Sweeping
from tests.systems.kafka.stand import Stand, clock, send

pytestmark = pytest.mark.integration


@pytest.fixture
def sweeping(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeping:
    """Sweeps of the shared broker; what they find of other tests' topics is none of this test's business."""
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    mine = [f"{stand.prefix}.*"]
    settings: dict[str, object] = {
        "kafka": {"main": {"connection": "kafka_main", "topics": mine, "groups": mine}},
        "expect": {"kafka": {"brokers": 1}},
        "sweep": {"timeout": "30s"},
    }
    return Sweeping(tmp_path, {"kafka_main": stand.cluster.connection()}, settings)


def test_a_group_that_is_behind_is_found_until_it_has_read_on(stand: Stand, sweeping: Sweeping) -> None:
    topic = stand.topic("t", partitions=1, given={"message.timestamp.type": "CreateTime"})
    producer = stand.producer()
    now = int(clock().timestamp() * 1000)
    for age in (700, 600, 1):
        send(producer, topic, b"v", None, 0, now - age * 1000)
    assert producer.flush(30) == 0
    group = stand.commit("g", {(topic, 0): 3})
    sweeping.gone("kafka-lag", "kafka", group=group)
    stand.commit("g", {(topic, 0): 0})
    (finding,) = sweeping.awaited("kafka-lag", "kafka", group=group)
    assert finding.labels == {"group": group, "topic": topic, "partition": "0"}
    assert (finding.limit, str(finding.severity)) == (600, "page")
    assert finding.value is not None
    assert finding.value >= 700
    stand.commit("g", {(topic, 0): 3})
    sweeping.gone("kafka-lag", "kafka", group=group)


def test_a_group_that_stands_still_is_found_by_what_earlier_sweeps_have_seen(stand: Stand, sweeping: Sweeping) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 5, partitions=1)
    group = stand.commit("g", {(topic, 0): 2})
    (finding,) = sweeping.awaited("kafka-group-still", "kafka", group=group)
    assert finding.value == 3
    stand.commit("g", {(topic, 0): 5})
    sweeping.gone("kafka-group-still", "kafka", group=group)


def test_records_that_a_group_can_never_read_are_found(stand: Stand, sweeping: Sweeping) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 10, partitions=1)
    group = stand.commit("g", {(topic, 0): 2})
    sweeping.gone("kafka-group-lost", "kafka", group=group)
    with open_admin(stand.cluster.connection()) as admin:
        admin.client.delete_records({TopicPartition(topic, 0): 7})
    (finding,) = sweeping.awaited("kafka-group-lost", "kafka", group=group)
    assert finding.value == 5
    stand.commit("g", {(topic, 0): 7})
    sweeping.gone("kafka-group-lost", "kafka", group=group)


def test_records_that_expire_before_they_are_saved_are_found_until_they_are(stand: Stand, sweeping: Sweeping) -> None:
    stand.bucket = Bucket.open(f"file://{sweeping.folder}/bucket")
    stand.catalog.bucket = stand.bucket
    topic = stand.topic("t", partitions=1, retention_ms="36000000")
    producer = stand.producer()
    send(producer, topic, b"v", None, 0, int(clock().timestamp() * 1000) - 5 * 3600 * 1000)
    assert producer.flush(30) == 0
    (finding,) = sweeping.awaited("kafka-unsaved", "kafka", topic=topic)
    assert finding.value is not None
    assert 4.5 < finding.value <= 5
    stand.backup()
    sweeping.gone("kafka-unsaved", "kafka", topic=topic)


def test_records_that_expired_before_they_were_saved_are_found(stand: Stand, sweeping: Sweeping) -> None:
    stand.bucket = Bucket.open(f"file://{sweeping.folder}/bucket")
    stand.catalog.bucket = stand.bucket
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 10, partitions=1)
    stand.backup()
    sweeping.until(lambda rules: "kafka-lost" not in rules, "kafka")
    stand.produce(topic, 10, partitions=1, start=10)
    with open_admin(stand.cluster.connection()) as admin:
        admin.client.delete_records({TopicPartition(topic, 0): 15})
    stand.backup()
    (finding,) = sweeping.awaited("kafka-lost", "kafka")
    assert finding.value == 5
    with open_admin(stand.cluster.connection()) as admin:  # the hole itself has expired: no restore could miss it now
        admin.client.delete_records({TopicPartition(topic, 0): 20})
    stand.backup()
    sweeping.until(lambda rules: "kafka-lost" not in rules, "kafka")


def test_a_transaction_that_hangs_is_found_and_what_is_behind_it_is_unsaved(stand: Stand, sweeping: Sweeping) -> None:
    topic = stand.topic("t", partitions=1, retention_ms="36000000", given={"message.timestamp.type": "CreateTime"})
    two_hours_ago = int(clock().timestamp() * 1000) - 2 * 3600 * 1000
    producer = stand.hanging(topic, two_hours_ago)
    stand.produce(topic, 5, partitions=1)
    (finding,) = sweeping.awaited("kafka-transaction", "kafka", topic=topic)
    assert finding.value is not None
    assert 7100 < finding.value < 7400
    assert finding.labels == {"topic": topic, "partition": "0"}
    (soon,) = sweeping.awaited("kafka-unsaved", "kafka", topic=topic)
    assert soon.value is not None
    assert 7.5 < soon.value < 8.1
    producer.abort_transaction()
    sweeping.gone("kafka-transaction", "kafka", topic=topic)


def test_fewer_brokers_and_replicas_than_were_declared_are_found(stand: Stand, sweeping: Sweeping) -> None:
    topic = stand.topic("t", partitions=1)
    alone = {"kafka-brokers", "kafka-replicas", "kafka-min-isr"}
    fine = {"brokers": 1, "replication_factor": 1, "min_insync_replicas": 1, "partitions_per_broker": 1}
    sweeping.declare("expect", kafka=fine)
    sweeping.until(lambda rules: not rules & {*alone, "kafka-narrow-topics"}, "kafka")
    sweeping.declare("expect", kafka={"brokers": 2, "replication_factor": 3, "min_insync_replicas": 2})
    sweeping.until(lambda rules: rules >= alone, "kafka")
    (replicas,) = sweeping.found("kafka-replicas", "kafka")
    assert (replicas.value, replicas.limit) == (1, 3)
    sweeping.declare("expect", kafka=fine | {"partitions_per_broker": 1.5})
    (narrow,) = sweeping.awaited("kafka-narrow-topics", "kafka")
    assert topic in narrow.labels["topics"] or narrow.labels["topics"].endswith(" …")
    sweeping.declare("expect", kafka=fine)
    sweeping.until(lambda rules: not rules & {*alone, "kafka-narrow-topics"}, "kafka")


def test_a_topic_and_a_group_that_nobody_saves_are_found_until_they_are_covered(
    stand: Stand, sweeping: Sweeping
) -> None:
    topic = stand.topic("forgotten", partitions=1)
    group = stand.commit("forgotten", {(topic, 0): 0})
    target = {"connection": "kafka_main", "topics": [f"{stand.prefix}.*"], "groups": [f"{stand.prefix}.*"]}

    def uncovered() -> list[str]:
        told = [one.labels["what"] for one in sweeping.found("coverage", "backups")]
        return sorted(one for one in told if f" {topic} " in one or f" {group} " in one)

    def awaited(*expected: str) -> None:
        gaps = [f"{one} is in no backup of kafka/main" for one in expected]
        eventually(lambda: uncovered() == gaps, what=f"the gaps are {gaps}")

    awaited()
    sweeping.declare("kafka", main={**target, "topics": [f"{stand.prefix}saved"]})
    awaited(f"topic {topic}")  # where its group stands is of no use without it
    sweeping.declare("kafka", main={**target, "groups": [f"{stand.prefix}saved"]})
    awaited(f"group {group}")
    sweeping.declare("kafka", main=target)
    awaited()
    sweeping.declare("kafka", main={**target, "exclude": [topic]})
    awaited()  # left out on purpose


def test_a_disk_of_a_broker_is_told_with_its_place(sweeping: Sweeping) -> None:
    sweeping.tolerate("kafka-disk", 100)
    (finding,) = sweeping.awaited("kafka-disk", "kafka")
    assert set(finding.labels) == {"broker", "directory"}
    assert finding.unit == "%"
    sweeping.tolerate("kafka-disk", 0)
    sweeping.gone("kafka-disk", "kafka")
