"""Rules as data: strict, and every mistake with its line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include.engine import lookout
from include.engine.errors import Misconfigured
from include.engine.health.rules import Comparison, load, parse
from include.engine.inventory import Inventory
from tests.health.making import RULE, book

TEN_MISTAKES = """\
rules:
  First:
    metric: a.b
  second:
    metric: NotAMetric
    is: over
    warning: many
    severity: loud
    means: too much is asked of it
    action: ask less of it, please
    costs: nothing
    runbook: nowhere
    colour: red
  third:
    metric: box.load
    is: above
    warning: 9
    critical: 5
    severity: page
    means: too much is asked of it
    action: ask less of it, please
    costs: nothing
    runbook: system-down
  third:
    metric: box.load
probes:
  both: {sql: select 1, url: "http://x", metric: a.b, target: postgres/main}
  lonely: {sql: select 1, metric: a.b}
  odd: {url: "http://x", metric: a.b, pattern: "(("}
limits: {}
"""


def test_ten_mistakes_are_told_all_at_once_each_with_its_line() -> None:
    with pytest.raises(Misconfigured) as caught:
        parse(TEN_MISTAKES, runbooks=frozenset({"system-down"}))
    told = caught.value.message.splitlines()
    by_line = {int(line.split()[1].rstrip(":")): line for line in told[1:]}
    assert "rules.yaml has" in told[0]
    assert len(told) - 1 >= 10
    for line, words in (
        (2, "First"),
        (5, "metric"),
        (6, "is"),
        (7, "'many' is no limit"),
        (8, "severity"),
        (13, "unknown key"),
        (24, "given twice"),
        (27, "exactly one of sql, cql, url and command"),
        (28, "needs `target:"),
        (29, "no regular expression"),
        (30, "unknown key"),
    ):
        assert words in by_line[line]
    assert caught.value.hint


def test_a_limit_that_can_never_be_reached_in_order_is_a_mistake() -> None:
    with pytest.raises(Misconfigured, match=r"line 3: .*critical \(5\) is reached before warning \(9\)"):
        parse(RULE.replace("warning: 5", "warning: 9").replace("critical: 9", "critical: 5"))


def test_a_rule_whose_runbook_is_not_there_is_a_mistake() -> None:
    with pytest.raises(Misconfigured, match=r"line 12: .*there is no include/runbooks/system-down.md"):
        parse(RULE, runbooks=frozenset())


@pytest.mark.parametrize(("written", "meant"), [("30s", 30.0), ("2GiB", 2 << 30), ("26h", 93600.0), ("7", 7.0)])
def test_limits_may_be_written_with_units(written: str, meant: float) -> None:
    rule = parse(RULE.replace("warning: 5", f"warning: {written}").replace("    critical: 9\n", "")).rules["load"]
    assert rule.warning == meant


@pytest.mark.parametrize("reference", ["expect.kafka.brokers", "objective.rpo"])
def test_a_limit_may_stand_for_what_the_inventory_declares(reference: str) -> None:
    found = parse(RULE.replace("warning: 5", f"warning: {reference}"))
    assert found.rules["load"].warning == reference


@pytest.mark.parametrize("reference", ["expect.kafka.brokres", "objective.rpq", "expect.nothing.at"])
def test_a_limit_that_the_inventory_cannot_declare_is_a_mistake(reference: str) -> None:
    with pytest.raises(Misconfigured, match="line 6"):
        parse(RULE.replace("warning: 5", f"warning: {reference}"))


@pytest.mark.parametrize(
    ("compare", "beyond", "fine"),
    [
        (Comparison.ABOVE, 6.0, 5.0),
        (Comparison.BELOW, 4.0, 5.0),
        (Comparison.EQUAL, 5.0, 4.0),
        (Comparison.DIFFERENT, 4.0, 5.0),
    ],
)
def test_a_limit_itself_is_tolerable_unless_it_is_equal_that_is_not(
    compare: Comparison, beyond: float, fine: float
) -> None:
    assert compare.holds(beyond, 5.0)
    assert not compare.holds(fine, 5.0)


def test_a_rule_of_ones_own_takes_the_place_of_the_one_that_ships() -> None:
    ours = parse(RULE.replace("warning: 5", "warning: 1"))
    assert ours.over(book()).rules["load"].warning == 1


def test_the_rules_that_ship_are_right_and_each_has_its_runbook() -> None:
    shipped = load([lookout.RULES], runbooks=lookout.RUNBOOKS)
    assert len(shipped.rules) > 40
    assert {"airflow-queue", "kafka-lag", "spark-batch", "postgres-connections", "cassandra-disk"} == set(
        shipped.scaling
    )
    assert shipped.rules["http-latency"].hold == timedelta(minutes=5)


def test_what_the_inventory_declares_is_what_a_limit_means() -> None:
    inventory = Inventory.model_validate(
        {
            "pipeline": "p",
            "store": {"url": "memory://x"},
            "expect": {"kafka": {"brokers": 3}},
            "objectives": {"rpo": "2m"},
        }
    )
    assert lookout.limit(inventory, "expect.kafka.brokers", "kafka/main") == 3
    assert lookout.limit(inventory, "expect.postgres.standbys", "postgres/main") is None
    assert lookout.limit(inventory, "objective.rpo", "backups/postgres/main") == 120
