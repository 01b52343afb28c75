"""The default rules of the stream on a real Kafka, with a job that stands still: make a condition true, undo it, see it close."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from kafka import TopicPartition as Place
from kafka.admin import ConfigResource, ConfigResourceType

from include.engine import lookout
from include.engine.systems.kafka.client import open_admin
from tests.estate import eventually
from tests.integration.spark.brook import TARGET, Brook
from tests.integration.spark.test_stream import person

pytestmark = pytest.mark.integration


def commit(brook: Brook, position: int) -> None:
    """Commit for the job, as its driver does after a batch, in the first partition of its users."""
    group = brook.settings().group_of(TARGET.name)
    consumer = Consumer({"bootstrap.servers": brook.kafka.bootstrap, "group.id": group, "log_level": 0})

    def committed() -> bool:
        try:
            consumer.commit(offsets=[TopicPartition(brook.users, 0, position)], asynchronous=False)
        except KafkaException:  # the group's coordinator may be on its way
            return False
        return True

    eventually(committed, what="the group has a position")
    consumer.close()


def alter_retention(brook: Brook, milliseconds: int) -> None:
    with open_admin(brook.kafka.connection()) as admin:
        change = {"retention.ms": str(milliseconds)}
        admin.client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, brook.users, configs=change)])


def test_a_stream_that_works_on_old_records_or_can_never_read_some_is_found(
    brook: Brook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    sweeping = brook.sweeping(tmp_path)
    producer = Producer({"bootstrap.servers": brook.kafka.bootstrap, "log_level": 0})
    now = int(time.time() * 1000)
    for number in range(10):
        producer.produce(brook.users, json.dumps(person(number)).encode(), None, 0, timestamp=now - 700_000)
    assert producer.flush(60) == 0
    commit(brook, 0)
    (late,) = sweeping.awaited("spark-late", "spark", flow="users")
    assert (late.limit, str(late.severity)) == (600, "page")
    assert not sweeping.found("spark-retention", "spark")  # 700 s of a week
    alter_retention(brook, 1_000_000)
    (expiring,) = sweeping.awaited("spark-retention", "spark", flow="users")
    assert expiring.value is not None
    assert 70 < expiring.value < 100  # of 1,000 s, before any of them is gone
    alter_retention(brook, 604_800_000)
    sweeping.gone("spark-retention", "spark", flow="users")
    with open_admin(brook.kafka.connection()) as admin:
        admin.client.delete_records({Place(brook.users, 0): 4})
    (lost,) = sweeping.awaited("spark-lost", "spark", flow="users")
    assert lost.value == 4
    commit(brook, 10)
    sweeping.until(lambda rules: not rules & {"spark-late", "spark-lost"}, "spark")


def test_a_stream_that_writes_to_fewer_replicas_than_a_quorum_is_found(
    brook: Brook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    sweeping = brook.sweeping(tmp_path, spark={TARGET.name: brook.declared(consistency="ONE")})
    assert "cassandra-quorum" not in sweeping.rules("spark")  # nobody demands it
    sweeping.declare("expect", cassandra={"quorum": True})
    (finding,) = sweeping.awaited("cassandra-quorum", "spark")
    assert finding.labels == {"consistency": "ONE"}
    sweeping.declare("spark", **{TARGET.name: brook.declared()})
    sweeping.gone("cassandra-quorum", "spark")
