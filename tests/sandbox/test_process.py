"""A server outlives the command that started it, and is never confused with another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.engine.errors import Contended, NotFound, PermanentError, Unreachable
from include.engine.sandbox import procfs
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.process import ServerProcess, ServerSpec, exclusive, run_tool
from include.engine.sandbox.record import Record, marked

PROJECT = Path(__file__).resolve().parents[2]
SLEEP = ["sleep", "1000"]
STUBBORN_FAMILY = ["sh", "-c", 'trap "" TERM; (trap "" TERM; sleep 1000) & sleep 1000']


@pytest.fixture
def server(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    server = sandbox.server(f"p{abs(hash(request.node.nodeid)):x}")
    yield server
    server.kill()


@pytest.fixture
def spec(sandbox: Sandbox, server: ServerProcess) -> ServerSpec:
    return ServerSpec(command=SLEEP, directory=sandbox.directory(server.name), grace=0.3)


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def record_of(server: ServerProcess) -> Record:
    record = Record.load(server.state)
    assert record is not None
    return record


def test_a_started_server_runs_until_it_is_stopped(server: ServerProcess, spec: ServerSpec) -> None:
    assert server.start(spec)
    assert server.pid is not None
    server.stop()
    assert not server.running
    assert marked(server.state) == set()


def test_a_server_that_runs_is_reused(server: ServerProcess, spec: ServerSpec) -> None:
    server.start(spec)
    pid = server.pid
    assert not server.start(lambda: pytest.fail("prepared although it runs"))
    assert server.pid == pid


def test_a_server_outlives_its_starter_and_a_later_process_stops_it(
    sandbox: Sandbox, server: ServerProcess, spec: ServerSpec
) -> None:
    code = f"""
        from pathlib import Path
        from include.engine.sandbox.home import Home
        from include.engine.sandbox.process import ServerSpec
        sandbox = Home.of(Path({str(PROJECT)!r})).sandbox({sandbox.name!r})
        sandbox.server({server.name!r}).start(ServerSpec(command={SLEEP}, directory=sandbox.directory({server.name!r})))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60, cwd=PROJECT)
    pid = server.pid
    assert pid is not None
    assert procfs.command(pid) == "sleep"
    server.stop()
    assert procfs.identity(pid) is None


def test_a_family_that_ignores_the_request_to_stop_is_killed_whole(server: ServerProcess, spec: ServerSpec) -> None:
    server.start(replace(spec, command=STUBBORN_FAMILY))
    assert eventually(lambda: len(marked(server.state)) == 3)
    server.stop()
    assert marked(server.state) == set()


def test_the_children_of_a_crashed_server_are_killed_before_it_starts_again(
    server: ServerProcess, spec: ServerSpec
) -> None:
    server.start(replace(spec, command=STUBBORN_FAMILY))
    assert eventually(lambda: len(marked(server.state)) == 3)
    orphans = marked(server.state) - {server.pid}
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert eventually(lambda: not server.running)
    server.start(spec)
    assert all(procfs.identity(pid) is None for pid in orphans)
    assert marked(server.state) == {server.pid}


def test_a_server_whose_record_was_lost_is_found_by_its_mark(server: ServerProcess, spec: ServerSpec) -> None:
    server.start(spec)
    lost = server.pid
    server.state.write_text('{"half a rec')
    server.start(spec)
    assert lost is not None
    assert procfs.identity(lost) is None


def test_a_recycled_pid_is_never_killed(server: ServerProcess, spec: ServerSpec) -> None:
    innocent = subprocess.Popen(SLEEP, start_new_session=True)
    try:
        server.start(spec)
        record = record_of(server)
        server.kill()
        # The pid that the record names belongs to somebody else by now: same number, another start time.
        replace(
            record, identity=replace(record.identity, pid=innocent.pid, started=record.identity.started - 1000)
        ).save()
        assert not server.running
        server.stop()
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_a_person_who_works_in_the_directory_of_a_crashed_server_is_not_killed(
    server: ServerProcess, spec: ServerSpec
) -> None:
    bystander = subprocess.Popen(SLEEP, cwd=spec.directory)
    try:
        server.start(spec)
        server.kill()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_that_hides_its_environment_is_found_by_its_program_and_place(
    server: ServerProcess, spec: ServerSpec
) -> None:
    clean = ["sh", "-c", "env -i sleep 1000 & exec sleep 1000"]
    server.start(replace(spec, command=clean, hides_environment=True))
    assert eventually(lambda: procfs.command(server.pid or 0) == "sleep")
    record = replace(record_of(server), program=procfs.executable(server.pid or 0))
    record.save()
    assert eventually(lambda: len(record.members()) == 2)
    server.kill()
    assert record.members() == set()


