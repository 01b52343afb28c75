"""What a restore left serving is found and removed from the shell, and what somebody works with is not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from include.engine.sandbox.home import Home, Sandbox
from include.engine.sandbox.process import ServerProcess, ServerSpec
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
    assert listed[left.name] == {"name": left.name, "servers": ["postgres-restored"], "used": False}
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


def test_what_is_not_there_is_said_with_what_is(shell: Shell, left: Sandbox) -> None:
    done = shell("sandbox", "remove", "no-such")
    assert done.exit_code == 1
    assert left.name in done.stderr
