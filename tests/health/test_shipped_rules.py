"""Every rule that ships, on a reading at its limit and on one beyond: neither a dead rule nor a rule that always barks."""

from __future__ import annotations

import pytest

from include.engine import lookout
from include.engine.health.judging import Level, judge
from include.engine.health.rules import Comparison, Rule, load
from include.engine.inventory import Inventory
from include.engine.model import Reading
from include.engine.verbs.proofs import of_pipeline
from tests.health.making import NOW, look

BOOK = load([lookout.RULES], runbooks=lookout.RUNBOOKS)
DECLARED = Inventory.model_validate(
    {
        "pipeline": "shop",
        "store": {"url": "memory://x"},
        "expect": {
            "postgres": {"standbys": 1, "synchronous_standbys": 1},
            "cassandra": {"nodes": 3, "replication_factor": 3, "quorum": True, "repair_within": "7d"},
            "kafka": {"brokers": 3, "replication_factor": 3, "min_insync_replicas": 2, "partitions_per_broker": 1},
            "spark": {"masters": 2, "workers": 2, "batch_seconds": 10},
            "airflow": {"schedulers": 2, "triggerers": 1, "dag_processors": 1, "api_servers": 3},
        },
    }
)


def limit(rule: Rule, which: str) -> float | None:
    found = getattr(rule, which)
    return lookout.limit(DECLARED, found, "postgres/main") if isinstance(found, str) else found


def levels(rule: Rule, value: float) -> list[Level]:
    seen = look(
        Reading(metric=rule.metric, value=value, unit="1", at=NOW, labels=rule.where), subject="box/one", metrics=()
    )
    only = BOOK.model_copy(update={"rules": {rule.name: rule}})
    found = judge(only, [seen], limits=lambda name, _: expectations()[name], now=NOW)
    return [one.level for one in found.bad.values() if one.rule == rule.name]


def expectations() -> dict[str, float]:
    found = {}
    for rule in BOOK.rules.values():
        for one in (rule.warning, rule.critical):
            if isinstance(one, str):
                value = lookout.limit(DECLARED, one, "postgres/main")
                assert value is not None, f"{rule.name}: {one} is not declared above"
                found[one] = value
    return found


@pytest.mark.parametrize("rule", BOOK.rules.values(), ids=lambda rule: rule.name)
def test_a_rule_speaks_beyond_its_limit_and_not_at_it(rule: Rule) -> None:
    step = {Comparison.ABOVE: 1.0, Comparison.BELOW: -1.0}[rule.compare]
    for which, level in (("warning", Level.WARNING), ("critical", Level.CRITICAL)):
        bound = limit(rule, which)
        if bound is not None:
            assert level in levels(rule, bound + step)
            assert level not in levels(rule, bound)


@pytest.mark.parametrize("rule", BOOK.rules.values(), ids=lambda rule: rule.name)
def test_what_the_demo_does_not_declare_is_not_judged(rule: Rule) -> None:
    references = [one for one in (rule.warning, rule.critical) if isinstance(one, str)]
    bare = Inventory.model_validate({"pipeline": "shop", "store": {"url": "memory://x"}})
    assert all(lookout.limit(bare, one, "x/y") is None for one in references if one.startswith("expect."))


def test_the_probes_of_the_bucket_promise_what_the_rules_ask() -> None:
    promised = {metric for probe in of_pipeline(lambda: None) for metric in probe.metrics}  # type: ignore[arg-type, return-value]
    assert {"backups.set.age", "backups.drill.age", "backups.drill.passed"} <= promised
