"""Every command is there, alone as in the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from include.engine.cli.app import _COMMANDS, _GROUPS, app, build

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [*_COMMANDS, *_GROUPS])
def test_a_command_that_is_built_alone_is_the_one_of_the_whole(name: str) -> None:
    whole, alone = (CliRunner().invoke(made, [name, "--help"], prog_name="./mainstay") for made in (app, build(name)))
    assert alone.exit_code == whole.exit_code == 0
    assert alone.output == whole.output


def test_what_is_no_command_is_answered_by_the_whole() -> None:
    found = CliRunner().invoke(build("nothing"), ["nothing"])
    assert found.exit_code == 2
    assert "No such command 'nothing'" in found.output


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["nothing"], 2), (["backup", "--id"], 2)])
def test_the_exit_code_survives_leaving_early(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "include.engine.cli", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout + done.stderr


def test_what_a_closed_reader_missed_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m include.engine.cli --help | true",
        cwd=PROJECT,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
