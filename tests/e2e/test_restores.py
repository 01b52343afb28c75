"""The DAG ``restore`` on a live pipeline: nothing is written before a person has agreed."""

from __future__ import annotations

import pytest

from include.engine.errors import PermanentError, Unauthorized
from include.engine.model import Verdict
from include.engine.systems.airflow.client import Approval
from tests.e2e.live import REASON, RUN_SECONDS, Live

pytestmark = pytest.mark.e2e


def test_who_may_only_look_cannot_approve(live: Live, asked: Approval) -> None:
    with pytest.raises(Unauthorized, match="403"):
        live.viewer.answer(asked, "Approve")
    assert live.admin.approvals("restore", asked.run)


def test_what_was_approved_is_restored_and_recorded(live: Live, asked: Approval) -> None:
    live.admin.answer(asked, "Approve")
    live.succeeded("restore", asked.run)

    directory = live.directory("approved")
    assert (directory / "PG_VERSION").read_text().strip() == "17"
    assert (directory / "global" / "pg_control").is_file()
    (record,) = live.pipeline.catalog.restores()
    assert record.verdict is Verdict.PASS
    assert record.reason == REASON
    assert record.by == "admin"
    assert record.plan.destination.path == str(directory)


def test_a_dry_run_ends_with_the_plan(live: Live, asked: Approval) -> None:
    ended = live.succeeded("restore", live.restore(live.directory("dry"), dry_run=True))
    assert ended.task("plan").state == "success"
    assert {ended.task(name).state for name in ("approve", "restore", "judge")} == {"skipped"}
    assert not live.directory("dry").exists()


def test_what_was_rejected_is_not_restored(live: Live, asked: Approval) -> None:
    before = live.pipeline.catalog.restores()
    run = live.restore(live.directory("rejected"), dry_run=False)
    live.admin.answer(live.admin.wait_for_approval("restore", run, timeout=RUN_SECONDS), "Reject")
    ended = live.admin.wait("restore", run, timeout=RUN_SECONDS)
    assert {ended.task(name).state for name in ("restore", "judge")} == {"skipped"}
    assert not live.directory("rejected").exists()
    assert live.pipeline.catalog.restores() == before


def test_a_restore_without_a_reason_is_not_even_begun(live: Live) -> None:
    with pytest.raises(PermanentError, match="reason"):
        live.admin.trigger("restore", {"path": "/srv/restored"})
