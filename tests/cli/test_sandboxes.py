"""What a restore left serving is found and removed from the shell, and what somebody works with is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from include.engine.sandbox.home import Home, Sandbox
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.sandbox.record import Record
from include.engine.wiring import PROJECT
from tests.cli.conftest import Shell


@pytest.fixture
def left(home: Home) -> Iterator[Sandbox]:
    """A sandbox that nobody claims, with a server."""
    sandbox = home.sandbox(f"restore-left-{os.getpid()}")
    yield sandbox
    if sandbox.root.exists():
        sandbox.destroy()


@pytest.fixture
def server(left: Sandbox) -> ServerProcess:
    server = left.server("postgres-restored")
    server.start(ServerSpec(command=["sleep", "1000"], directory=left.directory(server.name), grace=0.3))
    return server


def test_what_a_restore_left_is_listed_and_removed_with_its_server(
    shell: Shell, left: Sandbox, server: ServerProcess
) -> None:
    listed = {one["name"]: one for one in json.loads(shell("sandbox", "list", "--json").stdout)}
    assert listed[left.name] == {
        "name": left.name,
        "servers": ["postgres-restored"],
        "used": False,
        "unfinished": False,
    }
    assert left.name in shell("sandbox", "list").stdout
    done = shell("sandbox", "remove", left.name)
    assert done.exit_code == 0, done.stderr
    assert not server.running
    assert not left.root.exists()


def test_what_a_process_works_with_is_left_alone(shell: Shell, left: Sandbox, server: ServerProcess) -> None:
    left.claim()
    done = shell("sandbox", "remove", left.name)
    assert done.exit_code == 1
    assert "a process works with" in done.stderr
    assert server.running


def test_what_a_restore_works_in_is_left_alone_and_what_it_did_not_end_is_listed_as_that(
    shell: Shell, left: Sandbox, server: ServerProcess
) -> None:
    def listed() -> str:
        [line] = [line for line in shell("sandbox", "list").stdout.splitlines() if left.name in line]
        return line

    restoring = f"""
from pathlib import Path
from include.engine.sandbox.home import Home
with Home.of(Path({str(PROJECT)!r})).sandbox({left.name!r}).restoring():
    print("begun", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", restoring], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert "being restored" in listed()
        assert "a process works with" in shell("sandbox", "remove", left.name).stderr
        assert server.running
        child.kill()
    assert "unfinished: run the restore again, or remove it" in listed()
    with left.restoring():  # the retry
        pass
    assert "unfinished" not in listed()
    with pytest.raises(ValueError, match="no disk"), left.restoring():
        raise ValueError("no disk")
    assert "unfinished: run the restore again, or remove it" in listed()  # though this process lives on
    assert shell("sandbox", "remove", left.name).exit_code == 0


@pytest.mark.parametrize("when", ["before it is looked at", "while it is looked at"])
def test_a_sandbox_that_vanishes_while_all_are_listed_hides_no_other(
    shell: Shell, left: Sandbox, home: Home, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    gone = home.sandbox(f"drill-gone-{os.getpid()}")
    running = Sandbox.running

    def vanishing(sandbox: Sandbox) -> list[Record]:
        if sandbox.name == gone.name:
            gone.destroy()
            if when == "while it is looked at":
                raise FileNotFoundError(sandbox.root)  # as of a directory that goes while it is read
        return running(sandbox)

    monkeypatch.setattr(Sandbox, "running", vanishing)
    done = shell("sandbox", "list", "--json")
    names = [one["name"] for one in json.loads(done.stdout)]
    assert left.name in names
    assert gone.name not in names


def test_what_is_not_there_is_said_with_what_is(shell: Shell, left: Sandbox) -> None:
    done = shell("sandbox", "remove", "no-such")
    assert done.exit_code == 1
    assert left.name in done.stderr
