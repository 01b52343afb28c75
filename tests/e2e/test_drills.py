"""The DAGs ``drill`` and ``upkeep`` on a live pipeline."""

from __future__ import annotations

import pytest

from include.engine.model import Verdict
from tests.e2e.conftest import UnderWay
from tests.e2e.live import Live

pytestmark = pytest.mark.e2e


def test_a_drill_proves_that_the_pipeline_comes_back_with_its_stream(live: Live, under_way: UnderWay) -> None:
    live.succeeded("drill", under_way.drill)
    said = live.admin.xcom("drill", under_way.drill, "drill")
    assert said["verdict"] == "PASS"
    assert said["checks"] > 0
    (report,) = [one for one in live.pipeline.catalog.drills() if one.id == said["id"]]
    assert report.verdict is Verdict.PASS
    assert {"spark/main: a marked record of users", "spark/main: rows of events after the replay"} <= {
        check.name for check in report.checks
    }
    assert "spark/main: resume and replay" in {stage.name for stage in report.stages}
    assert report.rto_seconds is not None
    assert report.rpo_seconds is not None


def test_upkeep_finds_the_log_archive_whole(live: Live, under_way: UnderWay) -> None:
    ended = live.succeeded("upkeep", under_way.upkeep)
    assert {task.name: task.state for task in ended.tasks} == dict.fromkeys(
        ("sweep", "audit", "check_catalog", "clean_metadata", "clean_logs"), "success"
    )
    assert live.admin.xcom("upkeep", under_way.upkeep, "audit")["checks"] > 0
