"""From readings to symptoms: a golden table, and everything that must never be taken for a zero."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from include.engine.health.judging import Level
from tests.health.making import BROKEN, DOWN, NOW, book, judged, look, reading


@pytest.mark.parametrize(
    ("value", "level"), [(0, None), (5, None), (5.1, Level.WARNING), (9, Level.WARNING), (9.1, Level.CRITICAL)]
)
def test_a_value_beyond_its_limit_is_a_symptom(value: float, level: Level | None) -> None:
    found = judged(look(reading(value))).bad
    assert [one.level for one in found.values()] == ([] if level is None else [level])


def test_series_of_one_metric_are_judged_one_by_one() -> None:
    found = judged(look(reading(6, disk="a"), reading(1, disk="b"), reading(10, disk="c"))).bad
    assert {key: one.level for key, one in found.items()} == {
        "load|box/one|disk=a": Level.WARNING,
        "load|box/one|disk=c": Level.CRITICAL,
    }


def test_a_rule_may_be_about_one_series_only() -> None:
    rules = book().model_copy(
        update={"rules": {"load": book().rules["load"].model_copy(update={"where": {"disk": "a"}})}}
    )
    assert set(judged(look(reading(6, disk="a"), reading(6, disk="b")), rules=rules).bad) == {"load|box/one|disk=a"}


def test_a_limit_that_nobody_declared_is_not_judged() -> None:
    rule = book().rules["load"].model_copy(update={"warning": "expect.kafka.brokers", "critical": None})
    rules = book().model_copy(update={"rules": {"load": rule}})
    assert not judged(look(reading(6)), rules=rules).bad
    assert judged(look(reading(6)), rules=rules, expect_kafka_brokers=3).bad


def test_a_system_that_is_down_is_one_finding_and_not_one_for_each_probe() -> None:
    found = judged(look(trouble=DOWN), look(trouble=DOWN, probe="disks", metrics=("box.disk",))).bad
    assert list(found) == ["unreachable|box/one|"]
    assert "nobody answers. start it" in found["unreachable|box/one|"].detail


def test_one_probe_that_fails_says_so_and_hides_no_other() -> None:
    found = judged(look(trouble=BROKEN, probe="broken", metrics=()), look(reading(6))).bad
    assert set(found) == {"unread|box/one|probe=broken", "load|box/one|"}


def test_a_metric_that_vanishes_is_a_finding() -> None:
    assert set(judged(look(reading(1, "box.other"))).bad) == {"absent|box/one|metric=box.load,probe=load"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_not_judged_but_told(value: float) -> None:
    found = judged(look(reading(value)))
    assert set(found.bad) == {"unread|box/one|probe=load"}


@pytest.mark.parametrize("off", [timedelta(minutes=-11), timedelta(minutes=11)])
def test_a_reading_of_another_time_is_not_judged_but_told(off: timedelta) -> None:
    assert set(judged(look(reading(10, at=NOW + off))).bad) == {"stale|box/one|probe=load"}


def test_a_rule_for_a_metric_that_nothing_gives_is_told() -> None:
    rules = book()
    assert set(judged(look(reading(1, "box.laod"), metrics=("box.laod",)), rules=rules).bad) == {"unjudged|rules/load|"}
    optional = rules.model_copy(update={"rules": {"load": rules.rules["load"].model_copy(update={"optional": True})}})
    assert not judged(look(reading(1, "box.laod"), metrics=("box.laod",)), rules=optional).bad


def test_labels_that_only_say_what_was_seen_are_no_other_finding() -> None:
    one = judged(look(reading(10, topics="a"))).bad
    assert set(one) == set(judged(look(reading(10, topics="a, b"))).bad)
