"""The destination is made so that the account which runs the server gets there, whatever our own umask is."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from include.engine.sandbox.accounts import ourselves
from include.engine.systems.postgres import guards


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
