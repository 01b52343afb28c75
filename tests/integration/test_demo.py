"""The demo's servers: started by one command, seen and stopped by others, and twice does no harm."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from include.engine.cli.demo_sandbox import PORTS
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK, RANGE, free_ports, variable_of
from include.engine.sandbox.record import MARK

# The first demo of a machine fetches Spark.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PROJECT = Path(__file__).resolve().parents[2]


@dataclass
class Demo:
    """A demo with a home and ports of its own."""

    home: Path
    variables: dict[str, str]

    def run(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "include.engine.cli", *arguments],
            cwd=PROJECT,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )
        assert done.returncode == code or code is None, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def status(self, *, code: int = 0) -> dict[str, dict[str, Any]]:
        servers = json.loads(self.run("status", "--json", code=code).stdout)["servers"]
        return {server["name"]: server for server in servers}

    def processes(self) -> list[int]:
        mark = f"{MARK}={self.home}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


@pytest.fixture(scope="module")
def demo(sandbox: Sandbox) -> Iterator[Demo]:
    home = sandbox.root / "demo-home"
    home.mkdir(mode=0o711)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "MAINSTAY_CACHE", RANGE) if name in os.environ}
    programs = sandbox.home.root / "dist"
    if programs.is_dir():  # what its servers' account may execute: no need to copy it again
        (home / "dist").symlink_to(programs)
    ports = {variable_of(name): str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    demo = Demo(home, {**kept, **ports, "MAINSTAY_HOME": str(home), "MAINSTAY_TRAFFIC_SECONDS": "0.2"})
    try:
        yield demo
    finally:
        demo.run("down", "--wipe")


def test_there_is_none_before_it_is_started(demo: Demo) -> None:
    assert demo.status(code=1) == {}
    assert "no demo" in demo.run("down").stdout
    assert "`./mainstay up`" in demo.run("env", code=1).stderr


def test_a_busy_port_is_named_with_its_variable(demo: Demo) -> None:
    variable = variable_of("object-store-main")
    with socket.socket() as busy:
        busy.bind((LOOPBACK, int(demo.variables[variable])))
        busy.listen()
        said = demo.run("up", "--no-airflow", code=1).stderr
    assert demo.variables[variable] in said
    assert variable in said


def test_it_starts_is_healthy_and_starts_again_without_harm(demo: Demo) -> None:
    demo.run("up", "--no-airflow")
    first = demo.status()
    assert set(first) == {
        *("object-store-main", "postgres-main", "postgres-standby", "wal-archive-main"),
        *("cassandra-main", "kafka-main", "kafka-dr", "connect-dr", "traffic", "pour", "spark/main"),
    }
    assert all(server["healthy"] for server in first.values())

    demo.run("up", "--no-airflow")

    assert {name: server["pid"] for name, server in demo.status().items()} == {
        name: server["pid"] for name, server in first.items()
    }


def test_the_verbs_find_its_connections_and_say_so(demo: Demo) -> None:
    done = demo.run("backup", "--json")
    assert "connections of the demo" in done.stderr
    assert [one["verdict"] for one in json.loads(done.stdout)["verifications"]] == ["PASS"] * 4
    assert "20" in demo.run("catalog").stdout


def test_load_is_put_on_what_the_demo_allows_and_compared(demo: Demo) -> None:
    found = []
    for _ in range(2):
        # On a machine that is busy with other tests it may be slow: that is a result, too, and an exit code.
        run = ["load", "run", "postgres-brief", "postgres/main", "--duration", "2", "--json"]
        result = json.loads(demo.run(*run, code=None).stdout)
        assert result["steps"][0]["from_intended"]["count"] > 50
        assert result["environment"]["client"].startswith("pgbench")
        found.append(result["id"])
    assert [one["id"] for one in json.loads(demo.run("load", "list", "--json").stdout)] == found
    compared = json.loads(demo.run("load", "compare", *found, "--json", code=3).stdout)  # 2 s are too short to say
    assert {one["verdict"] for one in compared["changes"]} == {"UNVERIFIED"}
    page = demo.home / "page.html"
    demo.run("load", "show", found[-1], "--html", str(page), code=None)
    assert "postgres-brief on postgres/main" in page.read_text()


def test_its_variables_are_for_a_shell(demo: Demo) -> None:
    exports = demo.run("env").stdout
    code = 'import json, os; print(json.loads(os.environ["AIRFLOW_CONN_POSTGRES_MAIN"])["login"])'
    done = subprocess.run(
        ["bash", "-c", f"{exports}\n{sys.executable} -c '{code}'"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "mainstay\n"


def test_its_secrets_are_private_files_and_on_no_command_line(demo: Demo) -> None:
    files = (demo.home / "sandboxes" / "demo" / "secrets").rglob("*")
    secrets = [file for file in files if file.is_file() and file.suffix != ".pem"]  # those are certificates
    assert secrets
    assert {file.stat().st_mode & 0o777 for file in secrets} == {0o600}
    known = [file.read_bytes() for file in secrets]
    lines: list[bytes] = []
    for pid in demo.processes():
        with contextlib.suppress(OSError):  # some of its servers' processes come and go
            lines.append((Path("/proc") / str(pid) / "cmdline").read_bytes())
    assert any(lines)
    assert not [line for line in lines if any(secret in line for secret in known)]


def test_a_server_that_was_killed_is_seen_and_started_again(demo: Demo) -> None:
    before = demo.status()
    killed = ("traffic", "spark/main")
    for name in killed:
        os.kill(before[name]["pid"], 9)
    after = demo.status(code=1)
    assert [after[name]["healthy"] for name in killed] == [False, False]
    demo.run("up", "--no-airflow")
    now = demo.status()
    assert not {now[name]["pid"] for name in killed} & {before[name]["pid"] for name in killed}


def test_it_stops_without_a_trace_and_keeps_its_data(demo: Demo) -> None:
    demo.run("down")
    assert demo.processes() == []
    assert not any(server["healthy"] for server in demo.status(code=1).values())
    demo.run("up", "--no-airflow", "--no-stream")
    assert len(json.loads(demo.run("catalog", "--json").stdout)["backups"]) == 4
    assert "spark/main" not in demo.status()