@pytest.mark.parametrize("pause", ["", "sleep 0.1;"], ids=["at once", "a little later"])
def test_a_dead_servers_last_words_are_in_the_error(server: ServerProcess, spec: ServerSpec, pause: str) -> None:
    def start() -> None:
        server.start(replace(spec, command=["sh", "-c", f"{pause} echo the disk is on fire >&2; exit 3"]))
        server.wait_ready(lambda: False, timeout=10)

    with pytest.raises(Unreachable, match="ended while it was starting") as caught:
        start()
    assert "the disk is on fire" in caught.value.hint
    assert str(server.log) in caught.value.hint


def test_a_server_that_never_answers_is_unreachable_for_a_reason(server: ServerProcess, spec: ServerSpec) -> None:
    server.start(spec)

    def refuses() -> bool:
        raise Unreachable("connection refused", hint="")

    with pytest.raises(Unreachable, match=r"did not answer within 0\.1 s: connection refused"):
        server.wait_ready(refuses, timeout=0.1)


def test_a_program_that_is_not_there_is_named(server: ServerProcess, spec: ServerSpec) -> None:
    with pytest.raises(NotFound, match="/nowhere/serverd cannot be executed"):
        server.start(replace(spec, command=["/nowhere/serverd"]))
    assert not server.running


def test_the_callers_settings_do_not_reach_a_server(
    server: ServerProcess, spec: ServerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "production.example.com")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    server.start(replace(spec, environment={"ROOT_SECRET_KEY": "given"}))
    assert eventually(lambda: marked(server.state) == {server.pid})
    names = {entry.partition(b"=")[0] for entry in procfs.environment(server.pid or 0)}
    assert b"ROOT_SECRET_KEY" in names
    assert not names & {b"PGHOST", b"AWS_SECRET_ACCESS_KEY"}


def test_records_and_logs_are_nobody_elses_business(server: ServerProcess, spec: ServerSpec) -> None:
    server.start(spec)
    assert server.state.parent.stat().st_mode & 0o077 == 0
    assert server.log.parent.stat().st_mode & 0o077 == 0


def test_all_servers_of_a_sandbox_stop_at_once_the_last_started_first(sandbox: Sandbox) -> None:
    with sandbox.home.sandbox(f"{sandbox.name}-down") as other:
        for name in ("first", "second"):
            other.server(name).start(ServerSpec(command=SLEEP, directory=other.directory(name)))
        assert [record.name for record in other.running()] == ["first", "second"]
        assert other.stop() == ["second", "first"]
        assert other.running() == []


def test_a_failed_tool_says_why(sandbox: Sandbox) -> None:
    with pytest.raises(PermanentError, match="sh failed with exit code 4") as caught:
        run_tool(["sh", "-c", "echo no space left >&2; exit 4"], account=sandbox.account, directory=Path("/"))
    assert "no space left" in caught.value.hint


def test_a_tool_that_hangs_is_ended(sandbox: Sandbox) -> None:
    with pytest.raises(Unreachable, match=r"did not end within 0\.1 s"):
        run_tool(SLEEP, account=sandbox.account, directory=Path("/"), timeout=0.1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands servers to another account")
def test_root_hands_a_server_to_an_account_without_privileges(server: ServerProcess, spec: ServerSpec) -> None:
    server.start(spec)
    status = Path(f"/proc/{server.pid}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert set(uids) == {str(server.account.uid)}
    assert server.account.uid != 0


def test_a_server_whose_first_thread_has_ended_runs_until_the_last_one_ends(sandbox: Sandbox, spec: ServerSpec) -> None:
    """As a JVM that is being killed: its first thread is a zombie while others still hold its ports."""
    outlived = textwrap.dedent(
        """
        import ctypes, platform, threading, time
        threading.Thread(target=time.sleep, args=(1000,)).start()
        SYS_EXIT_OF_ONE_THREAD = {"x86_64": 60, "aarch64": 93}[platform.machine()]
        ctypes.CDLL(None).syscall(SYS_EXIT_OF_ONE_THREAD, 0)
        """
    )
    server = sandbox.server("headless", account=ourselves())  # the servers' account may not reach our Python
    server.start(replace(spec, command=[sys.executable, "-c", outlived]))
    pid = server.pid
    assert pid is not None
    assert eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    assert server.running
    server.stop()
    assert procfs.identity(pid) is None


def test_a_lock_that_somebody_holds_is_told_to_who_does_not_want_to_wait_and_is_free_afterwards(tmp_path: Path) -> None:
    busy = Contended("somebody is at it", hint="wait")
    with (
        exclusive(tmp_path / "lock"),
        pytest.raises(Contended, match="somebody is at it"),
        exclusive(tmp_path / "lock", busy=busy),
    ):
        raise AssertionError("two hold it")
    with exclusive(tmp_path / "lock", busy=busy):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
