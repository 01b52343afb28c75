"""The operators on a fake source and a fake restore engine, with a real catalog."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from tests.plugins.conftest import RUN_AFTER, context  # isort: skip  # sets Airflow up

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from include.engine.errors import Corrupt, Incomplete, Interrupted, NotFound, PermanentError, Refused, Unreachable
from include.engine.model import Check, Moved, Position, Verdict, backup_id
from include.engine.verbs import backup
from include.engine.verbs.pipeline import Pipeline
from mainstay.assets import BACKUPS, sets_of
from mainstay.operators.backup import CopyOperator, FreezeOperator, ReleaseOperator, SealOperator, VerifyOperator
from mainstay.operators.drill import ChooseOperator, DrillOperator
from mainstay.operators.expire import ExpireOperator
from mainstay.operators.judge import JudgeOperator, NotProved
from mainstay.operators.plan_page import page_of
from mainstay.operators.restore import PartsOperator, PlanOperator, RestoreOperator, SumUpOperator
from tests.cli.paper import TARGET, Paper
from tests.store.making import overwrite

SET = backup_id(RUN_AFTER)
NAME = str(TARGET)
REASON = "checking what came before"
RESTORE: dict[str, Any] = {
    "target": NAME,
    "point": "latest",
    "backup": None,
    "destination": "directory",
    "path": "/srv/restored",
    "server": None,
    "only": None,
    "rename": None,
    "append": False,
    "access": None,
    "confirm": None,
    "reason": REASON,
}


def run(operator: BaseOperator, **params: Any) -> Any:
    """Run a task, and give its result as the next one reads it: what is no small JSON fails here."""
    told = json.dumps(operator.execute(context(**params)))
    assert len(told) < 4096
    assert not [word for word in ("password", "AGE-SECRET-KEY") if word in told]
    return json.loads(told)


def a_set() -> None:
    run(FreezeOperator(task_id="freeze"))
    run(CopyOperator(task_id="copy", target=NAME))
    run(SealOperator(task_id="seal"))


def planned(**params: Any) -> Any:
    return run(PlanOperator(task_id="plan"), **RESTORE | params)


def restoring(plan: Any, **params: Any) -> Any:
    approval = {"responded_by_user": {"id": "7", "name": "ada"}}
    (part,) = plan["first"]
    return run(RestoreOperator(task_id="restore", part=part, approval=approval), **RESTORE | params)


# backup --------------------------------------------------------------------------------------------------------------


def test_a_run_makes_a_set_named_after_it(pipeline: Pipeline) -> None:
    assert run(FreezeOperator(task_id="freeze")) == [NAME]
    copied = run(CopyOperator(task_id="copy", target=NAME))
    assert (copied["id"], copied["target"], copied["kind"], copied["bytes"]) == (SET, NAME, "full", 3)
    assert copied["original_bytes"] == 30
    sealed = run(SealOperator(task_id="seal"))
    assert (sealed["id"], sealed["parts"], sealed["left_out"], sealed["bytes"]) == (SET, [NAME], [], 3)
    assert pipeline.catalog.set(SET).parts[0].backup == SET
    assert (sealed["what"], sealed["report"]) == (f"the parts of the set {SET}", f"sets/{SET}")
    assert run(judging(sealed)) == {"verdict": "PASS"}


def test_a_set_whose_parts_do_not_fit_together_fails_a_task_of_its_own(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfit = Check(name="read up to", verdict=Verdict.FAIL, detail="it is another topic")
    monkeypatch.setattr(backup, "judge_coverage", lambda _: unfit)
    a_set()
    sealed = run(SealOperator(task_id="seal"))
    with pytest.raises(NotProved, match="another topic"):
        run(judging(sealed))
    run(VerifyOperator(task_id="verify"))  # what was copied is read back and announced all the same
    assert pipeline.catalog.set(SET).verdict is Verdict.FAIL


@pytest.mark.usefixtures("pipeline")
def test_a_set_that_only_waits_for_its_next_record_is_not_green_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early = Check(name="reconciliation of users", verdict=Verdict.UNVERIFIED, detail="the log of users is empty")
    monkeypatch.setattr(backup, "judge_coverage", lambda _: early)
    monkeypatch.setattr(backup, "nothing_to_look_at", lambda *_: (early.name,))
    a_set()
    sealed = run(SealOperator(task_id="seal"))
    assert sealed["verdict"] == "UNVERIFIED"
    with pytest.raises(AirflowSkipException, match=r"UNVERIFIED.*the log of users is empty"):
        run(judging(sealed))


def test_a_retry_keeps_the_cut_and_the_copy_of_the_first_try(pipeline: Pipeline, paper: Paper) -> None:
    a_set()
    first = pipeline.catalog.find_freeze(SET)
    paper.on_copy = AssertionError("it was copied twice")
    a_set()
    assert pipeline.catalog.find_freeze(SET) == first


def test_a_target_that_the_pipeline_lacks_is_told_before_anything_is_frozen(pipeline: Pipeline) -> None:
    with pytest.raises(NotFound, match="kafka/none"):
        run(FreezeOperator(task_id="freeze"), targets=["kafka/none"])
    assert pipeline.catalog.find_freeze(SET) is None


@pytest.mark.usefixtures("pipeline")
def test_a_set_without_a_copy_is_not_sealed() -> None:
    run(FreezeOperator(task_id="freeze"))
    with pytest.raises(Incomplete, match=NAME):
        run(SealOperator(task_id="seal"))


@pytest.mark.usefixtures("pipeline")
def test_an_error_of_the_source_comes_through_as_it_is(paper: Paper) -> None:
    run(FreezeOperator(task_id="freeze"))
    paper.on_copy = Unreachable("the primary does not answer", hint="start it")
    with pytest.raises(Unreachable, match="start it"):
        run(CopyOperator(task_id="copy", target=NAME))


def test_what_was_read_back_is_announced(pipeline: Pipeline) -> None:
    a_set()
    given = context()
    summary = VerifyOperator(task_id="verify").execute(given)
    assert summary == {"id": SET, "objects": 1, "bytes": 3, "trusted_bytes": 0, "verdict": "PASS"}
    events = given["outlet_events"]
    [(asset, extra)] = events[BACKUPS].added
    assert asset.name == "mainstay-backups-postgres-main"
    assert (extra["id"], extra["bytes"]) == (SET, 3)
    whole = events[sets_of(pipeline.name)].extra
    assert whole["targets"] == [NAME]
    assert whole["recoverable_from"] <= whole["recoverable_to"]
    json.dumps([extra, whole])


def test_a_damaged_object_fails_verify_and_announces_nothing(pipeline: Pipeline) -> None:
    a_set()
    [entry] = pipeline.catalog.backup(TARGET, SET).entries
    overwrite(pipeline.catalog.bucket, entry.key, b"xyz")
    given = context()
    with pytest.raises(Corrupt, match=NAME):
        VerifyOperator(task_id="verify").execute(given)
    assert not given["outlet_events"]


@pytest.mark.usefixtures("pipeline")
def test_release_names_the_run_and_may_be_repeated(paper: Paper) -> None:
    for _ in range(2):
        assert run(ReleaseOperator(task_id="release")) == {"released": [NAME]}
    assert paper.released == [SET, SET]


@pytest.mark.usefixtures("pipeline")
def test_expire_keeps_the_newest() -> None:
    a_set()
    found = run(ExpireOperator(task_id="expire"))
    assert (found["sets_kept"], found["sets_deleted"], found["backups_deleted"]) == (1, 0, 0)


# restore -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pipeline")
def test_what_was_approved_is_restored_and_recorded(pipeline: Pipeline, paper: Paper) -> None:
    a_set()
    plan = planned()
    (part,) = plan["first"]
    assert (part["target"], part["backup"], part["destination"]) == (NAME, SET, "directory /srv/restored")
    assert plan["then"] == []
    done = restoring(plan)
    assert (done["verdict"], done["approved_by"], done["problems"]) == ("PASS", "ada", [])
    assert [one.backup for one in paper.restored] == [SET]
    [record] = pipeline.catalog.restores()
    assert (record.by, record.reason, record.verdict) == ("ada", REASON, Verdict.PASS)


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize(
    "changed",
    [{"destination": "server", "path": None, "server": "standby"}, {"path": "/srv/elsewhere"}],
    ids=["it would overwrite more", "it goes elsewhere"],
)
def test_a_plan_that_nobody_approved_is_refused(paper: Paper, changed: dict[str, Any]) -> None:
    a_set()
    plan = planned()
    with pytest.raises(Refused, match="not the one that was approved"):
        restoring(plan, **changed)
    assert not paper.restored


@pytest.mark.usefixtures("pipeline")
def test_no_part_is_begun_when_one_of_the_last_is_not_what_was_approved_any_more(paper: Paper) -> None:
    a_set()
    wanted = {"target": "set", "server": f"{NAME}:standby", "destination": "server", "confirm": "standby"}
    (part,) = planned(**wanted)["first"]
    fuller = {"first": [part], "then": [part | {"would_overwrite": []}]}  # its destination was empty then
    approved: dict[str, Any] = {"which": "first", "approval": {"chosen_options": ["Approve"]}}
    parts = PartsOperator(task_id="parts", plan=fuller, **approved)
    with pytest.raises(Refused, match="not the one that was approved"):
        run(parts, **RESTORE | wanted)
    as_it_was = PartsOperator(task_id="parts", plan={"first": [part], "then": []}, **approved)
    assert run(as_it_was, **RESTORE | wanted) == [part]


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize("answer", [None, {"chosen_options": ["Reject"]}], ids=["marked as a success", "rejected"])
def test_what_nobody_has_approved_is_not_begun_whatever_state_a_task_was_given(paper: Paper, answer: Any) -> None:
    a_set()
    plan = planned()
    for step in (
        PartsOperator(task_id="parts", plan=plan, which="first", approval=answer),
        RestoreOperator(task_id="restore", part=plan["first"][0], approval=answer),
    ):
        with pytest.raises(Refused, match="nobody has approved"):
            run(step, **RESTORE)
    assert not paper.restored


@pytest.mark.usefixtures("pipeline")
def test_a_set_that_expired_while_its_plan_waited_for_a_person_is_told_before_anything_is_touched(
    pipeline: Pipeline, paper: Paper
) -> None:
    a_set()
    plan = planned(target="set")
    pipeline.catalog.delete_set(SET)
    with pytest.raises(NotFound, match=f"there is no set {SET}"):
        restoring(plan, target="set")
    assert not paper.restored


@pytest.mark.usefixtures("pipeline")
def test_the_page_for_the_approver_holds_no_markup_of_others() -> None:
    a_set()
    page = planned(reason="<img src=x> | **now** `x`\n# really")["page"]
    [line] = [line for line in page.splitlines() if "Reason" in line]
    assert r"\<img src=x\> \| \*\*now\*\* \`x\` \# really" in line


@pytest.mark.usefixtures("pipeline")
def test_a_plan_says_what_it_cannot_know(pipeline: Pipeline) -> None:
    from include.engine.verbs import restore

    a_set()
    plan = restore.plan(pipeline, TARGET, path="/srv/restored")
    assert "no drill has measured it yet" in page_of(plan, REASON)


@pytest.mark.usefixtures("pipeline")
def test_a_set_is_planned_approved_and_judged_as_one(pipeline: Pipeline, paper: Paper) -> None:
    a_set()
    wanted = {"target": "set", "server": f"{NAME}:spare", "destination": "server", "confirm": "spare, other"}
    plan = planned(**wanted)
    assert SET in plan["page"]
    assert plan["would_overwrite"] == [f"{NAME}: spare"]
    done = restoring(plan, **wanted)
    assert paper.restored[0].destination.name == "spare"
    whole = run(SumUpOperator(task_id="sum_up", parts=[[done], None]))
    assert (whole["what"], whole["verdict"], whole["report"]) == (f"restore of the set {SET}", "PASS", f"sets/{SET}")
    [record] = pipeline.catalog.restores()
    assert record.set_id == SET


@pytest.mark.usefixtures("pipeline")
def test_where_positions_are_now_travels_from_the_parts_before(paper: Paper) -> None:
    a_set()
    (part,) = planned(target="set")["first"]
    moved = Moved(
        before=Position(topic="users", partition=0, offset=40), after=Position(topic="users", partition=0, offset=23)
    )
    before = [{"moved": msgspec.to_builtins((moved,))}, {"moved": []}]
    approval = {"responded_by_user": {"id": "7"}}
    run(RestoreOperator(task_id="readers", part=part, approval=approval, before=before), **RESTORE | {"target": "set"})
    assert paper.jobs[0].moved == (moved,)


@pytest.mark.usefixtures("pipeline")
def test_a_part_that_was_not_proved_leaves_the_whole_set_unproved(paper: Paper) -> None:
    a_set()
    paper.checks = ()
    done = restoring(planned(target="set"), target="set")
    proved = done | {"verdict": "PASS"}
    whole = run(SumUpOperator(task_id="sum_up", parts=[[proved], [done]]))
    assert whole["verdict"] == "UNVERIFIED"


# drill and judge -----------------------------------------------------------------------------------------------------


def drilled() -> tuple[Any, DrillOperator]:
    a_set()
    chosen = run(ChooseOperator(task_id="choose"), target=None, set=None)
    assert chosen == {"set": SET, "backups": [[NAME, SET]]}
    operator = DrillOperator(task_id="drill", chosen=chosen)
    return run(operator, point="latest"), operator


def judging(summary: Any) -> JudgeOperator:
    return JudgeOperator(
        task_id="judge", summary=summary, runbook="drill-failed", unverified_runbook="drill-unverified"
    )


def test_a_drill_that_passes_is_recorded_and_judged_so(pipeline: Pipeline) -> None:
    summary, operator = drilled()
    assert (summary["verdict"], summary["problems"]) == ("PASS", [])
    [report] = pipeline.catalog.drills()
    assert operator.report == summary["report"] == f"drills/{report.id}"
    assert run(judging(summary)) == {"verdict": "PASS"}


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize(
    ("verdict", "runbook"), [(Verdict.FAIL, "drill-failed"), (Verdict.UNVERIFIED, "drill-unverified")]
)
def test_what_was_not_proved_fails_and_says_what(paper: Paper, verdict: Verdict, runbook: str) -> None:
    paper.verdict = verdict
    summary, _ = drilled()
    judge = judging(summary)
    with pytest.raises(PermanentError) as raised:
        run(judge)
    assert f"{verdict} {NAME}: rows: as it was" in str(raised.value)
    assert f"include/runbooks/{runbook}.md" in raised.value.hint
    assert judge.runbook == runbook
    assert judge.report == summary["report"]


@pytest.mark.usefixtures("pipeline")
def test_a_drill_that_checked_nothing_proves_nothing(paper: Paper) -> None:
    paper.checks = ()
    summary, _ = drilled()
    # The objectives are met, and nothing was looked at.
    assert summary["verdict"] == "UNVERIFIED"
    with pytest.raises(PermanentError):
        run(judging(summary))


@pytest.mark.usefixtures("pipeline")
def test_many_problems_stay_a_small_summary(paper: Paper) -> None:
    paper.verdict = Verdict.FAIL
    paper.checks = tuple(f"check {number}" for number in range(200))
    summary, _ = drilled()
    assert summary["checks"] > 200
    assert summary["problems"][-1] == "and 180 more"


def test_judge_fails_when_there_is_nothing_to_judge() -> None:
    with pytest.raises(NotProved, match="nothing to judge"):
        run(judging(None))


def test_judge_fails_when_nobody_says_what_was_wrong() -> None:
    with pytest.raises(PermanentError, match="nothing was checked"):
        run(judging({"what": "drill", "verdict": "UNVERIFIED", "problems": []}))


# stopping ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pipeline")
def test_a_killed_task_asks_the_engine_to_stop() -> None:
    run(FreezeOperator(task_id="freeze"))
    copy = CopyOperator(task_id="copy", target=NAME)
    copy.on_kill()
    deadline = time.monotonic() + 10
    while not copy.stop.stopped:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(Interrupted, match="killed"):
        run(copy)


def test_a_copy_that_was_stopped_is_not_committed(pipeline: Pipeline) -> None:
    run(FreezeOperator(task_id="freeze"))
    copy = CopyOperator(task_id="copy", target=NAME)
    copy.stop.stop("a person asked for it")
    with pytest.raises(Interrupted, match="a person"):
        run(copy)
    assert pipeline.catalog.find(TARGET, SET) is None
