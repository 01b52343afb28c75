"""A copy that fails: the next try goes on with what the run has frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

import pytest

from include.engine.model import Target, backup_id
from include.engine.systems.airflow.client import Run
from include.engine.systems.postgres.roles import BACKUP_ROLE
from tests.e2e.conftest import BackedUp
from tests.e2e.live import Live, eventually
from tests.integration.sweeping import Sweeping

pytestmark = pytest.mark.e2e


@contextmanager
def no_copies(live: Live) -> Iterator[None]:
    """Hold copies back before they begin."""
    live.admin.put_pool("backup", 0)
    try:
        yield
    finally:
        live.admin.put_pool("backup", 4)


@contextmanager
def no_connections(live: Live) -> Iterator[None]:
    """Let PostgreSQL refuse the backup role, as it does when its connections are used up."""
    with live.demo.primary.connect() as connection:
        connection.execute(f"alter role {BACKUP_ROLE} connection limit 0")
        try:
            yield
        finally:
            connection.execute(f"alter role {BACKUP_ROLE} connection limit -1")


def states(run: Run, name: str) -> set[str]:
    return {task.state for task in run.tasks if task.name == name}


def test_a_copy_that_failed_is_tried_again_and_keeps_to_the_frozen_cut(
    live: Live, backed_up: BackedUp, sweeping: Sweeping
) -> None:
    sweeping.tolerate("airflow-queue", 2)
    with ExitStack() as refusing:
        with no_copies(live):
            run = live.trigger("backup")
            eventually("it is frozen", lambda: "success" in states(live.admin.run("backup", run), "freeze"))
            sweeping.until(lambda rules: "airflow-queue" in rules, "airflow")  # four copies wait for the pool
            refusing.enter_context(no_connections(live))
        eventually("a copy failed", lambda: "up_for_retry" in states(live.admin.run("backup", run), "copy"))
    ended = live.succeeded("backup", run)
    sweeping.until(lambda rules: "airflow-queue" not in rules, "airflow")

    assert ended.task("freeze").tries == 1
    assert sorted(task.tries for task in ended.tasks if task.name == "copy") == [1, 1, 1, 2]
    set_id = backup_id(datetime.fromisoformat(ended.run_after))
    frozen = live.pipeline.catalog.find_freeze(set_id)
    assert frozen is not None
    taken = live.pipeline.catalog.backup(Target.parse("postgres/main"), set_id)
    assert taken.cut == frozen.cuts["postgres/main"]
    assert taken.started > frozen.frozen
