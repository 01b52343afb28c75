"""The DAG ``restore`` on a whole set: one page, one approval, every part a task of its own."""

from __future__ import annotations

import pytest

from include.engine.model import Verdict
from tests.e2e.conftest import UnderWay
from tests.e2e.live import REASON, RUN_SECONDS, Live

pytestmark = pytest.mark.e2e


def test_a_set_is_approved_once_and_each_part_is_a_task(live: Live, under_way: UnderWay) -> None:
    del under_way  # a set is there
    before = {record.id for record in live.pipeline.catalog.restores()}
    into = live.directory("set")
    run = live.trigger("restore", {"target": "set", "path": str(into), "reason": REASON, "dry_run": False})
    question = live.admin.wait_for_approval("restore", run, timeout=RUN_SECONDS)
    assert live.pipeline.catalog.restores()[len(before) :] == []
    live.admin.answer(question, "Approve")
    ended = live.succeeded("restore", run)

    sealed = live.pipeline.catalog.sets()[-1]
    done = [record for record in live.pipeline.catalog.restores() if record.id not in before and record.set_id]
    assert {record.plan.target for record in done} == {part.target for part in sealed.parts}
    assert {(record.set_id, record.verdict) for record in done} == {(sealed.id, Verdict.PASS)}
    restores = [task for task in ended.tasks if task.name in ("restore", "restore_readers")]
    assert [task.state for task in restores] == ["success"] * len(sealed.parts)
    assert [task.name for task in restores].count("restore_readers") == 1  # the stream, after the log that it reads
    assert ended.task("judge").state == "success"
    for part in sealed.parts:
        assert any((into / f"{part.target.system}-{part.target.name}").iterdir())
