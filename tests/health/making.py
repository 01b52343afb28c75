"""Looks, rules and judgements for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from include.engine.health.findings import Advanced, Finding, advance
from include.engine.health.judging import Judgement, judge
from include.engine.health.looks import Look, Trouble
from include.engine.health.rules import RuleBook, parse
from include.engine.model import Reading

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
SETTLE = timedelta(minutes=10)
STEP = timedelta(minutes=5)

RULE = """
rules:
  load:
    metric: box.load
    is: above
    warning: 5
    critical: 9
    severity: page
    means: too much is asked of it
    action: ask less of it, or give it more
    costs: nothing
    runbook: system-down
"""


def book(more: str = "", text: str = RULE) -> RuleBook:
    return parse(text + more)


def reading(value: float, metric: str = "box.load", *, at: datetime = NOW, unit: str = "1", **labels: str) -> Reading:
    return Reading(metric=metric, value=value, unit=unit, at=at, labels=labels)


def look(*readings: Reading, subject: str = "box/one", trouble: Trouble | None = None, **more: Any) -> Look:
    given: dict[str, Any] = {"probe": "load", "metrics": ("box.load",), "at": NOW, "seconds": 0.1, **more}
    return Look(subject=subject, source="the load", readings=tuple(readings), trouble=trouble, **given)


DOWN = Trouble(kind="Unreachable", message="nobody answers", hint="start it", silent=True)
BROKEN = Trouble(kind="ValueError", message="the probe failed", hint="report it")


def judged(*looks: Look, rules: RuleBook | None = None, at: datetime = NOW, **limits: float) -> Judgement:
    return judge(rules or book(), looks, limits=lambda name, _subject: limits.get(name.replace(".", "_")), now=at)


class Life:
    """Findings over time."""

    def __init__(self, rules: RuleBook | None = None, settle: timedelta = SETTLE) -> None:
        self.rules, self.settle, self.now = rules or book(), settle, NOW
        self.known: dict[str, Finding] = {}
        self.told: list[str] = []

    def sees(self, *looks: Look, everything: bool = True) -> Advanced:
        found = judged(*looks, rules=self.rules, at=self.now)
        advanced = advance(self.known, found, now=self.now, settle=self.settle, team="ops", everything=everything)
        self.known = {one.key: one for one in advanced.findings}
        self.told += [str(change.kind) for change in advanced.changes]
        self.now += STEP
        return advanced

    def load(self, value: float) -> Advanced:
        return self.sees(look(reading(value, at=self.now)))

    def states(self) -> list[str]:
        return [str(one.state) for one in self.known.values()]
