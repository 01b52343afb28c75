"""Stock tools that make load end with whoever has started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from include.engine.contracts import Stop
from include.engine.errors import Interrupted
from include.engine.loading.tool import SECRET, run_tool

PROJECT = Path(__file__).resolve().parents[2]
LASTS = f"314.{os.getpid()}"  # seconds, in a way that no other sleep of this machine is asked for

STARTER = f"""
import os
from pathlib import Path
from include.engine.contracts import Stop
from include.engine.loading.tool import run_tool
command = ["sh", "-c", "echo begun; exec sleep {LASTS}"]
run_tool(command, directory=Path("."), environment=os.environ, stop=Stop(), timeout=None, output=open("/dev/stdout", "w"))
"""


def sleeping() -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", LASTS]]


def gone(patience: float = 20) -> bool:
    deadline = time.monotonic() + patience
    while sleeping() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not sleeping()


def test_a_tool_does_not_outlive_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        cwd=PROJECT,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begun\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone()


@pytest.mark.parametrize("moment", [0.0, 0.3])
def test_a_stop_ends_a_tool_after_its_moment_and_its_time_does_too(tmp_path: Path, moment: float) -> None:
    stop = Stop()
    timer = threading.Timer(0.3, stop.stop, args=("by a person",))
    timer.start()
    began = time.monotonic()
    where = {"directory": tmp_path, "environment": os.environ, "stop": stop}
    with pytest.raises(Interrupted, match="by a person"):
        run_tool(["sleep", LASTS], timeout=60, moment=moment, **where)  # type: ignore[arg-type]
    assert 0.3 + moment <= time.monotonic() - began < 20
    assert gone()
    code = run_tool(["sleep", LASTS], directory=tmp_path, environment=os.environ, stop=Stop(), timeout=0.3)
    assert code is None
    assert gone()


def test_a_secret_is_read_from_a_file_that_is_on_no_disk_and_is_on_no_command_line(tmp_path: Path) -> None:
    where = {"directory": tmp_path, "environment": os.environ, "stop": Stop()}
    script = "cat $1; cat /proc/$$/cmdline /proc/$PPID/cmdline"
    with (tmp_path / "said").open("w+") as said:
        command = ["sh", "-c", script, "sh", SECRET]
        code = run_tool(command, timeout=60, output=said, secret="hush\n" * 3, **where)  # type: ignore[arg-type]
        said.seek(0)
        text = said.read()
    assert code == 0
    assert text.startswith("hush\n" * 3)
    assert text.count("hush") == 3
    assert text.count("/dev/fd/") == 2
    assert [one.name for one in tmp_path.iterdir()] == ["said"]


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), (f"kill -{signal.SIGKILL} $$", 137)],
    ids=["well", "badly", "killed"],
)
def test_the_exit_code_is_the_tools_own(tmp_path: Path, script: str, code: int) -> None:
    where = {"directory": tmp_path, "environment": os.environ, "stop": Stop()}
    with (tmp_path / "said").open("w+") as said:
        found = run_tool(["sh", "-c", f"echo to be read; {script}"], timeout=60, output=said, **where)  # type: ignore[arg-type]
        said.seek(0)
        assert (found, said.read()) == (code, "to be read\n")
