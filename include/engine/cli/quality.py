"""``./mainstay check`` and ``./mainstay test``: what CI runs, and what a developer runs before."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from include.engine.cli import figures

_PROJECT = Path(__file__).resolve().parents[3]
_SIDE_BY_SIDE = 2  # test runs, each with servers of its own: more would need more memory than a small machine has
_LANES = ("unit", "contracts", "integration", "e2e", "sabotage")


def check() -> None:
    """Check style, format, types, layers and house rules; all of them, whatever the first one says.  Seconds."""
    tools = Path(sys.executable).parent
    tasks = {
        "ruff check": [str(tools / "ruff"), "check", "."],
        "ruff format": [str(tools / "ruff"), "format", "--check", "."],
        "mypy": [str(tools / "mypy")],
        "layers": [str(tools / "lint-imports")],
        "house rules": [sys.executable, "-m", "pytest", "-q", "--tb=line", "tests/house"],
    }
    failed = [name for name, command in tasks.items() if not _passes(name, command)]
    typer.echo(f"\ncheck: {'FAILED: ' + ', '.join(failed) if failed else 'all passed'}")
    if failed:
        raise typer.Exit(1)


def _passes(name: str, command: Sequence[str]) -> bool:
    began = time.monotonic()
    done = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=False, env=_environment())
    passed = done.returncode == 0
    typer.echo(f"{name:<12} {'passed' if passed else 'FAILED'} in {figures.duration(time.monotonic() - began)}")
    if not passed:
        typer.echo((done.stdout + done.stderr).rstrip())
    return passed


def run_tests(
    context: typer.Context,
    *,
    slow: Annotated[bool, typer.Option("--slow", help="also what is not run in CI: kill loops, large data")] = False,
    lane: Annotated[
        str | None, typer.Option("--lane", help=f"only this lane: {', '.join(_LANES)}; all of them by default")
    ] = None,
    install: Annotated[bool, typer.Option("--install/--no-install", help="fetch what tests need first")] = True,
) -> None:
    """Run the tests: unit, contracts, integration, e2e and sabotage.  Further arguments go to pytest.

    Two processes share them; `-n 0` runs them in one.  Lists the slowest and the skipped.

    With CI=true in the environment a skipped test is a failure.
    """
    from include.engine.cli.prerequisites import fetch

    if lane not in (None, *_LANES):
        raise typer.BadParameter(f"{lane} is not a lane; choose one of {', '.join(_LANES)}")
    if install and lane not in ("unit", "contracts"):
        fetch(browser=lane in (None, "e2e"))
    arguments = pytest_arguments(lane, slow=slow, in_ci=os.environ.get("CI") == "true")
    os.chdir(_PROJECT)
    sys.stdout.flush()
    # In this process's place: pytest gets the signals, and its exit code is the answer.
    command = [sys.executable, "-m", "pytest", *arguments, *context.args]
    os.execve(sys.executable, command, _environment())  # noqa: S606 - there is nothing to escape


def pytest_arguments(lane: str | None, *, slow: bool, in_ci: bool) -> list[str]:
    """Give the arguments with which pytest runs *lane*, or all lanes."""
    without = "" if slow else "not slow"
    marks: dict[str | None, str] = {
        None: without,
        "unit": "not integration and not e2e and not sabotage and not slow",
        "contracts": without,
        **{name: f"{name}{' and ' + without if without else ''}" for name in ("integration", "e2e", "sabotage")},
    }
    return [
        *(["-m", marks[lane]] if marks[lane] else []),
        *(["tests/contracts"] if lane == "contracts" else []),
        *(["-p", "tests.no_skips"] if in_ci else []),
        *("-n", str(_SIDE_BY_SIDE), "--dist", "loadgroup", "--no-loadscope-reorder"),
        *("--durations=10", "--durations-min=2"),
    ]


def _environment() -> dict[str, str]:
    """The caller's, without the connections of a demo or a production that tests must never touch."""
    ours = ("AIRFLOW_", "MAINSTAY_INVENTORY", "AWS_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    paths = f"{_PROJECT}{os.pathsep}{_PROJECT / 'plugins'}"
    return kept | {"PYTHONPATH": paths, "COLUMNS": os.environ.get("COLUMNS", "160")}
