"""Where the archived log ends before the wanted time, a restore succeeds only when it is known that nothing is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from include.engine.errors import NotFound
from include.engine.model import RecoveryPoint, Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.systems.postgres.reached import Reached, statements
from include.engine.systems.postgres.selection import witness
from include.engine.systems.postgres.wal_audit import Reach
from include.engine.systems.postgres.wal_objects import WalKind, list_wal
from tests.estate import TARGET, Estate, eventually, new_estate

pytestmark = pytest.mark.integration


@pytest.fixture
def estate(sandbox: Sandbox, tmp_path: Path) -> Iterator[Estate]:
    estate = new_estate(sandbox, f"end-{tmp_path.name[-8:].strip('_')}", tmp_path)
    estate.sql("create table history (n int primary key)")
    with estate.archiving():
        estate.backup()
        estate.archived()
    yield estate
    estate.server.kill()


@pytest.fixture
def place(sandbox: Sandbox, tmp_path: Path) -> Path:
    return sandbox.directory(f"ends-{tmp_path.name}")


def rows(estate: Estate, path: Path) -> list[int]:
    with estate.serving(path, path.parent.name) as connection:
        return [n for (n,) in connection.execute("select n from history order by n").fetchall()]


def test_an_archiver_that_died_while_it_caught_up_has_not_covered_a_time_before_that(
    estate: Estate, place: Path
) -> None:
    estate.sql("insert into history values (1)")
    estate.sql("select pg_switch_wal()")
    estate.sql("insert into history values (2)")
    wanted = estate.now()
    with estate.archiving():  # the store is back, and takes the backlog, all of it later than the wanted time
        estate.archived()
    part = next(wal for wal in reversed(list_wal(estate.bucket, TARGET)) if wal.kind is WalKind.PARTIAL)
    estate.bucket.delete([part.key])  # the archiver died before it had shipped the last of it
    assert max(wal.modified for wal in list_wal(estate.bucket, TARGET)) > wanted

    with pytest.raises(NotFound, match="the archived log ends before") as refused:
        estate.restore(place / "data", wanted.isoformat())

    assert "may be missing" in refused.value.hint
    ends = [window.to_time for window in estate.archive.reach(estate.catalog.backups(TARGET)).windows]
    assert max(ends) < wanted


def test_a_time_at_which_an_idle_server_had_everything_archived_is_reached(estate: Estate, place: Path) -> None:
    estate.sql("insert into history values (1)")
    with estate.archiving(reached_seconds=0.2):
        estate.archived()
        wanted = estate.now()  # no transaction comes after it
        eventually(lambda: stated(estate, wanted), what="the archiver has stated that nothing is missing")

    restored = estate.restore(place / "data", wanted.isoformat())

    assert restored.verdict is Verdict.PASS
    assert "so nothing is missing" in str(restored.detail["notes"])
    assert rows(estate, place / "data") == [1]


def stated(estate: Estate, since: datetime) -> bool:
    return any(one.at >= since for one in statements(estate.bucket, TARGET))


def test_what_is_archived_after_recovery_has_seen_the_end_does_not_come_back(
    estate: Estate, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL has to start over, to the end of the log: it must be the end which it has seen."""
    estate.sql("insert into history values (1)")
    judged: list[RecoveryPoint] = []

    def judged_while_the_server_goes_on(found: Reach, point: RecoveryPoint, said: Sequence[Reached]) -> str | None:
        estate.sql("insert into history values (2)")
        estate.archived()
        judged.append(point)
        return witness(found, point, said)

    monkeypatch.setattr("include.engine.systems.postgres.landing.witness", judged_while_the_server_goes_on)
    with estate.archiving(reached_seconds=0.2):
        estate.archived()
        wanted = estate.now()
        eventually(lambda: stated(estate, wanted), what="the archiver has stated that nothing is missing")
        estate.restore(place / "data", wanted.isoformat())

    assert judged
    assert rows(estate, place / "data") == [1]
