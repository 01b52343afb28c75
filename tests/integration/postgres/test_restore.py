"""A cluster comes back from the bucket alone, with exactly the rows it had at the wanted point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine.model import Manifest, Verdict
from include.engine.sandbox.home import Sandbox
from tests.estate import Estate, new_estate

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def place(sandbox: Sandbox) -> Path:
    """A directory that the servers' account may enter."""
    return sandbox.directory("restores")


@pytest.fixture(scope="module")
def estate(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    estate = new_estate(sandbox, "restore", tmp_path_factory.mktemp("restore"))
    estate.sql("create table history (n int primary key, note text)")
    estate.sql("insert into history select n, repeat('x', 200) from generate_series(1, 1000) n")
    with estate.archiving():
        yield estate


@pytest.fixture(scope="module")
def first(estate: Estate) -> Manifest:
    return estate.backup()


def rows(estate: Estate, path: Path, name: str) -> list[int]:
    with estate.serving(path, name) as connection:
        return [n for (n,) in connection.execute("select n from history where n > 1000 order by n").fetchall()]


def test_a_restore_to_a_time_stops_at_that_time(estate: Estate, first: Manifest, place: Path) -> None:
    estate.sql("insert into history values (1001, 'kept')")
    wanted = estate.now()
    estate.sql("insert into history values (1002, 'too late')")
    estate.sql("delete from history where n = 1001")
    estate.archived()

    restored = estate.restore(place / "time", wanted.isoformat())

    assert rows(estate, place / "time", "time") == [1001]
    assert restored.verdict is Verdict.PASS
    assert restored.recovered_to is not None
    assert restored.recovered_to <= wanted
    assert [stage.name for stage in restored.stages] == [
        "fetch and unpack",
        "verify",
        "flush to disk",
        "recover",
        "ready",
    ]
