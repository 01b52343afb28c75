"""The DAG ``backup`` on a live pipeline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from include.engine.model import Verdict, backup_id
from include.engine.store.proven import LastWords
from tests.e2e.conftest import BackedUp, UnderWay
from tests.e2e.live import Live

pytestmark = pytest.mark.e2e

TARGETS = {"cassandra/events", "kafka/main", "postgres/main", "spark/main"}


def test_a_backup_ends_with_a_set_that_was_read_back(
    live: Live, backed_up: BackedUp, record_property: Callable[[str, object], None]
) -> None:
    record_property("seconds of the backup run", round(backed_up.seconds, 1))  # told, not judged: machines differ
    set_id = backup_id(datetime.fromisoformat(backed_up.run.run_after))
    sealed = live.pipeline.catalog.set(set_id)
    assert {str(part.target) for part in sealed.parts} == TARGETS
    assert sealed.verdict is Verdict.PASS, sealed.checks  # with a stream that works all the time
    words = LastWords(live.pipeline.catalog)
    for part in sealed.parts:
        read_back = words.of(part.target, part.backup)
        assert read_back is not None
        assert read_back.verdict is Verdict.PASS
    assert {task.state for task in backed_up.run.tasks} == {"success"}


def test_its_events_say_what_was_taken_and_to_where_it_can_be_recovered(
    live: Live, backed_up: BackedUp, under_way: UnderWay
) -> None:
    events = {one["name"]: one["extra"] for one in live.admin.asset_events("backup", backed_up.run.id)}
    assert set(events) == {"mainstay-sets-demo", *(f"mainstay-backups-{name.replace('/', '-')}" for name in TARGETS)}
    set_id = backup_id(datetime.fromisoformat(backed_up.run.run_after))
    for extra in events.values():
        assert extra["id"] == set_id
        assert extra["bytes"] > 0
        assert datetime.fromisoformat(extra["recoverable_from"]) <= datetime.fromisoformat(extra["recoverable_to"])
