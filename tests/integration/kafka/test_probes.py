"""What a cluster is asked, and that the answers are numbers that were seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from include.engine import wiring
from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.model import Reading
from include.engine.probing import Probe
from include.engine.store.bucket import Bucket
from include.engine.systems.kafka.client import TopicPlan, open_admin
from include.engine.systems.kafka.declared import create_topics
from include.engine.systems.kafka.group_state import SEVERITY, GroupState
from include.engine.systems.kafka.probes import GroupsProbe, open_probes
from tests.systems.kafka.stand import TARGET, Servers, Stand, clock, send

pytestmark = pytest.mark.integration


def probes_of(stand: Stand, tmp_path: Path) -> dict[str, Probe]:
    """Open all probes as the sweep does: from an inventory."""
    inventory = wiring.load_inventory(inventory_of(stand, tmp_path))
    connections = Servers(kafka_main=stand.cluster.connection())
    return {probe.name: probe for probe in wiring.open_probes(inventory, connections, TARGET)}


def inventory_of(stand: Stand, tmp_path: Path) -> Path:
    file = tmp_path / "inventory.yaml"
    file.write_text(
        f"pipeline: test\nstore: {{url: 'file://{tmp_path}/bucket'}}\n"
        f"kafka: {{main: {{connection: kafka_main, topics: ['{stand.prefix}.*']}}}}\n"
    )
    return file


def of_topic(readings: Sequence[Reading], topic: str) -> dict[tuple[str, str], float]:
    return {(r.metric, r.labels.get("partition", "")): r.value for r in readings if r.labels.get("topic") == topic}


def test_every_probe_of_a_healthy_cluster_gives_what_it_promises(stand: Stand, tmp_path: Path) -> None:
    stand.topic("t")
    probes = probes_of(stand, tmp_path)
    readings = {name: probe.read(clock, timeout=20) for name, probe in probes.items()}
    for name, probe in probes.items():
        assert set(probe.metrics) <= {reading.metric for reading in readings[name]}, name
    found = {r.metric: r.value for each in readings.values() for r in each}
    assert found["kafka.brokers.serving"] == 1
    assert found["kafka.quorum.voters"] == 1
    assert found["kafka.quorum.lag"] == 0
    assert found["kafka.partitions.offline"] == 0
    assert found["kafka.partitions.under_replicated"] == 0
    assert found["kafka.topics.replicas"] == found["kafka.topics.min_isr"] == 1
    assert 1 <= found["kafka.topics.partitions_per_broker"] <= 3  # other tests have topics, too
    assert 0 < found["kafka.disk.free"] < 100


def test_a_topic_with_fewer_replicas_than_its_minimum_takes_records_and_is_no_finding(
    stand: Stand, tmp_path: Path
) -> None:
    topic = stand.topic("t", partitions=2, min_insync_replicas="2")
    stand.produce(topic, 10, partitions=2)  # with the acknowledgement of all replicas
    found = probes_of(stand, tmp_path)["replicas"].read(clock, timeout=20)
    assert [one.value for one in found if one.metric == "kafka.partitions.under_min_isr"] == [0]


def test_lag_in_seconds_is_the_age_of_the_next_record_and_idle_is_no_lag(stand: Stand) -> None:
    topic = stand.topic("t", partitions=3, given={"message.timestamp.type": "CreateTime"})
    now = int(clock().timestamp() * 1000)
    producer = stand.producer()
    for age in (600, 300, 1):
        send(producer, topic, b"v", None, 0, now - age * 1000)
    send(producer, topic, b"v", None, 2, -1)  # without a timestamp: its age is not known, and not zero
    producer.flush()
    group = stand.commit("g", {(topic, 0): 1, (topic, 1): 0, (topic, 2): 0})
    other = stand.commit("other", {(topic, 0): 2})  # at another record of the same partition
    readings = GroupsProbe(stand.cluster.connection).read(clock, timeout=20)
    found = of_topic([r for r in readings if r.labels.get("group") == group], topic)
    assert found["kafka.group.lag_records", "0"] == 2
    assert 295 < found["kafka.group.lag_seconds", "0"] < 330
    assert (found["kafka.group.lag_records", "1"], found["kafka.group.lag_seconds", "1"]) == (0, 0.0)
    assert found["kafka.group.lag_records", "2"] == 1
    assert ("kafka.group.lag_seconds", "2") not in found
    beside = of_topic([r for r in readings if r.labels.get("group") == other], topic)
    assert 0.9 < beside["kafka.group.lag_seconds", "0"] < 30


def test_markers_and_aborted_records_alone_make_nobody_wait(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.hanging(topic).abort_transaction()
    stand.commit("g", {(topic, 0): 0})
    found = of_topic(GroupsProbe(stand.cluster.connection).read(clock, timeout=20), topic)
    assert found["kafka.group.lag_seconds", "0"] == 0


def test_a_group_that_stands_still_before_new_records_is_told_by_its_moves(stand: Stand) -> None:
    topic = stand.topic("t", partitions=2)
    stand.commit("g", {(topic, 0): 0, (topic, 1): 0})
    probe = GroupsProbe(stand.cluster.connection)
    for turn in range(3):
        stand.produce(topic, 4, partitions=2, start=4 * turn)
        stand.commit("g", {(topic, 1): 2 * turn + 2})
        found = of_topic(probe.read(clock, timeout=20), topic)
    assert found["kafka.group.state", "0"] == SEVERITY[GroupState.STOPPED]
    assert found["kafka.group.state", "1"] == SEVERITY[GroupState.OK]
    with open_admin(stand.cluster.connection()) as admin:
        from kafka import TopicPartition

        admin.client.delete_records({TopicPartition(topic, 0): 5})
    found = of_topic(probe.read(clock, timeout=20), topic)
    assert found["kafka.group.state", "0"] == SEVERITY[GroupState.LOSS]
    assert found["kafka.group.lost_records", "0"] == 5


def test_unsaved_records_have_hours_left_per_partition_and_saved_ones_are_not_asked_for(
    stand: Stand, tmp_path: Path
) -> None:
    stand.bucket = Bucket.open(f"file://{tmp_path}/bucket")
    stand.catalog.bucket = stand.bucket
    topic = stand.topic("t", partitions=2, retention_ms="36000000")
    forever = stand.topic("forever", partitions=1, retention_ms="-1")
    now = int(clock().timestamp() * 1000)
    producer = stand.producer()
    for partition, age in ((0, 2), (0, 1), (1, 5)):
        send(producer, topic, b"v", None, partition, now - age * 3600 * 1000)
    send(producer, forever, b"v", None, 0)
    producer.flush()
    probe = probes_of(stand, tmp_path)["unsaved"]
    found = {(r.metric, r.labels.get("partition")): r.value for r in probe.read(clock, timeout=20)}
    assert found["kafka.unsaved.records", None] == 4
    assert 7.9 < found["kafka.unsaved.hours_left", "0"] < 8.01
    assert 4.9 < found["kafka.unsaved.hours_left", "1"] < 5.01
    stand.backup()
    assert [(r.metric, r.value) for r in probe.read(clock, timeout=20)] == [
        ("kafka.unsaved.records", 0),
        ("kafka.unsaved.lost_records", 0),
    ]


def test_many_partitions_are_looked_into_at_once(stand: Stand, tmp_path: Path) -> None:
    topic = stand.prefix + "wide"
    with open_admin(stand.cluster.connection()) as admin:
        create_topics(admin, [TopicPlan(name=topic, partitions=200, factor=1)])
    stand.produce(topic, 400, partitions=200)
    readings = probes_of(stand, tmp_path)["unsaved"].read(clock, timeout=30)
    assert len(of_topic(readings, topic)) == 200


def test_what_cannot_be_read_raises_and_is_no_number(stand: Stand) -> None:
    nobody = Servers(kafka=Connection(host="127.0.0.1", port=1))
    for probe in open_probes(TARGET, stand.settings, nobody):
        with pytest.raises(Unreachable):
            probe.read(clock, timeout=1)


def test_status_prints_what_was_read_and_is_not_green_when_a_number_is_missing(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.engine.cli.app import app

    topic = stand.topic("t")
    stand.produce(topic, 30)
    monkeypatch.setenv("MAINSTAY_INVENTORY", str(inventory_of(stand, tmp_path)))
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_MAIN", f"kafka://{stand.cluster.bootstrap}")
    shown = CliRunner().invoke(app, ["status", "kafka/main"])
    assert shown.exit_code == 0, shown.output
    assert "kafka.partitions.under_replicated" in shown.stdout
    document = json.loads(CliRunner().invoke(app, ["status", "kafka/main", "--json"]).stdout)
    (unsaved,) = [probe for probe in document["probes"] if probe["probe"] == "unsaved"]
    assert {"metric": "kafka.unsaved.records", "value": 30.0}.items() <= unsaved["readings"][0].items()
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_MAIN", "kafka://127.0.0.1:1")
    monkeypatch.setattr("include.engine.cli.readings.TIMEOUT", 1.0)
    dead = CliRunner().invoke(app, ["status", "kafka/main", "--json"])
    assert dead.exit_code == 3
    assert all(probe["error"] and not probe["readings"] for probe in json.loads(dead.stdout)["probes"])
    assert CliRunner().invoke(app, ["status", "kafka/none"]).exit_code == 1
