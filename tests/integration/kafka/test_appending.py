"""Records that are appended to topics which hold some already: none is lost, doubled or passed over."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from include.engine.contracts import Stop
from include.engine.errors import MainstayError, Refused
from include.engine.model import Verdict
from include.engine.systems.kafka.client import TP, open_admin
from include.engine.systems.kafka.declared import change_configs
from tests.systems.kafka.stand import LOADING as TAKES_ANY_TIME
from tests.systems.kafka.stand import Stand, clock, send

pytestmark = pytest.mark.integration


def test_an_append_that_died_is_not_taken_for_a_restore_into_an_empty_topic(stand: Stand) -> None:
    stand.settings = stand.settings.model_copy(update={"segment_records": 20})
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 100, partitions=1)
    stand.backup()
    before = stand.seen(topic)[0]
    stand.said.on_advance = lambda: stand.stop.stop("the task was killed")
    with pytest.raises(MainstayError):
        stand.restore(append=True)
    stand.said.on_advance = lambda: None
    stand.stop = Stop()
    there = stand.seen(topic)[0]
    assert 100 < len(there) < 200
    with pytest.raises(Refused, match=r"holds up to 1\d+ records"):
        stand.restore()
    planned = stand.plan(append=True)
    with pytest.raises(Refused, match="is there and holds records"):  # a plan that was made before the append was begun
        stand.carry_out(msgspec.structs.replace(planned, detail={**planned.detail, "append": False}))
    assert stand.seen(topic)[0] == there
    stand.restore(append=True)
    assert stand.seen(topic)[0] == before + before


def test_a_group_with_records_to_read_is_not_moved_past_them_by_an_append(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 60, partitions=1)
    reading, done = stand.commit("reading", {(topic, 0): 20}), stand.commit("done", {(topic, 0): 30})
    stand.backup()
    stand.commit("reading", {(topic, 0): 50})
    stand.commit("done", {(topic, 0): 60})
    appended = stand.restore(append=True)
    assert appended.verdict is Verdict.PASS, appended.checks
    with open_admin(stand.cluster.connection()) as admin:
        stands = admin.committed([reading, done])
    assert (stands[reading][TP(topic, 0)][0], stands[done][TP(topic, 0)][0]) == (50, 60 + 30)
    assert any(warning.startswith(f"{reading} stays where it is") for warning in appended.detail["warnings"])


def test_a_retention_that_would_delete_what_is_appended_is_told_in_the_plan(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1, given=TAKES_ANY_TIME)
    long_ago = int((clock() - timedelta(days=3)).timestamp() * 1000)
    send(producer := stand.producer(), topic, b"old", None, 0, long_ago)
    assert producer.flush(30) == 0
    stand.backup()
    assert not any("append" in warning for warning in stand.plan(append=True).warnings)
    with open_admin(stand.cluster.connection()) as admin:
        change_configs(admin, topic, set_={"retention.ms": "86400000"})
    warnings = stand.plan(append=True).warnings
    assert (
        f"{topic}: retention.ms is 86400000 there, and would delete at once what is appended: raise it first"
        in warnings
    )


def test_who_may_not_delete_a_group_can_append_the_same_backup_twice(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kafka import KafkaAdminClient

    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 10, partitions=1)
    stand.backup()
    before = stand.seen(topic)[0]
    monkeypatch.setattr(
        KafkaAdminClient, "delete_groups", lambda _, groups: dict.fromkeys(groups, "GroupAuthorizationFailedError")
    )
    for times in (2, 3):
        assert stand.restore(append=True).verdict is Verdict.PASS
        assert stand.seen(topic)[0] == before * times
