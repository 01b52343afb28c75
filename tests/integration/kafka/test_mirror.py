"""A mirror has every record once, says so only when it is so, and moves every group to the very record."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from include.engine import lookout
from include.engine.contracts import Connection, Stop
from include.engine.errors import Contended, Misconfigured, PermanentError, Refused, Unreachable
from include.engine.model import Verdict
from include.engine.systems.kafka.client import TP, TopicPlan, open_admin
from include.engine.systems.kafka.connect import Connect, Status
from include.engine.systems.kafka.connect_server import ConnectWorker
from include.engine.systems.kafka.declared import change_configs, create_topics
from include.engine.systems.kafka.mirror import KafkaMirror
from include.engine.systems.kafka.mirror_probe import MirrorProbe
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.topology import connector_name, heartbeat_name
from include.engine.verbs import failover as failovers
from include.engine.verbs import mirror as mirrors
from tests.integration.kafka.conftest import load_topic
from tests.integration.sweeping import Sweeping
from tests.systems.kafka import hostile
from tests.systems.kafka.rebalancing import Rebalancing
from tests.systems.kafka.stand import LOADING, Said, Servers, Stand, clock, send, settings_of

pytestmark = pytest.mark.integration
# No value of the tests is a number of one byte: the task dies with its first record.
BROKEN = {
    "transforms": "broken",
    "transforms.broken.type": "org.apache.kafka.connect.transforms.Cast$Value",
    "transforms.broken.spec": "int8",
}


def run(mirror: KafkaMirror) -> mirrors.MirrorReport:
    return mirrors.mirror(mirror, patience=timedelta(seconds=60), progress=Said(), stop=Stop(), clock=clock)


def test_hostile_records_and_transactions_are_mirrored_without_a_difference(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster
) -> None:
    topic = stand.topic("hostile", given=LOADING | {"max.message.bytes": "4000000"})
    # Connect has no word for "no timestamp": it would be the time of the copying.  That, and nothing else, a mirror changes.
    found = [one for one in hostile.records(7, 600) if one.timestamp >= 0]
    stand.produce_hostile(topic, found)
    other = stand.topic("transactions", partitions=1)
    producer = stand.producer(**{"transactional.id": stand.prefix})
    producer.init_transactions()
    for batch in range(4):
        producer.begin_transaction()
        for i in range(5):
            send(producer, other, b"%d-%d" % (batch, i), None, 0)
        producer.flush()
        producer.abort_transaction() if batch == 3 else producer.commit_transaction()
    load = load_topic(stand)  # its pattern is declared, and all the same it stays here
    with open_admin(stand.cluster.connection()) as admin:
        create_topics(admin, [TopicPlan(name=load, partitions=1, factor=1)])
    stand.produce(load, 10, partitions=1)
    report = run(mirror)
    with open_admin(dr.connection()) as admin:
        assert load not in admin.topics()
    stand.delete(load)
    assert stand.seen(topic, cluster=dr) == stand.seen(topic)
    assert stand.seen(other, cluster=dr) == stand.seen(other)
    assert report.verdict is Verdict.PASS, [check.detail for check in report.checks]
    assert report.changes == tuple(f"create {name(mirror.name)}" for name in (heartbeat_name, connector_name))


def test_groups_are_moved_to_the_same_record_and_a_second_run_changes_nothing(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster
) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 6000)
    groups = {
        stand.commit("start", {(topic, 0): 0, (topic, 1): 1}): (0, 1),
        stand.commit("middle", {(topic, 0): 654, (topic, 1): 892}): (0, 1),
        stand.commit("late", {(topic, 0): 1999, (topic, 2): 1500}): (0, 2),
        stand.commit("done", {(topic, 0): 2000, (topic, 1): 2000}): (0, 1),
    }
    report = run(mirror)
    assert report.verdict is Verdict.PASS, report.checks
    for group, partitions in groups.items():
        for partition in partitions:
            expected = stand.next_record(group, topic, partition)
            assert stand.next_record(group, topic, partition, cluster=dr) == expected, (group, partition)
    stand.produce(topic, 300, start=6000)
    again = run(mirror)
    assert (again.changes, again.verdict) == ((), Verdict.PASS)
    assert stand.seen(topic, cluster=dr) == stand.seen(topic)


def test_a_worker_that_is_killed_in_mid_copy_loses_and_doubles_nothing(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster, worker: ConnectWorker
) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 60_000, size=200)
    mirror.apply()
    cut = mirror.cut(clock)
    _until(lambda: _copied(mirror) > 0)
    worker.kill()
    worker.start()
    seen = mirrors.wait(mirror, cut, patience=timedelta(seconds=90), stop=Stop())
    assert seen.caught_up
    assert stand.seen(topic, cluster=dr) == stand.seen(topic)


def probe_of(stand: Stand, mirror: KafkaMirror, dr: KafkaCluster, worker: ConnectWorker) -> MirrorProbe:
    connections = Servers(main=stand.cluster.connection(), dr=dr.connection(), connect=worker.connection())
    return MirrorProbe(mirror.name, mirror.settings, connections, "main")


@pytest.fixture
def sweeping(
    stand: Stand,
    mirror: KafkaMirror,
    dr: KafkaCluster,
    worker: ConnectWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Sweeping:
    """Sweeps of a cluster with this mirror."""
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    mine = [f"{stand.prefix}.*"]
    declared = {mirror.name: mirror.settings.model_dump(mode="json", exclude_defaults=True)}
    settings: dict[str, object] = {
        "kafka": {"main": {"connection": "main", "topics": mine, "groups": mine, "mirrors": declared}},
        "sweep": {"timeout": "60s"},
    }
    known = {"main": stand.cluster.connection(), "dr": dr.connection(), "connect": worker.connection()}
    return Sweeping(tmp_path, known, settings)


def until(sweeping: Sweeping, *expected: str) -> None:
    """Sweep until these rules speak of the mirror, and no others."""

    def seen(rules: set[str]) -> bool:
        return {rule for rule in rules if rule.startswith("kafka-mirror")} == set(expected) and "unread" not in rules

    sweeping.until(seen, "kafka")


def test_a_running_connector_whose_task_has_failed_is_not_waited_for(
    stand: Stand, mirror: KafkaMirror, sweeping: Sweeping
) -> None:
    stand.produce(stand.topic("t"), 30)
    name = connector_name(mirror.name)
    sound = dict(mirror._wanted[name])
    # Values that are no JSON kill the task, while the connector goes on saying RUNNING.
    mirror._wanted[name]["value.converter"] = "org.apache.kafka.connect.json.JsonConverter"
    mirror._wanted[name]["transforms"] = "broken"
    mirror._wanted[name]["transforms.broken.type"] = "org.apache.kafka.connect.transforms.Cast$Value"
    mirror._wanted[name]["transforms.broken.spec"] = "int8"
    mirror.apply()
    with pytest.raises(PermanentError, match="failed"):
        mirrors.wait(mirror, mirror.cut(clock), patience=timedelta(seconds=60), stop=Stop())
    (finding,) = sweeping.awaited("kafka-mirror-failed", "kafka")
    assert finding.labels == {"mirror": mirror.name}
    mirror._wanted[name] = sound
    mirror.apply()
    until(sweeping, "kafka-mirror-unproved")  # it runs, and nobody has compared anything yet
    assert run(mirror).verdict is Verdict.PASS
    until(sweeping)
    past = mirror.cut(lambda: clock() - timedelta(days=2))
    mirror.proved(past)
    until(sweeping, "kafka-mirror-proof")
    assert run(mirror).verdict is Verdict.PASS
    until(sweeping)


def test_what_connect_would_refuse_is_told_before_anything_changes(
    stand: Stand, mirror: KafkaMirror, worker: ConnectWorker
) -> None:
    stand.topic("t")
    name = connector_name(mirror.name)
    mirror._wanted[name]["source.consumer.isolation.level"] = "read_uncommitted"
    with pytest.raises(Misconfigured, match="exactly"):
        mirrors.plan(mirror)
    assert name not in Connect(worker.connection()).names()


def test_a_changed_setting_is_shown_as_a_difference(stand: Stand, mirror: KafkaMirror) -> None:
    stand.topic("t")
    mirror.apply()
    name = connector_name(mirror.name)
    mirror._wanted[name]["tasks.max"] = "1"
    _until(lambda: mirror.plan().changes == (f"update {name}: tasks.max: 2 -> 1",))


def test_a_mirrors_probe_reads_lag_and_heartbeat_and_is_red_when_a_task_is_dead(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster, worker: ConnectWorker, sweeping: Sweeping
) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 300)
    until(sweeping, "kafka-mirror-made")  # it is declared, and that is all
    assert run(mirror).verdict is Verdict.PASS
    probe = probe_of(stand, mirror, dr, worker)

    def read() -> dict[str, float]:
        return {reading.metric: reading.value for reading in probe.read(clock, timeout=20)}

    _until(lambda: {*probe.metrics, *probe.sometimes} <= set(read()))
    found = read()
    assert (found["kafka.mirror.lag_records"], found["kafka.mirror.lag_seconds"]) == (0, 0)
    assert (found["kafka.mirror.tasks_running"], found["kafka.mirror.tasks_failed"]) == (3, 0)
    assert found["kafka.mirror.heartbeat_age"] < 60
    until(sweeping)
    connect = Connect(worker.connection())
    connect.stop(connector_name(mirror.name))
    _until(lambda: connect.status(connector_name(mirror.name)).tasks == ())
    now = int(clock().timestamp() * 1000)
    producer = stand.producer()
    for age in (500, 5):
        send(producer, topic, b"late", None, 0, now - age * 1000)
    producer.flush()
    found = read()
    assert found["kafka.mirror.lag_records"] == 2
    assert 499 < found["kafka.mirror.lag_seconds"] < 560
    assert found["kafka.mirror.tasks_running"] == 1
    until(sweeping, "kafka-mirror-lag", "kafka-mirror-idle")
    connect.resume(connector_name(mirror.name))
    until(sweeping)
    sweeping.tolerate("kafka-mirror-heartbeat", "10s")
    connect.stop(heartbeat_name(mirror.name))
    until(sweeping, "kafka-mirror-heartbeat", "kafka-mirror-idle")
    connect.resume(heartbeat_name(mirror.name))
    until(sweeping)


def test_a_record_that_the_copy_does_not_take_ends_the_waiting_with_its_cause(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster
) -> None:
    topic = stand.topic("t", partitions=1, max_message_bytes="3000000")
    with open_admin(dr.connection()) as admin:
        create_topics(admin, [TopicPlan(name=topic, partitions=1, factor=1, configs={"max.message.bytes": "1000"})])
    send(producer := stand.producer(), topic, os.urandom(100_000), None, 0)
    producer.flush()
    # Its configuration would be copied to the target, and with it the limit, some seconds later.
    mirror._wanted[connector_name(mirror.name)]["sync.topic.configs.enabled"] = "false"
    mirror.apply()
    with pytest.raises(PermanentError, match="RecordTooLarge"):
        mirrors.wait(mirror, mirror.cut(clock), patience=timedelta(seconds=60), stop=Stop())


def test_a_fail_over_moves_the_groups_and_stops_the_copying(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster, worker: ConnectWorker
) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 900)
    group = stand.commit("g", {(topic, 0): 100})
    mirror.apply()
    report = failovers.failover(
        mirror,
        reason="the site is on fire",
        patience=timedelta(seconds=60),
        progress=Said(),
        stop=Stop(),
        clock=clock,
    )
    assert report.verdict is Verdict.PASS, report.checks
    assert stand.next_record(group, topic, 0, cluster=dr) == stand.next_record(group, topic, 0)
    for name in (connector_name, heartbeat_name):
        assert Connect(worker.connection()).status(name(mirror.name)).connector == "STOPPED"
    assert "failed over at 20" in mirror.stopped()
    assert mirror.stopped().endswith("UTC, the site is on fire")


def test_a_mirror_counts_as_stopped_when_connect_tells_that_no_task_is_left(
    stand: Stand, mirror: KafkaMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.produce(stand.topic("t"), 30)
    mirror.apply()
    ask = mirror._connect.status
    late = [Status(connector="STOPPED", tasks=("RUNNING",)), Status(connector="RUNNING", tasks=("RUNNING",))]
    monkeypatch.setattr(mirror._connect, "status", lambda name: late.pop() if late else ask(name))
    mirror.stop("the site is on fire")
    assert not late  # it has waited for as long as a task ran
    monkeypatch.setattr(mirror._connect, "status", lambda _: Status(connector="STOPPED", tasks=("RUNNING",)))
    monkeypatch.setattr("include.engine.systems.kafka.mirror._ENDS", 0.5)
    with pytest.raises(Unreachable, match="does not say that it has"):
        mirror.stop("the site is on fire")


def test_a_mirror_that_was_failed_over_copies_on_only_when_its_name_is_typed(
    stand: Stand, mirror: KafkaMirror, worker: ConnectWorker, dr: KafkaCluster, sweeping: Sweeping
) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 90)
    group = stand.commit("g", {(topic, 0): 10})
    assert run(mirror).verdict is Verdict.PASS
    cut = mirror.cut(clock)
    mirror.stop("failed over at noon, the site is on fire")
    connect, name = Connect(worker.connection()), connector_name(mirror.name)
    # Not only soon: from now on somebody writes to the copy.
    assert (connect.status(name).connector, connect.status(name).tasks) == ("STOPPED", ())
    planned = mirror.plan()
    assert set(planned.stopped) == {name, heartbeat_name(mirror.name)}
    assert f"resume {name}, which is STOPPED" in planned.changes
    for attempt in (
        lambda: run(mirror),
        mirror.apply,
    ):  # between the plan and its application a fail-over may come, too
        with pytest.raises(Refused, match="stopped, as a fail-over does"):
            attempt()
    assert mirror.stopped().endswith(": failed over at noon, the site is on fire")
    with open_admin(dr.connection()) as admin:  # its readers have gone on, on the copy
        admin.commit(group, {TP(topic, 0): (20, "")})
        (check,) = mirrors.conclude(mirror, cut, mirror.progress(cut))  # a run that was waiting when it was failed over
        assert (check.verdict, admin.committed([group])[group][TP(topic, 0)]) == (Verdict.UNVERIFIED, (20, ""))
    until(sweeping, "kafka-mirror-stopped")
    assert connect.status(name).connector == "STOPPED"
    stand.produce(topic, 30, start=90)
    again = mirrors.mirror(
        mirror, patience=timedelta(seconds=60), progress=Said(), stop=Stop(), clock=clock, resume=True
    )
    assert again.verdict is Verdict.PASS, again.checks
    assert mirror.stopped() == ""
    until(sweeping)


def test_a_fail_over_moves_the_groups_though_a_task_is_dead_and_one_group_runs_on_the_copy(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster, worker: ConnectWorker
) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 900)
    groups = [stand.commit(name, {(topic, 0): 100}) for name in ("a", "b", "c")]
    assert run(mirror).verdict is Verdict.PASS
    stand.commit("a", {(topic, 0): 200})
    stand.commit("c", {(topic, 0): 200})
    name = connector_name(mirror.name)
    sound = dict(mirror._wanted[name])
    mirror._wanted[name] |= BROKEN
    mirror.apply()
    stand.produce(topic, 30, start=900)
    _until(lambda: Connect(worker.connection()).status(name).failed)
    planned = failovers.plan(mirror, clock)
    assert (planned.source_answers, planned.caught_up) == (True, False)
    # And not: it lacks nothing.  The task from before may have copied some, and the broken one none.
    assert planned.offsets is not None
    assert 0 < planned.offsets <= 30
    running = Consumer(settings_of(dr.bootstrap) | {"group.id": groups[1]})
    running.subscribe([topic])
    _until(lambda: running.poll(0.1) is not None or bool(running.assignment()))
    report = failovers.failover(
        mirror,
        reason="the site is on fire",
        patience=timedelta(seconds=60),
        progress=Said(),
        stop=Stop(),
        clock=clock,
    )
    running.close()
    assert report.source_answered
    assert report.verdict is Verdict.FAIL
    found = {check.name.partition(": ")[2]: check for check in report.checks}
    assert found["caught up"].verdict is Verdict.FAIL
    assert "has failed" in found["caught up"].detail
    assert found["groups"].verdict is Verdict.UNVERIFIED
    assert "1 of 3 groups were not moved" in found["groups"].detail
    for group in (groups[0], groups[2]):
        assert stand.next_record(group, topic, 0, cluster=dr) == stand.next_record(group, topic, 0)
    mirror._wanted[name] = sound


def test_what_a_fail_over_would_find_is_not_the_sources_fault_when_connect_does_not_answer(
    stand: Stand, mirror: KafkaMirror
) -> None:
    stand.produce(stand.topic("t"), 30)
    never = failovers.plan(mirror, clock)
    assert (never.source_answers, never.caught_up, never.offsets) == (True, False, None)  # there is no connector yet
    mirror._connect = Connect(Connection(host="127.0.0.1", port=1), patience=0)
    planned = failovers.plan(mirror, clock)
    assert (planned.source_answers, planned.offsets) == (True, None)
    (warning,) = planned.warnings
    assert "Kafka Connect did not answer at http://127.0.0.1:1" in warning


def test_a_failed_task_is_restarted_by_the_next_run(stand: Stand, mirror: KafkaMirror, worker: ConnectWorker) -> None:
    """Its cause was outside of the configuration: nothing of that changes, so Connect restarts nothing by itself."""
    topic = stand.topic("t", max_message_bytes="3000000", partitions=1)
    with open_admin(mirror_target(mirror)) as admin:
        create_topics(admin, [TopicPlan(name=topic, partitions=1, factor=1, configs={"max.message.bytes": "1000"})])
        send(producer := stand.producer(), topic, os.urandom(100_000), None, 0)
        producer.flush()
        mirror._wanted[connector_name(mirror.name)]["sync.topic.configs.enabled"] = "false"
        mirror.apply()
        name, connect = connector_name(mirror.name), Connect(worker.connection())
        _until(lambda: name in mirror._states() and connect.status(name).failed)
        change_configs(admin, topic, set_={"max.message.bytes": "3000000"})
    assert f"restart the failed tasks of {name}" in mirror.plan().changes
    assert run(mirror).verdict is Verdict.PASS


def test_a_mirror_onto_the_same_cluster_or_of_no_topic_is_refused_before_anything_changes(
    stand: Stand, mirror: KafkaMirror, worker: ConnectWorker
) -> None:
    with pytest.raises(Misconfigured, match="no topic of the source matches"):
        mirrors.plan(mirror)
    stand.topic("t")
    # The same cluster by another address: only its id tells.
    mirror._target = stand.cluster.connection(sasl=True)
    with pytest.raises(Misconfigured, match="source and target are one cluster"):
        mirrors.plan(mirror)
    assert connector_name(mirror.name) not in Connect(worker.connection()).names()


def test_a_mirror_of_topics_without_a_record_proves_nothing(stand: Stand, mirror: KafkaMirror) -> None:
    stand.topic("t")
    report = run(mirror)
    assert report.verdict is Verdict.UNVERIFIED
    assert any("nothing to compare" in check.detail for check in report.checks)


def test_a_mirror_logs_in_on_both_sides_and_gives_a_copy_with_fewer_partitions_as_many_as_the_source_has(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster, worker: ConnectWorker
) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 90)
    with open_admin(dr.connection()) as admin:
        create_topics(admin, [TopicPlan(name=topic, partitions=1, factor=1)])
    safe = KafkaMirror(
        mirror.name,
        mirror.settings,
        source=stand.cluster.connection(sasl=True),
        target=dr.connection(sasl=True),
        connect=worker.connection(),
    )
    report = run(safe)
    assert report.verdict is Verdict.PASS, report.checks
    assert stand.seen(topic, cluster=dr) == stand.seen(topic)


def test_the_connectors_of_a_mirror_whose_name_begins_alike_are_another_mirrors(
    stand: Stand, mirror: KafkaMirror, worker: ConnectWorker
) -> None:
    stand.topic("t")
    mirror.apply()
    name, connect = connector_name(f"{mirror.name}-2"), Connect(worker.connection())
    connect.put(name, mirror._wanted[connector_name(mirror.name)])
    _until(lambda: name in connect.names())
    assert mirror.plan().changes == ()
    mirror.apply()
    assert name in connect.names()
    connect.delete(name)


def test_topics_that_mirrormaker_takes_for_its_own_are_named(stand: Stand, mirror: KafkaMirror) -> None:
    stand.topic("t")
    aside = stand.topic("shop-internal")
    planned = mirror.plan()
    assert aside not in planned.topics
    assert any(aside in warning for warning in planned.warnings)


def test_a_worker_that_rebalances_is_waited_for_and_one_that_never_ends_it_is_told(
    stand: Stand, mirror: KafkaMirror, worker: ConnectWorker
) -> None:
    stand.produce(stand.topic("t"), 30)
    with Rebalancing(worker.port, refusals=4) as proxy:
        mirror._connect = Connect(proxy.connection())
        report = run(mirror)
        assert report.verdict is Verdict.PASS, report.checks
        assert proxy.refused == 4
        assert ("PUT", f"/connectors/{connector_name(mirror.name)}/config") in proxy.passed
        proxy.refusals = 1000
        with pytest.raises(Contended, match="rebalancing"):
            Connect(proxy.connection(), patience=1).names()
    mirror._connect = Connect(worker.connection())


def mirror_target(mirror: KafkaMirror) -> Connection:
    return mirror._target


def _copied(mirror: KafkaMirror) -> int:
    return sum(int(at["offset"]) for _, at in mirror._connect.offsets(connector_name(mirror.name)))


def _until(true: Callable[[], bool], within: float = 180.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
