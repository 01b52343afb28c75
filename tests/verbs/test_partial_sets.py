"""A drill of a set that left out a part of the pipeline proves these parts, and not the pipeline."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from include.engine.contracts import Stop
from include.engine.model import DrillReport, Target, Verdict
from include.engine.verbs import backup, drill
from include.engine.verbs.pipeline import Pipeline, Terms
from tests.cli import paper
from tests.cli.paper import Paper
from tests.estate import Quiet

LOG, TABLES, DATABASE = targets = [*map(Target.parse, ("kafka/main", "cassandra/main", "postgres/main"))]
SET = "20261123T020000Z"


def now() -> datetime:
    return datetime.now(UTC)


class Papers:
    """Finds each of the targets."""

    def __init__(self) -> None:
        self.found = {target: Paper(target=target) for target in targets}

    def source(self, target: Target) -> Paper:
        return self.found[target]

    engine = source

    def archive(self, target: Target) -> None:
        return None


@pytest.fixture
def pipeline() -> Pipeline:
    made = paper.pipeline(Paper())
    return replace(made, lookup=Papers(), terms=dict.fromkeys(targets, Terms()))


def drilled(pipeline: Pipeline, *taken: Target) -> DrillReport:
    backup.freeze(pipeline, SET, taken, clock=now)
    doing: dict[str, Any] = {"progress": Quiet(), "stop": Stop(), "clock": now}
    for target in taken:
        backup.copy(pipeline, SET, target, **doing)
    backup.seal(pipeline, SET, clock=now)
    return drill.drill(pipeline, drill.choose(pipeline), drill_id=SET, **doing)


def test_a_set_without_a_declared_target_proves_nothing_about_the_pipeline(pipeline: Pipeline) -> None:
    report = drilled(pipeline, LOG, TABLES)
    (open_,) = [check for check in report.checks if check.verdict is not Verdict.PASS]
    assert (report.verdict, open_.name) == (Verdict.UNVERIFIED, "pipeline: targets")
    assert "not in the set: postgres/main" in open_.detail


def test_a_set_of_all_declared_targets_passes(pipeline: Pipeline) -> None:
    assert drilled(pipeline, *targets).verdict is Verdict.PASS


def test_a_single_target_is_not_measured_by_the_others(pipeline: Pipeline) -> None:
    report = drilled(pipeline, DATABASE)
    assert (report.verdict, report.target) == (Verdict.PASS, DATABASE)
