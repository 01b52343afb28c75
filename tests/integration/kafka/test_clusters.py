"""Brokers that die in the middle: what was committed is saved and restored all the same."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from include.engine import lookout
from include.engine.errors import TransientError
from include.engine.model import Reading, Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.systems.kafka import probes
from include.engine.systems.kafka.client import TopicPlan, open_admin
from include.engine.systems.kafka.declared import create_topics, delete_topics
from include.engine.systems.kafka.server import PIPELINE_TOPICS, KafkaCluster
from tests.estate import eventually
from tests.integration.sweeping import Sweeping
from tests.systems.kafka.stand import Stand, clock

pytestmark = pytest.mark.integration


def test_a_broker_that_is_killed_in_mid_copy_and_in_mid_restore_costs_time_only(sandbox: Sandbox) -> None:
    cluster = KafkaCluster(sandbox, "killed").start()
    stand = Stand(cluster, segment_records=2000)
    topic = stand.topic("t")
    stand.produce(topic, 60_000, size=200)
    before = stand.seen(topic)
    with _killed_once(cluster) as hit:
        stand.said.on_advance = hit
        manifest = stand.backup()
    assert manifest.detail["new_records"] == 60_000
    with _killed_once(cluster) as hit:
        stand.said.on_advance = hit
        _restored_at_last(stand, topic)
    assert stand.seen(topic + "_back") == before
    cluster.stop()


def test_a_log_that_was_cut_back_and_has_grown_again_is_read_anew(sandbox: Sandbox) -> None:
    cluster = KafkaCluster(sandbox, "cutback").start()
    stand = Stand(cluster)
    whole, torn = stand.topic("whole", partitions=1), stand.topic("torn", partitions=1)
    for topic in (whole, torn):
        for start in range(0, 100, 10):  # a batch each
            stand.produce(topic, 10, partitions=1, start=start)
    assert stand.backup().detail["new_records"] == 200
    cluster.kill()
    _leave_batches(cluster.nodes[0].data / f"{torn}-0" / f"{0:020d}.log", 6)
    cluster.start()
    for topic in (whole, torn):
        stand.produce(topic, 90, partitions=1, start=1000)
    manifest = stand.backup()
    assert manifest.detail["new_records"] == 90 + 150  # a new leader alone is no reason
    assert [note for note in manifest.notes if "was truncated" in note and torn in note]
    stand.restore(rename={topic: topic + "_back" for topic in (whole, torn)})
    for topic in (whole, torn):
        assert stand.seen(topic + "_back") == stand.seen(topic)
    assert len(stand.seen(torn)[0]) == 150
    cluster.stop()


def test_the_pipelines_topics_are_made_once_and_keep_records_for_two_days(sandbox: Sandbox) -> None:
    cluster = KafkaCluster(sandbox, "pipeline").start()
    cluster.create_topics()
    cluster.create_topics()
    with open_admin(cluster.connection()) as admin:
        found = admin.topics(PIPELINE_TOPICS)
    assert {name: len(topic.partitions) for name, topic in found.items()} == dict.fromkeys(PIPELINE_TOPICS, 3)
    pid = cluster.nodes[0].pid
    assert KafkaCluster(sandbox, "pipeline").start().nodes[0].pid == pid
    cluster.stop()
    assert not cluster.running


@pytest.fixture(scope="module")
def three(sandbox: Sandbox) -> Iterator[KafkaCluster]:
    cluster = KafkaCluster(sandbox, "three", size=3).start(timeout=180)
    yield cluster
    cluster.stop()


@pytest.mark.slow
def test_a_broker_of_three_that_stops_during_a_backup_is_survived(three: KafkaCluster) -> None:
    stand = Stand(three, segment_records=2000)
    topic = stand.prefix + "t"
    with open_admin(three.connection()) as admin:
        create_topics(admin, [TopicPlan(name=topic, partitions=6, factor=3)])
    stand.produce(topic, 60_000, partitions=6, size=200)
    stand.said.on_advance = _once(three.nodes[1].stop)
    manifest = stand.backup()
    assert manifest.detail["new_records"] == 60_000
    with open_admin(three.connection()) as admin:
        readings = {r.metric: r.value for r in probes.replicas(admin, partial(Reading, at=clock()))}
    assert readings["kafka.partitions.under_replicated"] >= 6
    assert readings["kafka.partitions.offline"] == 0
    three.nodes[1].launch()
    assert stand.drill(manifest).verdict is Verdict.PASS


@pytest.mark.slow
def test_a_broker_that_stops_is_found_with_all_that_follows_until_it_is_back(
    three: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    prefix = Stand(three).prefix
    plans = [
        TopicPlan(name=f"{prefix}safe", partitions=3, factor=3, configs={"min.insync.replicas": "3"}),
        TopicPlan(name=f"{prefix}alone", partitions=3, factor=1),
    ]
    narrow = TopicPlan(name=f"{prefix}narrow", partitions=1, factor=3)
    with open_admin(three.connection()) as admin:
        create_topics(admin, plans)
    settings: dict[str, object] = {
        "kafka": {"main": {"connection": "kafka_main", "topics": [f"{prefix}.*"]}},
        "expect": {"kafka": {"brokers": 3, "partitions_per_broker": 1}},
        "sweep": {"timeout": "30s"},
    }
    sweeping = Sweeping(tmp_path, {"kafka_main": three.connection()}, settings)
    sweeping.tolerate("kafka-quorum-lag", 30)  # the controllers write two records a second when nothing happens
    found = {
        "kafka-brokers",
        "kafka-fenced",
        "kafka-offline",
        "kafka-under-replicated",
        "kafka-under-min-isr",
        "kafka-quorum-lag",
    }
    sweeping.until(lambda rules: not rules & {*found, "kafka-narrow-topics"}, "kafka")
    with open_admin(three.connection()) as admin:
        create_topics(admin, [narrow])
    sweeping.until(lambda rules: "kafka-narrow-topics" in rules, "kafka")
    with open_admin(three.connection()) as admin:
        delete_topics(admin, [narrow.name])
    three.nodes[1].stop()
    try:
        sweeping.until(lambda rules: rules >= found, "kafka")
        (offline,) = sweeping.found("kafka-offline", "kafka")
        assert offline.labels == {"topics": f"{prefix}alone"}
    finally:
        three.nodes[1].launch()
    sweeping.until(lambda rules: not rules & {*found, "kafka-narrow-topics"}, "kafka")


@pytest.mark.slow
def test_replicas_are_lowered_on_a_smaller_cluster_and_it_is_said(three: KafkaCluster, sandbox: Sandbox) -> None:
    stand = Stand(three)
    topic = stand.prefix + "t"
    with open_admin(three.connection()) as admin:
        plan = TopicPlan(name=topic, partitions=2, factor=3, configs={"min.insync.replicas": "2"})
        create_topics(admin, [plan])
    stand.produce(topic, 10, partitions=2)
    manifest = stand.backup()
    small = KafkaCluster(sandbox, "small").start()
    stand.servers.known["small"] = small.connection()
    restored = stand.restore(server="small")
    assert any("1 replicas instead of 3" in warning for warning in restored.detail["warnings"])
    assert stand.seen(topic, cluster=small) == stand.seen(topic)
    assert manifest.detail["topics"][topic]["factor"] == 3
    small.stop()


def _once(action: Callable[[], object]) -> Callable[[], None]:
    left = [action]

    def act() -> None:
        with suppress(IndexError):  # several threads call it
            left.pop()()

    return act


@contextmanager
def _killed_once(cluster: KafkaCluster) -> Iterator[Callable[[], None]]:
    """Give what kills the broker, once, and has it started beside whatever goes on; it runs again in the end."""
    starting = threading.Thread(target=partial(cluster.start, timeout=240))

    def kill_and_start() -> None:
        cluster.nodes[0].kill()
        starting.start()

    yield _once(kill_and_start)
    starting.join()  # which it would not be if nobody had killed it


def _restored_at_last(stand: Stand, topic: str) -> None:
    """Run it again as Airflow's retry would, while the error says that this may help."""

    def restored() -> bool:
        try:
            stand.restore(rename={topic: topic + "_back"})
        except TransientError:
            return False
        return True

    eventually(restored, within=240, what="it is restored")


def _leave_batches(log: Path, count: int) -> None:
    """Keep the first batches of a segment, as a leader would have it that was behind."""
    raw = log.read_bytes()
    end = 0
    for _ in range(count):
        (length,) = struct.unpack_from(">i", raw, end + 8)
        end += 12 + length
    assert end < len(raw)
    with log.open("r+b") as opened:
        opened.truncate(end)
