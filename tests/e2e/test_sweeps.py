"""The DAG ``sweep`` and the checklists on a live pipeline, their pages, and Airflow's own rules made true and false again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from include.engine import lookout
from include.engine.cli.demo_health import CHECKLISTS, SWEEP, Answer
from include.engine.model import ChecklistReport, Verdict
from include.engine.systems.airflow import probes
from include.engine.verbs import checklist
from include.engine.wiring import load_inventory
from tests.e2e.browsing import picture
from tests.e2e.live import RUN_SECONDS, Live, airflow_sweeps, eventually
from tests.integration.sweeping import Sweeping, later
from tests.systems.http.serving import serving

pytestmark = pytest.mark.e2e

DAY = 24 * 3600.0


def ended_as_it_should(verdict: Verdict) -> str:
    """A run is green when all was proved, and at no other time."""
    return "success" if verdict is Verdict.PASS else "failed"


def test_a_sweep_reads_every_system_and_its_result_can_be_read(live: Live, looked: Mapping[str, Answer]) -> None:
    found = looked[SWEEP]
    ended = live.admin.wait(SWEEP, found.run, timeout=RUN_SECONDS)
    looks = [task for task in ended.tasks if task.name == "look"]
    watched = lookout.systems(load_inventory(live.demo.inventory))
    assert {"airflow", "backups", "cassandra", "host", "kafka", "postgres", "spark"} <= set(watched)
    assert [task.state for task in looks] == ["success"] * len(watched)
    told: Mapping[str, Any] = live.admin.xcom(SWEEP, found.run, "judge")
    assert told["readings"] >= 60
    assert Verdict(told["verdict"]) is found.verdict
    assert not [one for one in found.problems if "no probe gives" in one or "nobody looked at it" in one]
    assert (ended.task("judge").state, ended.task("tell").state) == ("success", "success")
    assert ended.task("verdict").state == ended.state == ended_as_it_should(found.verdict)


def report_of(live: Live, found: Answer) -> ChecklistReport:
    return checklist.read(live.pipeline.catalog.bucket, *found.page.rsplit("/", 2)[1:])


@pytest.mark.parametrize("dag", CHECKLISTS[:2])
def test_a_checklist_is_a_report_and_its_run_is_as_red_as_the_report(
    live: Live, looked: Mapping[str, Answer], dag: str
) -> None:
    found = looked[dag]
    ended = live.admin.wait(dag, found.run, timeout=RUN_SECONDS)
    report = report_of(live, found)
    assert ended.state == ended.task("judge").state == ended_as_it_should(report.verdict)
    assert report.verdict is found.verdict
    assert all(chapter.items for chapter in report.chapters)
    items = [item for chapter in report.chapters for item in chapter.items]
    unproved = [item.name for item in items if item.verdict is not Verdict.PASS]
    assert len(found.problems) == len(unproved)
    folder = checklist.folder_of(report.kind, report.id)
    html = live.pipeline.catalog.bucket.read(f"{folder}/report.html").decode()
    assert f'class="badge {report.verdict}"' in html
    assert all(chapter.title in html for chapter in report.chapters)


def test_what_the_evening_asks_of_the_last_set_is_proved(live: Live, looked: Mapping[str, Answer]) -> None:
    report = report_of(live, looked["checklist_evening"])
    (last_set,) = [chapter for chapter in report.chapters if chapter.title == "Last set"]
    verdicts = {item.name: item.verdict for item in last_set.items}
    for name in (
        "set",
        "postgres/main verified",
        "cassandra/events verified",
        "kafka/main verified",
        "spark/main verified",
    ):
        assert verdicts[name] is Verdict.PASS, last_set.items


def test_before_a_deployment_a_person_signs_and_what_nobody_proved_stays_unproved(
    live: Live, looked: Mapping[str, Answer]
) -> None:
    found = looked["checklist_predeployment"]
    unsigned = report_of(live, found)
    assert len(unsigned.chapters) == 7
    assert unsigned.signed is None
    assert found.verdict is not Verdict.PASS
    lines = {item.name: item.verdict for chapter in unsigned.chapters for item in chapter.items}
    assert (lines["audit"], lines["signed"]) == (Verdict.UNVERIFIED, Verdict.UNVERIFIED)  # nobody did either
    assert lines["drill"] is Verdict.PASS
    live.admin.answer(
        live.admin.wait_for_approval(found.dag, found.run, timeout=RUN_SECONDS), "Sign", {"note": "the team is ready"}
    )
    ended = live.admin.wait(found.dag, found.run, timeout=RUN_SECONDS)
    signed = report_of(live, found)
    assert signed.signed is not None
    assert (signed.signed.by, signed.signed.accepted, signed.signed.note) == ("admin", True, "the team is ready")
    assert {item.name: item.verdict for item in signed.chapters[-1].items} == {"signed": Verdict.PASS}
    assert signed.verdict is not Verdict.PASS  # a signature is no audit
    assert ended.state == "failed"


def test_reports_and_findings_are_pages_in_airflow(page: Page, live: Live, looked: Mapping[str, Answer]) -> None:
    page.set_viewport_size({"width": 1180, "height": 900})
    for dag, heading, name in (
        ("checklist_morning", "Morning checklist", "checklist"),
        ("checklist_evening", "Evening checklist", "checklist-evening"),
        ("checklist_predeployment", "Before a deployment", "checklist-predeployment"),
    ):
        page.goto(looked[dag].page)
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        report = report_of(live, looked[dag])
        for chapter in report.chapters:
            expect(page.get_by_role("heading", name=chapter.title, exact=True)).to_be_attached()
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0  # nothing is cut off
        picture(page, name)
        if dag == "checklist_morning":
            page.get_by_role("heading", name="When to scale", exact=True).evaluate("line => line.scrollIntoView()")
            picture(page, "checklist-scaling")
    page.goto(f"{live.demo.airflow.url}/mainstay/findings")
    expect(page.get_by_role("heading", name="Findings").first).to_be_visible()
    picture(page, "findings")


def test_a_dag_that_must_run_and_is_paused_is_found_until_it_is_not(live: Live, sweeping: Sweeping) -> None:
    live.admin.unpause("drill")
    assert "airflow-paused" not in sweeping.rules("airflow")
    live.admin.pause("drill")
    try:
        (finding,) = sweeping.awaited("airflow-paused", "airflow")
        assert finding.labels == {"dag": "drill"}
    finally:
        live.admin.unpause("drill")
    sweeping.until(lambda rules: "airflow-paused" not in rules, "airflow")


def test_a_run_that_failed_last_is_found_until_it_is_gone(live: Live, sweeping: Sweeping) -> None:
    live.admin.pause("mirror")  # so that this run never begins
    run = live.admin.trigger("mirror")
    where = f"dags/mirror/dagRuns/{quote(run)}"
    live.admin.patch(where, {"state": "failed"})
    live.admin.unpause("mirror")
    (finding,) = sweeping.awaited("airflow-failed-runs", "airflow", dag="mirror")
    assert finding.value is not None
    assert finding.value >= 1
    live.admin.delete(where)
    sweeping.gone("airflow-failed-runs", "airflow", dag="mirror")


def test_what_is_late_or_was_not_even_begun_is_found(live: Live, sweeping: Sweeping, tmp_path: Path) -> None:
    quiet = sweeping.rules("airflow")
    assert not quiet & {"airflow-late", "airflow-overdue"}
    airflow_sweeps(live, tmp_path, late_after="1s")  # the same inventory, and a promise that nobody keeps
    (late,) = sweeping.awaited("airflow-late", "airflow")
    assert late.labels == {"dag": "backup"}
    airflow_sweeps(live, tmp_path, late_after="1s", late="sweep")  # which is as late by its last run, green or red
    live.admin.unpause("sweep")  # nobody waits for a DAG that is paused
    try:
        sweeping.awaited("airflow-late", "airflow", dag="sweep")
    finally:
        live.admin.pause("sweep")
    airflow_sweeps(live, tmp_path)
    sweeping.gone("airflow-late", "airflow")
    eventually("it is found", lambda: "airflow-overdue" in sweeping.rules("airflow", clock=later(2 * DAY)))
    sweeping.gone("airflow-overdue", "airflow")


def test_an_airflow_with_more_dags_than_a_page_holds_is_read_whole(
    live: Live, sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dags() -> list[float]:
        looks = sweeping.sweep("airflow").looks
        return [one.value for look in looks for one in look.readings if one.metric == "airflow.dags"]

    before = dags()
    assert before[0] > 10
    monkeypatch.setattr(probes, "_PAGE", 4)
    assert dags() == before


def test_one_of_two_api_servers_that_does_not_answer_is_found_behind_the_other(live: Live, sweeping: Sweeping) -> None:
    with serving() as second:  # in place of another one behind the same load balancer
        second.body = b'{"metadatabase": {"status": "healthy"}}'
        each = [live.demo.airflow.url, f"http://127.0.0.1:{second.port}"]
        sweeping.declare("sweep", airflow={"main": {"connection": "airflow_api", "api_servers": each}})
        sweeping.declare("expect", airflow={"api_servers": 2})
        sweeping.until(lambda rules: "airflow-api-servers" not in rules, "airflow")
        second.status = 503
        (finding,) = sweeping.awaited("airflow-api-servers", "airflow")
        assert (finding.value, finding.limit) == (1, 2)
        second.status = 200
        sweeping.gone("airflow-api-servers", "airflow")


def test_components_that_stop_are_found_until_they_are_back(live: Live, sweeping: Sweeping) -> None:
    all_three = {"airflow-schedulers", "airflow-triggerers", "airflow-dag-processors"}
    # What other tests have restarted, or a busy machine has kept from its heartbeat, is well before anything is stopped.
    sweeping.until(lambda rules: not rules & {*all_three, "airflow-component"}, "airflow")
    for name in ("scheduler", "triggerer", "dag-processor"):
        live.demo.airflow._process(name).stop()
    try:
        sweeping.until(lambda rules: {*all_three, "airflow-component"} <= rules, "airflow")

        def told() -> set[str]:
            return {one.labels["component"] for one in sweeping.found("airflow-component", "airflow")}

        eventually("each is named", lambda: told() == {"scheduler", "triggerer", "dag_processor"})
    finally:
        live.demo.airflow.start()
    sweeping.until(lambda rules: not rules & {*all_three, "airflow-component"}, "airflow")
