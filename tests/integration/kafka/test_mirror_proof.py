"""What a mirror's proof makes of records that one side alone still has, of partitions without one, and of what nobody can read."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from include.engine.contracts import Stop
from include.engine.model import Check, Verdict
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, open_admin
from include.engine.systems.kafka.mirror import KafkaMirror
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.translate import Side
from include.engine.verbs import mirror as mirrors
from tests.systems.kafka.stand import Said, Stand, clock

pytestmark = pytest.mark.integration


def run(mirror: KafkaMirror) -> mirrors.MirrorReport:
    return mirrors.mirror(mirror, patience=timedelta(seconds=60), progress=Said(), stop=Stop(), clock=clock)


def retained(cluster: KafkaCluster, topic: str, low: int) -> None:
    """Delete what is before *low*, as retention would."""
    from kafka import TopicPartition

    with open_admin(cluster.connection()) as admin:
        admin.client.delete_records({TopicPartition(topic, 0): low})
        deadline = time.monotonic() + 30
        while admin.offsets([TP(topic, 0)], EARLIEST)[TP(topic, 0)] != low:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_what_retention_took_on_one_side_alone_is_no_difference_and_leads_no_group_astray(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster
) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 990, partitions=1)
    group = stand.commit("g", {(topic, 0): 985})
    lost = stand.commit("lost", {(topic, 0): 10})  # before all that is left: it would read on at the first
    assert run(mirror).verdict is Verdict.PASS
    cut = mirror.cut(clock)

    def looks() -> tuple[Check, ...]:
        return (*mirror.compare(cut), *mirror.move_groups(cut))

    retained(stand.cluster, topic, 975)  # and with it what MirrorMaker has noted last
    assert _verdicts(looks()) == {"records": "PASS", "groups": "PASS"}
    assert stand.next_record(group, topic, 0, cluster=dr) == stand.next_record(group, topic, 0)
    assert stand.next_record(lost, topic, 0, cluster=dr) == stand.seen(topic)[0][0]
    with Side(librdkafka_settings(dr.connection())) as side, open_admin(dr.connection()) as admin:
        end = admin.offsets([TP(topic, 0)], LATEST, committed=False)[TP(topic, 0)]
        rows = side.rows(TP(topic, 0), 0, end)
    retained(dr, topic, rows[980].offset)
    checks = looks()
    assert _verdicts(checks) == {"records": "PASS", "groups": "FAIL"}, checks
    assert f"{lost} {topic}-0" in checks[-1].detail  # the copy has not what it would read next
    assert group not in checks[-1].detail
    assert stand.next_record(group, topic, 0, cluster=dr) == stand.next_record(group, topic, 0)
    retained(dr, topic, end)
    assert _verdicts(looks())["records"] == "UNVERIFIED"


def test_a_partition_of_aborted_records_alone_is_not_taken_for_one_that_was_not_copied(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster
) -> None:
    stand.produce(stand.topic("t", partitions=1), 30, partitions=1)
    aborted = stand.topic("aborted", partitions=1)
    stand.hanging(aborted).abort_transaction()
    group = stand.commit("g", {(aborted, 0): 2})
    _same(run(mirror))
    with open_admin(dr.connection()) as admin:
        assert admin.committed([group])[group][TP(aborted, 0)][0] == 0


def test_a_record_that_nobody_can_read_keeps_its_own_groups_where_they_are_and_no_others(
    stand: Stand, mirror: KafkaMirror, dr: KafkaCluster
) -> None:
    bad, good = stand.topic("bad", partitions=1), stand.topic("good", partitions=1)
    stand.produce(good, 300, partitions=1)
    stand.produce_unreadable(bad, 2)
    stand.commit("a", {(bad, 0): 1})
    group = stand.commit("b", {(good, 0): 123})
    mirror.apply()
    cut = mirror.cut(clock)
    mirrors.wait(mirror, cut, patience=timedelta(seconds=60), stop=Stop())
    (check,) = mirror.move_groups(cut)
    assert check.verdict is Verdict.FAIL
    assert "1 of 2 groups were not moved" in check.detail
    assert "no UTF-8" in check.detail
    assert stand.next_record(group, good, 0, cluster=dr) == stand.next_record(group, good, 0)


def _verdicts(checks: tuple[Check, ...]) -> dict[str, str]:
    return {check.name.partition(": ")[2]: str(check.verdict) for check in checks}


def _same(report: mirrors.MirrorReport) -> None:
    assert report.verdict is Verdict.PASS, report.checks
