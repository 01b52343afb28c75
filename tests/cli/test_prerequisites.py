"""What is missing on a machine is said in one line, with the command that installs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine.cli import prerequisites
from include.engine.errors import NotFound


def test_all_that_is_missing_is_named_at_once_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "curl"
    there.touch(mode=0o755)
    monkeypatch.setattr(prerequisites, "_PATH", str(tmp_path))
    with pytest.raises(NotFound, match="java, mvn not found") as caught:
        prerequisites.require()
    assert caught.value.hint == "apt-get install openjdk-17-jre-headless maven"


def test_a_machine_with_everything_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("java", "mvn", "curl"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(prerequisites, "_PATH", str(tmp_path))
    prerequisites.require()
