"""The destination is made so that the account which runs the server gets there, whatever our own umask is."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.engine.errors import Contended, Refused
from include.engine.sandbox.accounts import ourselves
from include.engine.systems.postgres import guards, room


def test_directories_above_the_destination_can_be_passed_under_a_private_umask(tmp_path: Path) -> None:
    """Airflow's tasks may run with umask 077: what they make above the destination must not be theirs alone."""
    path = tmp_path / "a" / "b" / "data"
    marker = guards.Marker.ours(plan="p", backup="b", started=datetime(2026, 1, 1, tzinfo=UTC), sandbox="s")
    before = os.umask(0o077)
    try:
        guards.occupy(path, guards.look(path), marker, ourselves())
    finally:
        os.umask(before)

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("found", ["absent", "unfinished"])
def test_of_two_restores_that_found_a_directory_free_one_gets_it(tmp_path: Path, found: str) -> None:
    path = tmp_path / "data"

    def marker(plan: str) -> guards.Marker:
        return guards.Marker.ours(plan=plan, backup="b", started=datetime(2026, 1, 1, tzinfo=UTC), sandbox="s")

    if found == "unfinished":
        guards.occupy(path, guards.look(path), marker("died"), ourselves())
    seen = guards.look(path)
    assert seen.kind == found
    guards.occupy(path, seen, marker("first"), ourselves())
    (path / "PG_VERSION").write_text("17")
    with pytest.raises(Contended, match="another restore has just taken"):
        guards.occupy(path, seen, marker("second"), ourselves())
    assert (path / "PG_VERSION").exists()
    left = guards.look(path)
    assert left.marker is not None
    assert left.marker.plan == "first"


def test_of_two_restores_that_may_move_the_same_cluster_aside_the_second_moves_not_the_first(tmp_path: Path) -> None:
    """Both were allowed to, a moment ago; what lies there now is the first one's."""
    path = tmp_path / "data"
    path.mkdir()
    (path / "PG_VERSION").write_text("17")
    seen = guards.look(path)
    assert seen.kind == "cluster"

    def marker(plan: str, second: int) -> guards.Marker:
        started = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
        return guards.Marker.ours(plan=plan, backup="b", started=started, sandbox="s")

    aside = guards.occupy(path, seen, marker("first", 1), ourselves())
    with pytest.raises(Contended, match="another restore has just taken"):
        guards.occupy(path, seen, marker("second", 2), ourselves())
    left = guards.look(path)
    assert left.marker is not None
    assert left.marker.plan == "first"
    assert sorted(tmp_path.iterdir()) == [path, aside]


def test_what_is_thrown_away_counts_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore that died on a disk that holds it once can be tried again there."""
    path = tmp_path / "data"
    marker = guards.Marker.ours(plan="p", backup="b", started=datetime(2026, 1, 1, tzinfo=UTC), sandbox="s")
    guards.occupy(path, guards.look(path), marker, ourselves())
    (path / "base").mkdir()
    (path / "base" / "1").write_bytes(bytes(range(256)) * 4096)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(Refused, match="the restore needs 900000 bytes"):
        room.require_space(path, 900_000)
    room.require_space(path, 900_000, room.bytes_thrown_away(path, guards.look(path)))

    guards.release(path)
    assert room.bytes_thrown_away(path, guards.look(path)) == 0
