"""``./mainstay test`` chooses lanes, and in CI a skipped test is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from include.engine.cli.quality import pytest_arguments
from tests.cli.conftest import Shell

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("lane", "slow", "arguments"),
    [
        pytest.param(None, False, ["-m", "not slow"], id="all but slow"),
        pytest.param(None, True, [], id="all"),
        pytest.param("e2e", False, ["-m", "e2e and not slow"], id="one lane"),
        pytest.param("contracts", False, ["-m", "not slow", "tests/contracts"], id="the contracts"),
    ],
)
def test_a_lane_is_a_selection(lane: str | None, slow: bool, arguments: list[str]) -> None:
    assert pytest_arguments(lane, slow=slow, in_ci=False)[: len(arguments)] == arguments


def test_an_unknown_lane_is_not_understood(shell: Shell) -> None:
    assert shell("test", "--lane", "fast").exit_code == 2


@pytest.mark.parametrize(("in_ci", "code"), [(True, 1), (False, 0)])
def test_a_skipped_test_fails_in_ci_only(tmp_path: Path, in_ci: bool, code: int) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(
        "import pytest\ndef test_good(): pass\n@pytest.mark.skip(reason='no browser')\ndef test_skipped(): pass\n"
    )
    arguments = [part for part in pytest_arguments("unit", slow=False, in_ci=in_ci) if "durations" not in part]
    # The configuration is not ours here, so its markers are not known.
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "-ra", str(file), *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert "no browser" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("===")
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]
