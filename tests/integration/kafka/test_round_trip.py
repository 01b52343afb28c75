"""What goes into a backup comes out of a restore: every byte, in order, and every group at the same record."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from include.engine.model import Verdict
from include.engine.store.bucket import Bucket
from include.engine.systems.kafka import detail, grants
from include.engine.systems.kafka.client import open_admin
from include.engine.systems.kafka.decisions import decide, holding
from include.engine.systems.kafka.declared import Acl, Quota, own_configs, read_declared, topic_configs
from include.engine.systems.kafka.grants import Grants
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.estate import eventually
from tests.systems.kafka import hostile
from tests.systems.kafka.stand import LOADING, TARGET, Stand, send

pytestmark = pytest.mark.integration
SEED = 20261123


def test_hostile_records_come_back_without_a_difference(stand: Stand) -> None:
    topic = stand.topic("hostile", max_message_bytes="4000000", given=LOADING)
    records = hostile.records(SEED, 1500)
    stand.produce_hostile(topic, records)
    before = stand.seen(topic)
    assert sum(map(len, before.values())) == len(records)
    stand.backup()
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == before


def test_a_backup_on_s3_survives_a_drill(stand: Stand, object_store: ObjectStoreServer, bucket: str) -> None:
    from include.engine.contracts import Connection

    stand.bucket = Bucket.open(
        f"s3://{bucket}/p",
        Connection(
            login=object_store.access_key,
            password=object_store.secret_key,
            extra={"endpoint_url": object_store.endpoint},
        ),
    )
    stand.catalog.bucket = stand.bucket
    topic = stand.topic("users", retention_ms="172800000")
    stand.produce(topic, 3000)
    stand.commit("readers", {(topic, 0): 17, (topic, 1): 1000, (topic, 2): 0})
    manifest = stand.backup()
    assert stand.verify(manifest).verdict is Verdict.PASS
    report = stand.drill(manifest)
    assert report.verdict is Verdict.PASS, report.checks
    assert {check.name.partition(": ")[2] for check in report.checks} >= {
        "topics",
        "configurations",
        "counts",
        "contents",
        "groups",
    }
    assert report.rpo_seconds is not None
    assert report.rto_seconds is not None


def test_an_hourly_backup_stores_only_what_is_new(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 900)
    first = stand.backup()
    second = stand.backup()
    stand.produce(topic, 30, start=900)
    third = stand.backup()
    assert [m.detail["new_records"] for m in (first, second, third)] == [900, 0, 30]
    stored = {found.key for found in stand.bucket.list("kafka/main/objects")}
    assert len(stored) == 6
    assert {entry.key for entry in third.entries} >= stored
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_full_backup_finds_its_segments_in_the_store_already(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 300)
    first = stand.backup()
    second = stand.backup(full=True)
    assert second.detail["new_records"] == 300
    assert {e.key for e in first.entries if "/objects/" in e.key} == {
        e.key for e in second.entries if "/objects/" in e.key
    }


def test_times_that_the_broker_gave_come_back_and_the_topic_gives_them_again(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1, given={"message.timestamp.type": "LogAppendTime"})
    producer = stand.producer()
    for i in range(20):
        send(producer, topic, b"%d" % i, None, 0, 1_000_000 + i)
    assert producer.flush(30) == 0
    before = stand.seen(topic)
    assert min(time for _, _, time, _ in before[0]) > 1_600_000_000_000
    stand.backup()
    restored = stand.restore(rename={topic: topic + "_back"})
    assert restored.verdict is Verdict.PASS
    assert stand.seen(topic + "_back") == before
    with open_admin(stand.cluster.connection()) as admin:
        found = own_configs(topic_configs(admin, [topic + "_back"])[topic + "_back"])
    assert found == {"message.timestamp.type": "LogAppendTime"}


def test_groups_continue_at_the_same_record(stand: Stand) -> None:
    topic = stand.topic("t", cleanup_policy="delete")
    producer = stand.producer(**{"transactional.id": stand.prefix, "enable.idempotence": True})
    producer.init_transactions()
    for batch in range(6):  # markers and aborted records make the offsets of the source sparse
        producer.begin_transaction()
        for i in range(10):
            send(producer, topic, b"%d-%d" % (batch, i), None, i % 3)
        producer.flush()
        producer.abort_transaction() if batch % 3 == 1 else producer.commit_transaction()
    positions = {(topic, p): o for p, o in ((0, 9), (1, 3), (2, 14))}
    group = stand.commit("g", positions)
    expected = [stand.next_record(group, topic, p) for p in range(3)]
    assert all(expected)
    before = stand.seen(topic)
    assert sum(map(len, before.values())) == 40
    stand.backup()
    restored = stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == before
    assert [stand.next_record(group, topic + "_back", p) for p in range(3)] == expected
    assert restored.verdict is Verdict.PASS


def test_a_restore_to_a_millisecond_stops_there(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1, given=LOADING)
    producer = stand.producer()
    base = int(datetime.now(UTC).timestamp() * 1000) - 60_000
    for i in range(100):
        send(producer, topic, b"%d" % i, None, 0, base + i)
    producer.flush()
    group = stand.commit("g", {(topic, 0): 80})
    stand.backup()
    point = datetime.fromtimestamp((base + 49) / 1000, UTC).isoformat()
    stand.restore(rename={topic: topic + "_back"}, point=point)
    values = [value for _, value, _, _ in stand.seen(topic + "_back")[0]]
    assert values == [b"%d" % i for i in range(50)]
    # It had read more than there is now: it continues at the end.
    with open_admin(stand.cluster.connection()) as admin:
        moved = admin.committed([group])[group]
    assert {tp.topic: offset for tp, (offset, _) in moved.items()}[topic + "_back"] == 50


def test_configurations_come_back_after_the_load(stand: Stand) -> None:
    wanted = {
        "cleanup.policy": "compact",
        "retention.ms": "7200000",
        "max.message.bytes": "2000000",
        "segment.ms": "600000",
    }
    topic = stand.topic("t", given=wanted)
    stand.produce(topic, 30)
    stand.backup()
    stand.restore(rename={topic: topic + "_back"})
    with open_admin(stand.cluster.connection()) as admin:
        found = own_configs(topic_configs(admin, [topic + "_back"])[topic + "_back"])
    assert found == wanted


def test_records_older_than_the_retention_are_not_deleted_by_the_restore(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1, retention_ms="3600000", given=LOADING)
    long_ago = int(datetime.now(UTC).timestamp() * 1000) - 3_000_000
    producer = stand.producer()
    send(producer, topic, b"old", None, 0, long_ago)
    producer.flush()
    stand.backup()
    manifest = stand.catalog.backups(TARGET)[-1]
    saved = detail.read(manifest)
    decisions = decide(
        saved,
        only=(),
        rename={},
        append=False,
        until=None,
        brokers=1,
        existing={},
        resuming=frozenset(),
    )
    at_first = holding(decisions, saved, datetime.fromtimestamp(long_ago / 1000 + 60, UTC), defaults={})
    assert at_first.topics[0].configs["retention.ms"] == "3600000"
    decisions = holding(decisions, saved, datetime.fromtimestamp(long_ago / 1000 + 7200, UTC), defaults={})
    assert decisions.topics[0].configs["retention.ms"] == "-1"
    assert any("would delete at once" in warning for warning in decisions.warnings)


def test_appending_adds_and_keeps_what_is_there(stand: Stand) -> None:
    topic = stand.topic("t", retention_ms="9000000")
    stand.produce(topic, 60)
    stand.backup()
    before = stand.seen(topic)
    stand.restore(append=True)
    after = stand.seen(topic)
    assert after == {p: found + found for p, found in before.items()}
    with open_admin(stand.cluster.connection()) as admin:
        assert own_configs(topic_configs(admin, [topic])[topic]) == {"retention.ms": "9000000"}


def test_a_name_that_only_tells_what_a_topic_was_is_kept_in_the_manifest(stand: Stand) -> None:
    topic = stand.topic("t", partitions=2, retention_ms="1234567")
    stand.produce(topic, 10, partitions=2)
    detail = stand.backup().detail["topics"][topic]
    assert detail["partitions"] == 2
    assert detail["factor"] == 1
    assert detail["configs"]["retention.ms"] == {"value": "1234567", "source": "DYNAMIC_TOPIC_CONFIG"}
    assert len(detail["id"]) == 36


def test_topics_without_a_record_are_backed_up_too(stand: Stand) -> None:
    topic = stand.topic("empty", partitions=2)
    stand.backup()
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == {0: [], 1: []}


def test_access_rules_and_quotas_come_back_where_it_is_asked_for_and_in_every_drill(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 10, partitions=1)
    user = stand.prefix + "user"
    with open_admin(stand.cluster.connection()) as admin:
        rule = Acl("TOPIC", topic, "LITERAL", f"User:{user}", "*", "READ", "ALLOW")
        limits = Quota({"user": user, "client-id": None}, {"consumer_byte_rate": 1048576.0})
        grants.apply(admin, Grants(acls=(rule,), quotas=(limits,)))
        admin.client.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, "a secret", 4096)]
        )
        eventually(lambda: user in read_declared(admin).scram_users, what="the broker knows the user")
        manifest = stand.backup()
        again = stand.restore(rename={topic: topic + "_back"})
        assert any("not put back" in warning for warning in again.detail["warnings"])
        assert any(user in warning and "SCRAM" in warning for warning in again.detail["warnings"])
        moved = msgspec.structs.replace(rule, resource=topic + "_back")
        assert grants.differences(admin, Grants(acls=(moved,)))
        asked = stand.restore(rename={topic: topic + "_more"}, access=True)
        moved = msgspec.structs.replace(rule, resource=topic + "_more")
        assert grants.differences(admin, Grants(acls=(moved,), quotas=(limits,))) == []
    assert ("access", Verdict.PASS) in [(check.name, check.verdict) for check in asked.checks]
    report = stand.drill(manifest)
    assert report.verdict is Verdict.PASS, report.checks
    assert any(check.name.endswith(": access") for check in report.checks)
