"""What a cluster is asked, and that the answers are numbers that were seen."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from include.engine.systems.kafka import detail, probes
from include.engine.systems.kafka.client import open_admin
from tests.systems.kafka.stand import TARGET, Stand, clock, send

pytestmark = pytest.mark.integration


def test_a_healthy_cluster_reads_as_one(stand: Stand) -> None:
    stand.topic("t")
    with open_admin(stand.cluster.connection()) as admin:
        found = {r.name: r.value for look in (probes.cluster, probes.replicas, probes.disks) for r in look(admin)}
    assert found["kafka_brokers"] == 1
    assert found["kafka_quorum_voters"] == 1
    assert found["kafka_quorum_lag"] == 0
    assert found["kafka_offline_partitions"] == 0
    assert found["kafka_under_replicated_partitions"] == 0
    assert found["kafka_topics_with_one_replica"] >= 1
    assert 0 < found["kafka_disk_free_ratio"] < 1


def test_lag_in_seconds_is_the_age_of_the_next_record_and_idle_is_no_lag(stand: Stand) -> None:
    topic = stand.topic("t", partitions=2)
    producer = stand.producer()
    now = int(datetime.now(UTC).timestamp() * 1000)
    for age in (600, 300, 1):
        send(producer, topic, b"v", None, 0, now - age * 1000)
    producer.flush()
    group = stand.commit("g", {(topic, 0): 1, (topic, 1): 0})
    with open_admin(stand.cluster.connection()) as admin:
        found = {
            lag.tp.partition: lag
            for lag in probes.group_lags(admin, stand.cluster.connection(), clock())
            if lag.group == group
        }
    assert found[0].sample.lag == 2
    assert 295 < found[0].seconds < 330
    assert (found[1].sample.lag, found[1].seconds) == (0, 0.0)


def test_unsaved_records_have_hours_left_and_saved_ones_are_not_asked_for(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1, retention_ms="36000000")
    producer = stand.producer()
    now = int(datetime.now(UTC).timestamp() * 1000)
    send(producer, topic, b"v", None, 0, now - 2 * 3600 * 1000)
    producer.flush()

    def hours() -> list[float]:
        saved = detail.newest(stand.catalog.backups(TARGET))
        with open_admin(stand.cluster.connection()) as admin:
            readings = probes.unsaved(admin, stand.cluster.connection(), saved, clock())
            return [r.value for r in readings if r.labels == {"topic": topic}]

    (left,) = hours()
    assert 7.9 < left < 8.01
    stand.backup()
    assert hours() == []
