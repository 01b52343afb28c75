"""What a checklist calls proved: only what was proved by somebody else than itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.engine import lookout, wiring
from include.engine.errors import Misconfigured, Unreachable
from include.engine.health.history import History
from include.engine.inventory import Inventory
from include.engine.model import Chapter, Check, DrillReport, Item, Reading, SetManifest, System, Target, Verdict
from include.engine.verbs import checklist, checklist_chapters, predeployment, proofs, sweep
from include.engine.verbs.checklist import Inspection
from include.engine.verbs.looking import Asked
from include.engine.verbs.pipeline import Pipeline, Terms
from include.engine.verbs.sweep import SweepReport, Watch
from tests.cli import paper
from tests.health.making import SETTLE, book
from tests.store.making import drill_report

OTHER = Target(System.KAFKA, "main")


def clock() -> datetime:
    return datetime.now(UTC)


@dataclass
class Told:
    """A probe that gives one number."""

    metric: str = "box.load"
    value: float = 1.0
    labels: Mapping[str, str] | None = None
    name = "told"
    source = "the test"

    def __post_init__(self) -> None:
        self.metrics: Sequence[str] = (self.metric,)

    def read(self, clock: Callable[[], datetime], *, timeout: float) -> list[Reading]:
        return [Reading(metric=self.metric, value=self.value, unit="1", at=clock(), labels=dict(self.labels or {}))]


class Desk:
    """Somebody who goes through a checklist, of a pipeline on paper."""

    def __init__(self, folder: Path) -> None:
        self.document: dict[str, Any] = {
            "pipeline": "paper",
            "store": {"url": "memory://x"},
            "postgres": {"main": {"connection": "x"}},
            "sweep": {"airflow": {"main": {"connection": "x"}}},
        }
        self.pipeline: Pipeline = paper.pipeline(paper.Paper())
        self.probes = [Told()]
        self.watch = Watch(
            systems=["box"],
            asked=lambda _system: [Asked("box/one", probe) for probe in self.probes],
            book=book(),
            limits=lambda _name, _subject: None,
            histories=[lambda: History.in_file(folder / "h.sqlite"), lambda: History.in_file(None)],
            timeout=SETTLE,
            settle=SETTLE,
            team="ops",
        )
        self.folder = folder

    def inventory(self) -> Inventory:
        file = self.folder / "inventory.yaml"
        file.write_text(yaml.safe_dump(self.document))
        return wiring.load_inventory(file)

    def sweep(self, at: datetime | None = None, systems: tuple[str, ...] = ("box",)) -> SweepReport:
        looks = sweep.look(self.watch, systems, clock=clock)
        return sweep.conclude(self.watch, looks, systems, clock=lambda: at or clock(), seconds=0.1)[0]

    def sees(self, make: Callable[[Inspection], Chapter]) -> dict[str, Item]:
        """Look at everything as a checklist does, and give the lines of one chapter."""
        looks = sweep.look(self.watch, ["box"], clock=clock)
        report, history = sweep.conclude(self.watch, looks, ["box"], clock=clock, seconds=0.1, counted=False)
        seen = Inspection(
            inventory=self.inventory(),
            pipeline=self.pipeline,
            watch=self.watch,
            report=report,
            history=history,
            project=self.folder,
            now=clock(),
        )
        return {item.name: item for item in make(seen).items}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_the_checklist_reads_itself_is_no_sweep(desk: Desk) -> None:
    for _ in range(2):
        assert desk.sees(predeployment.monitoring)["sweep"].verdict is Verdict.FAIL
    desk.sweep()
    assert desk.sees(predeployment.monitoring)["sweep"].verdict is Verdict.PASS


def test_a_sweep_that_was_long_ago_is_none(desk: Desk) -> None:
    desk.sweep(at=clock() - timedelta(minutes=21))
    line = desk.sees(predeployment.monitoring)["sweep"]
    assert line.verdict is Verdict.FAIL
    assert "the last was at" in line.detail


def test_a_look_at_one_system_is_no_sweep(desk: Desk) -> None:
    desk.watch = replace(desk.watch, systems=["box", "other"])
    desk.sweep(systems=("box",))
    assert desk.watch.history().last_sweep() is None


def test_a_sweep_whose_dag_is_paused_is_the_last_one(desk: Desk) -> None:
    desk.probes.append(Told("airflow.dag.paused", 1.0, {"dag": "sweep"}))
    desk.sweep()
    line = desk.sees(predeployment.monitoring)["sweep"]
    assert (line.verdict, line.evidence[-1]) == (Verdict.FAIL, "the DAG sweep is paused")


@pytest.mark.parametrize(
    ("declared", "verdict"),
    [
        ({}, Verdict.UNVERIFIED),
        ({"encryption": {"recipients": ["age1x"]}}, Verdict.UNVERIFIED),
        ({"store": {"url": "memory://x", "lock": "30d"}}, Verdict.UNVERIFIED),
        ({"encryption": {"recipients": ["age1x"]}, "store": {"url": "memory://x", "lock": "30d"}}, Verdict.PASS),
    ],
)
def test_backups_are_safe_only_when_nobody_else_can_read_or_delete_them(
    desk: Desk, declared: dict[str, Any], verdict: Verdict
) -> None:
    desk.document |= declared
    assert desk.sees(predeployment.security)["backups"].verdict is verdict


def test_retention_that_nobody_declared_is_not_proved(desk: Desk) -> None:
    assert desk.sees(predeployment.backups)["retention"].verdict is Verdict.UNVERIFIED
    desk.document["retention"] = {"daily": 7}
    assert desk.sees(predeployment.backups)["retention"].verdict is Verdict.PASS


def drilled(hours: float, verdict: Verdict, target: Target | None = None) -> DrillReport:
    return drill_report(paper.past(hours), verdict, target)


def test_a_drill_of_one_target_is_no_drill_of_the_pipeline(desk: Desk) -> None:
    desk.pipeline = replace(desk.pipeline, terms={paper.TARGET: Terms(), OTHER: Terms()})
    record = desk.pipeline.catalog.record_drill
    record(drilled(5, Verdict.PASS, paper.TARGET))
    assert desk.sees(predeployment.recovery)["drill"].verdict is Verdict.FAIL
    assert read_drills(desk) == {"backups.drill.passed": 1}
    record(drilled(4, Verdict.FAIL))
    record(drilled(3, Verdict.PASS, paper.TARGET))
    assert desk.sees(predeployment.recovery)["drill"].verdict is Verdict.FAIL
    assert read_drills(desk) == {"backups.drill.passed": 0}  # that of everything has failed
    record(drilled(2, Verdict.PASS))
    assert desk.sees(predeployment.recovery)["drill"].verdict is Verdict.PASS
    record(drilled(1, Verdict.FAIL, OTHER))
    assert read_drills(desk)["backups.drill.passed"] == 0


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNVERIFIED])
def test_a_drill_that_passed_before_one_that_did_not_is_no_recovery_plan(desk: Desk, verdict: Verdict) -> None:
    desk.pipeline.catalog.record_drill(drilled(5, Verdict.PASS))
    desk.pipeline.catalog.record_drill(drilled(1, verdict))
    line = desk.sees(predeployment.recovery)["drill"]
    assert (line.verdict, "has passed before it" in line.detail) == (verdict, True)


def test_an_audit_of_a_day_to_come_is_none(desk: Desk) -> None:
    for days, verdict in ((-30, Verdict.PASS), (30, Verdict.FAIL)):
        passed = (clock() + timedelta(days=days)).date()
        (desk.folder / "audit.md").write_text("fine")
        desk.document["deployment"] = {"security_audit": {"document": "audit.md", "passed": passed, "by": "ada"}}
        assert desk.sees(predeployment.security)["audit"].verdict is verdict


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL, Verdict.UNVERIFIED])
def test_backups_that_are_good_one_by_one_have_to_fit_together(desk: Desk, verdict: Verdict) -> None:
    check = Check(name="read up to", verdict=verdict, detail="it is another topic")
    at = paper.past(1)
    sealed = SetManifest(
        id=f"{at:%Y%m%dT%H%M%SZ}", pipeline="paper", started=at, frozen=at, finished=at, parts=(), checks=(check,)
    )
    desk.pipeline.catalog.commit_set(sealed)
    for chapter in (predeployment.backups, checklist_chapters.last_set):
        line = desk.sees(chapter)["parts fit together"]
        assert (line.verdict, bool(line.evidence)) == (verdict, verdict is not Verdict.PASS)


@dataclass
class Away(Told):
    """A probe that cannot read what it should."""

    def read(self, clock: Callable[[], datetime], *, timeout: float) -> list[Reading]:
        raise Unreachable("it is away", hint="wait")


def test_a_line_is_not_green_when_one_of_its_numbers_could_not_be_read(desk: Desk) -> None:
    """The other numbers are within their limits: the one that was not read may be the one that matters."""
    desk.watch = replace(desk.watch, systems=["box", "spark"])
    desk.probes = [Told("spark.application.running"), Told("spark.flow.freshness")]
    assert desk.sees(checklist_chapters.data_flow)["stream"].verdict is Verdict.PASS
    desk.probes[1] = Away("spark.flow.freshness")
    assert desk.sees(checklist_chapters.data_flow)["stream"].verdict is Verdict.UNVERIFIED
    desk.probes = [Told("airflow.dags"), Told("airflow.tasks.waiting"), Away("airflow.component.up")]
    lines = desk.sees(checklist_chapters.dags)
    assert (lines["components"].verdict, lines["queue"].verdict) == (Verdict.UNVERIFIED, Verdict.PASS)


def test_of_a_pipeline_with_one_target_its_drill_is_a_drill_of_everything(desk: Desk) -> None:
    desk.pipeline.catalog.record_drill(drilled(1, Verdict.PASS, paper.TARGET))
    assert desk.sees(predeployment.recovery)["drill"].verdict is Verdict.PASS
    assert set(read_drills(desk)) == {"backups.drill.passed", "backups.drill.age"}


def read_drills(desk: Desk) -> dict[str, float]:
    (probe,) = [one for one in proofs.of_pipeline(lambda: desk.pipeline) if one.name == "drills"]
    return {one.metric: one.value for one in probe.read(clock, timeout=1)}


def test_a_chapter_that_breaks_is_a_line_and_hides_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_seen: Inspection) -> Chapter:
        raise KeyError("a bug")

    monkeypatch.setitem(
        checklist_chapters.CHECKLISTS,
        "evening",
        {"Broken": broken, "Findings": checklist_chapters.open_findings},
    )
    report = checklist.inspect(
        "evening",
        desk.inventory(),
        desk.pipeline,
        desk.watch,
        name="20261123T020000Z",
        project=desk.folder,
        clock=clock,
    )
    first, second = report.chapters
    assert (first.items[0].verdict, second.items[0].verdict) == (Verdict.UNVERIFIED, Verdict.PASS)
    assert "KeyError: 'a bug'" in first.items[0].detail


def test_a_line_is_not_green_when_a_target_could_not_even_be_opened(desk: Desk) -> None:
    """Its connection is not defined: nobody can tell what its probes would have given."""
    desk.watch = replace(desk.watch, systems=["box", "kafka"], asked=lambda _system: asked)
    asked = [Asked("kafka/one", Told("kafka.group.lag_seconds"))]
    assert desk.sees(checklist_chapters.data_flow)["consumers"].verdict is Verdict.PASS
    asked.append(Asked("kafka/two", lookout.UnopenedProbe(Misconfigured("there is no connection", hint="define it"))))
    assert desk.sees(checklist_chapters.data_flow)["consumers"].verdict is Verdict.UNVERIFIED
