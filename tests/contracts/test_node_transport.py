"""Every way to a node keeps the same promises: a local shell, a real sshd on loopback, and a stand-in for kubectl.

There is no Kubernetes here: the stand-in is a script that checks the arguments that ``kubectl exec`` would get, records that
it is one, and runs the shell on this machine.  What it proves is our command line and our half of the protocol.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine.contracts import Stop
from include.engine.errors import Interrupted, PermanentError, Unreachable
from include.engine.sandbox.ports import free_port
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.transport import NodeTransport, transport_to
from tests.sshd import Sshd

_KUBECTL = """#!/bin/sh
# A stand-in for kubectl, for tests: it says so in its record.
echo "stand-in: $*" >> {record}
[ "$1 $2 $3 $4 $5 $6 $7 $8" = "exec -i -n data pod-0 -c cassandra --" ] || {{ echo "wrong arguments: $*" >&2; exit 1; }}
[ -e {record}.down ] && {{ echo "error: unable to upgrade connection: pod not found" >&2; exit 1; }}
shift 8
"$@"
code=$?
[ $code = 0 ] || echo "command terminated with exit code $code" >&2
exit $code
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server.settings
    server.stop()


@pytest.fixture(params=["local", "ssh", "kubernetes"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> NodeTransport:
    settings: dict[str, object] = {"connection": "c", "transport": request.param}
    if request.param == "ssh":
        settings |= request.getfixturevalue("sshd")
    if request.param == "kubernetes":
        script = tmp_path / "kubectl"
        script.write_text(_KUBECTL.format(record=tmp_path / "record"))
        script.chmod(0o755)
        settings |= {
            "kubectl": [str(script)],
            "kubernetes_namespace": "data",
            "nodes": {"127.0.0.1": {"host": "pod-0"}},
        }
    found = transport_to(Settings.model_validate(settings), "127.0.0.1")
    if request.param == "ssh":
        _wait_until_it_answers(found)
    return found


def _wait_until_it_answers(transport: NodeTransport) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            transport.run("true", timeout=10)
            return
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_script_is_run_and_what_it_prints_is_given(transport: NodeTransport) -> None:
    assert transport.run("echo one\necho 'two  three'", timeout=20) == "one\ntwo  three"


def test_lines_are_told_as_they_come(transport: NodeTransport, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    seen: list[str] = []

    def hear(line: str) -> None:
        seen.append(line)
        heard.touch()

    # The second line is printed once the first was told, and not before.
    script = f"echo first\nuntil [ -e '{heard}' ]; do sleep 0.05; done\necho second"
    transport.run(script, timeout=60, on_line=hear)
    assert seen == ["first", "second"]


def test_a_script_of_a_megabyte_arrives(transport: NodeTransport) -> None:
    lines = "\n".join(f": {'x' * 100}" for _ in range(10_000))
    assert transport.run(f"{lines}\necho done", timeout=60) == "done"


def test_commands_cannot_eat_the_rest_of_the_script(transport: NodeTransport) -> None:
    assert transport.run("cat\necho still here", timeout=20) == "still here"


def test_a_here_document_is_the_standard_input_of_its_command(transport: NodeTransport) -> None:
    assert transport.run("cat <<'END'\n$secret `x`\nEND", timeout=20) == "$secret `x`"


def test_a_failure_shows_what_was_said_without_signatures(transport: NodeTransport) -> None:
    with pytest.raises(PermanentError) as told:
        transport.run("echo 'curl: http://s/b/k?X-Amz-Signature=abc failed' >&2\nreturn 3", timeout=20)
    assert "exit code 3" in told.value.message
    assert "http://s/b/k?…" in told.value.hint
    assert "abc" not in str(told.value)


def test_a_script_that_fails_as_the_way_to_the_node_would_is_not_taken_for_that(transport: NodeTransport) -> None:
    with pytest.raises(PermanentError, match="exit code 1"):
        transport.run("return 1", timeout=20)


@pytest.mark.parametrize("transport", ["kubernetes"], indirect=True)
def test_a_pod_that_is_not_reached_is_worth_another_try(transport: NodeTransport, tmp_path: Path) -> None:
    (tmp_path / "record.down").touch()
    with pytest.raises(Unreachable, match="unable to upgrade connection"):
        transport.run("true", timeout=20)


def test_a_script_that_does_not_end_is_ended(transport: NodeTransport) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match="did not end within 1 s"):
        transport.run("sleep 30", timeout=1)
    assert time.monotonic() - began < 10


def test_a_wish_to_stop_ends_it(transport: NodeTransport) -> None:
    stop = Stop()
    threading.Timer(0.5, lambda: stop.stop("a test")).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        transport.run("sleep 30", timeout=60, stop=stop)
    assert time.monotonic() - began < 10


def test_the_script_is_in_no_list_of_processes(transport: NodeTransport) -> None:
    text = "X-Amz-Signature-that-nobody-may-see"
    printed = transport.run(f": {text}\ncat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '", timeout=20)
    assert text not in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another account")
def test_another_account_gets_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STORE", "a password")
    settings = Settings.model_validate({"connection": "c", "transport": "local", "run_as": "nobody"})
    said = transport_to(settings, "127.0.0.1").run("id -un\nenv\ncommand -v curl >/dev/null && echo found", timeout=20)
    assert said.splitlines()[0] == "nobody"
    assert "found" in said.splitlines()
    assert "AIRFLOW_CONN" not in said


def test_a_node_that_is_not_there_is_unreachable(sshd: dict[str, object]) -> None:
    gone = Settings.model_validate({"connection": "c", **sshd, "ssh_port": free_port()})
    with pytest.raises(Unreachable, match=r"ssh to 127\.0\.0\.1"):
        transport_to(gone, "127.0.0.1").run("true", timeout=20)


def test_a_host_key_that_is_not_known_is_not_trusted(sshd: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "known").write_text("")
    stranger = Settings.model_validate({"connection": "c", **sshd, "ssh_known_hosts": str(tmp_path / "known")})
    with pytest.raises(Unreachable, match="Host key verification failed"):
        transport_to(stranger, "127.0.0.1").run("true", timeout=20)
