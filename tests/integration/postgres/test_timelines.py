"""The source was restored to an earlier point, and lives on: its newest state is on the new timeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine.model import Verdict
from include.engine.sandbox.home import Sandbox
from tests.estate import Estate, new_estate

pytestmark = pytest.mark.integration


@pytest.fixture
def estate(sandbox: Sandbox, tmp_path: Path) -> Iterator[Estate]:
    estate = new_estate(sandbox, "returned", tmp_path)
    estate.sql("create table history (n int primary key)")
    yield estate
    estate.server.kill()


def test_after_a_return_to_an_earlier_point_the_newest_point_is_what_happened_since(
    estate: Estate, sandbox: Sandbox
) -> None:
    """Until the next backup, only the log leads there, from a backup before the point that was returned to."""
    with estate.archiving():
        before = estate.backup()
        estate.sql("insert into history values (1)")
        wanted = estate.sql("select pg_current_wal_insert_lsn()::text")[0][0]
        estate.sql("insert into history values (2)")
        estate.sql("select pg_switch_wal()")
        regretted = estate.backup(full=True)
        estate.sql("insert into history values (3)")
        estate.archived()
    estate.server.stop()
    data = estate.server.data_directory
    estate.engine.restore(estate.job(estate.plan(data, f"position:{wanted}", confirm=str(data))))
    estate.server.start()
    with estate.archiving():
        estate.sql("insert into history values (4)")
        estate.archived()
    place = sandbox.directory("lines") / "newest"

    plan = estate.plan(place)

    assert plan.backup == before.id
    assert any(f"{regretted.id} is newer than {before.id}" in told for told in plan.warnings)
    assert any("timeline 1 was left at" in told for told in plan.warnings)
    assert estate.engine.restore(estate.job(plan)).verdict is Verdict.PASS
    with estate.serving(place, "newest") as connection:
        assert connection.execute("select n from history order by n").fetchall() == [(1,), (4,)]
    # The backup that was regretted can be restored, by its name, and what that leaves out is told.
    named = estate.plan(place.with_name("named"), backup=regretted.id)
    assert any("the server lives on timeline 2" in told for told in named.warnings)
