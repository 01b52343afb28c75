"""The DAGs ``mirror`` and ``failover`` on a live pipeline: the copy is proved, goes on, and is what readers move to."""

from __future__ import annotations

import pytest

from include.engine.cli.traffic_events import GROUP, TOPIC
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, open_admin
from include.engine.systems.kafka.connect import Connect
from include.engine.systems.kafka.server import PIPELINE_PARTITIONS, PIPELINE_TOPICS, KafkaCluster
from tests.e2e.conftest import UnderWay
from tests.e2e.live import REASON, RUN_SECONDS, Live, eventually

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


def test_a_fail_over_waits_for_a_person_and_then_moves_the_readers_and_stops_the_copying(live: Live) -> None:
    run = live.trigger("failover", {"mirror": "kafka/main/dr", "reason": REASON, "dry_run": False})
    question = live.admin.wait_for_approval("failover", run, timeout=RUN_SECONDS)
    connect = Connect(live.demo.clusters.connect.connection())
    assert "STOPPED" not in {connect.status(name).connector for name in connect.names()}
    live.admin.answer(question, "Approve")
    ended = live.succeeded("failover", run)
    assert {task.state for task in ended.tasks} == {"success"}
    done = live.admin.xcom("failover", run, "failover")
    assert (done["verdict"], done["source_answered"], done["reason"]) == ("PASS", True, REASON)
    assert done["approved_by"] == "admin"
    eventually(
        "the connectors are stopped",
        lambda: {connect.status(name).connector for name in connect.names()} == {"STOPPED"},
    )
