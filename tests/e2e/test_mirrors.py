"""The DAG ``mirror`` on a live pipeline: the copy is proved, and what comes later arrives too."""

from __future__ import annotations

import pytest

from include.engine.cli.traffic_events import GROUP, TOPIC
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, open_admin
from include.engine.systems.kafka.server import PIPELINE_PARTITIONS, PIPELINE_TOPICS, KafkaCluster
from tests.e2e.conftest import UnderWay
from tests.e2e.live import Live, eventually

pytestmark = pytest.mark.e2e

PARTITIONS = [TP(topic, number) for topic in PIPELINE_TOPICS for number in range(PIPELINE_PARTITIONS)]


def records(cluster: KafkaCluster) -> int:
    with open_admin(cluster.connection()) as admin:
        last, first = (admin.offsets(PARTITIONS, when) for when in (LATEST, EARLIEST))
    return sum(last[one] - first[one] for one in PARTITIONS)


def test_a_mirror_is_made_and_proved_and_goes_on(live: Live, under_way: UnderWay) -> None:
    clusters = live.demo.clusters
    at_least = records(clusters.kafka)
    live.succeeded("mirror", live.trigger("mirror"))
    copied = records(clusters.copy)
    assert copied >= at_least > 0
    with open_admin(clusters.copy.connection()) as admin:
        assert set(admin.committed([GROUP])[GROUP]) == {one for one in PARTITIONS if one.topic == TOPIC}
    eventually("records that were sent afterwards are on the copy", lambda: records(clusters.copy) > copied)
