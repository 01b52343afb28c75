"""The machine that the tests run on, and a recorded node exporter."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.engine import lookout
from include.engine.errors import Corrupt, NotFound, PermanentError, Unreachable
from include.engine.health.rules import CustomProbe
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.process import ServerSpec
from include.engine.systems.host.declared import open_declared
from include.engine.systems.host.probes import SandboxProbe, from_exporter, open_probes
from include.engine.watching import HostWatch
from tests.estate import eventually
from tests.integration.sweeping import Sweeping
from tests.systems.http.serving import serving

EXPORTER = """
# HELP node_filesystem_avail_bytes Filesystem space available to non-root users in bytes.
# TYPE node_filesystem_avail_bytes gauge
node_filesystem_avail_bytes{device="/dev/sda1",fstype="ext4",mountpoint="/"} 2.5e+10
node_filesystem_avail_bytes{device="tmpfs",fstype="tmpfs",mountpoint="/run"} 1e+09
node_filesystem_size_bytes{device="/dev/sda1",fstype="ext4",mountpoint="/"} 1e+11
node_filesystem_size_bytes{device="tmpfs",fstype="tmpfs",mountpoint="/run"} 1e+09
node_filesystem_files{device="/dev/sda1",fstype="ext4",mountpoint="/"} 1000
node_filesystem_files_free{device="/dev/sda1",fstype="ext4",mountpoint="/"} 900
node_memory_MemAvailable_bytes 4e+09
node_memory_MemTotal_bytes 1.6e+10
"""


def clock() -> datetime:
    return datetime.now(UTC)


def test_this_machine_says_what_the_system_says(tmp_path: Path) -> None:
    disks, memory = open_probes(HostWatch(disks=(tmp_path,)))
    found = {one.metric: one for one in (*disks.read(clock, timeout=5), *memory.read(clock, timeout=5))}
    assert set(found) == {*disks.metrics, *memory.metrics}
    seen = os.statvfs(tmp_path)
    assert found["host.disk.free"].value == pytest.approx(seen.f_bavail * seen.f_frsize, rel=0.05)
    assert 0 < found["host.memory.used"].value < 100
    assert found["host.disk.used"].labels == {"disk": str(tmp_path)}


def test_a_disk_that_is_not_there_is_named(tmp_path: Path) -> None:
    disks, _ = open_probes(HostWatch(disks=(tmp_path / "gone",)))
    with pytest.raises(NotFound, match="gone is no directory"):
        disks.read(clock, timeout=5)


def test_a_disk_that_is_not_there_hides_no_other(tmp_path: Path) -> None:
    gone, here, _ = open_probes(HostWatch(disks=(tmp_path / "gone", tmp_path)))
    assert gone.name != here.name
    assert {one.metric for one in here.read(clock, timeout=5)} == set(here.metrics)
    with pytest.raises(NotFound):
        gone.read(clock, timeout=5)


def test_a_node_exporter_says_the_same_without_what_is_no_disk() -> None:
    with serving() as server:
        server.body = EXPORTER.encode()
        (probe,) = open_probes(HostWatch(node_exporter=f"http://127.0.0.1:{server.port}/metrics"))
        found = {(one.metric, one.labels.get("disk")): one.value for one in probe.read(clock, timeout=5)}
    assert found == {
        ("host.memory.used", None): 75.0,
        ("host.memory.available", None): 4e9,
        ("host.disk.used", "/"): 75.0,
        ("host.disk.free", "/"): 2.5e10,
        ("host.inodes.used", "/"): pytest.approx(10.0),
    }


@pytest.mark.parametrize(
    ("rule", "fine", "bad"),
    [
        ("host-disk", "2.5e+10", "5e+09"),
        ("host-inodes", "1000\n", "100000\n"),
        ("host-memory", "MemAvailable_bytes 4e+09", "MemAvailable_bytes 4e+08"),
    ],
)
def test_a_machine_that_runs_full_is_found_until_it_has_room(
    rule: str, fine: str, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    with serving() as server:
        watched = {"node_exporter": f"http://127.0.0.1:{server.port}/metrics"}
        settings: dict[str, object] = {
            "postgres": {"main": {"connection": "nobody"}},
            "sweep": {"hosts": {"far": watched}, "timeout": "30s"},
        }
        sweeping = Sweeping(tmp_path, {}, settings)
        server.body = EXPORTER.encode()
        assert sweeping.rules("host") == set()
        server.body = EXPORTER.replace(fine, bad, 1).encode()
        assert sweeping.rules("host") == {rule}
        server.body = EXPORTER.encode()
        assert sweeping.rules("host") == set()


@pytest.mark.parametrize("rule", ["host-disk", "host-inodes", "host-memory"])
def test_this_machine_is_read_in_percent_and_judged_by_its_limit(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    settings: dict[str, object] = {
        "postgres": {"main": {"connection": "nobody"}},
        "sweep": {"hosts": {"here": {"disks": ["/"]}}},
    }
    sweeping = Sweeping(tmp_path, {}, settings)
    sweeping.tolerate(rule, 0)
    (finding,) = sweeping.found(rule, "host")
    assert (finding.unit, finding.subject) == ("%", "host/here")
    sweeping.tolerate(rule, 100)
    assert sweeping.found(rule, "host") == []


def test_what_is_no_node_exporter_gives_no_numbers() -> None:
    with pytest.raises(Corrupt, match="not a node exporter"):
        list(from_exporter("<html>hello</html>", clock()))


def declared(*command: str, **more: str) -> CustomProbe:
    return CustomProbe.model_validate({"name": "own", "command": command, "metric": "shop.own.number", **more})


def test_a_command_in_a_rule_file_gives_the_number_that_it_prints_and_sees_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_MAIN", "postgres://mainstay:s3cr3t@x/y")
    code = "import os; print('has', sum('CONN' in name for name in os.environ), 'of', 7)"
    (reading,) = open_declared(declared(sys.executable, "-c", code)).read(clock, timeout=20)
    assert reading.value == 0
    (reading,) = open_declared(declared(sys.executable, "-c", code, pattern=r"of (\d+)")).read(clock, timeout=20)
    assert reading.value == 7


@pytest.mark.parametrize(
    ("command", "error", "timeout"),
    [
        (("no-such-program-anywhere",), NotFound, 60),
        ((sys.executable, "-c", "raise SystemExit('it is broken')"), PermanentError, 60),
        ((sys.executable, "-c", "import time; time.sleep(60)"), Unreachable, 2),
    ],
    ids=["not there", "fails", "hangs"],
)
def test_a_command_that_is_not_there_fails_or_hangs_gives_no_number(
    command: tuple[str, ...], error: type[Exception], timeout: float
) -> None:
    with pytest.raises(error):
        open_declared(declared(*command)).read(clock, timeout=timeout)


def test_a_command_that_hangs_leaves_nothing_behind() -> None:
    """A script waits for what it has started, and that holds the pipe: ended alone, it would keep the probe waiting for ever."""
    seconds = f"300.{os.getpid()}"
    began = time.monotonic()
    with pytest.raises(Unreachable, match="did not end in time"):
        open_declared(declared("sh", "-c", f"sleep {seconds}; echo 1")).read(clock, timeout=0.5)
    assert time.monotonic() - began < 20

    def left() -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found.append(path.read_text().replace("\0", " "))
        return [line for line in found if line.startswith(f"sleep {seconds}")]

    eventually(lambda: not left(), within=10, what="what it had started has ended")


def test_a_command_that_may_not_be_executed_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "check").write_text("echo 1")
    with pytest.raises(PermanentError, match=r"cannot run .*check: Permission denied"):
        open_declared(declared(str(tmp_path / "check"))).read(clock, timeout=60)


def test_the_memory_of_each_server_of_a_sandbox_is_a_series_of_one_life(sandbox: Sandbox) -> None:
    name = f"memory-{os.getpid()}"
    server = sandbox.server(name, account=ourselves())
    hold = "import time; held = bytearray(32 << 20); held[::4096] = b'x' * (len(held) // 4096); time.sleep(1000)"
    spec = ServerSpec(command=[sys.executable, "-c", hold], directory=sandbox.directory(name), grace=0.3)
    probe = SandboxProbe(sandbox.root)

    def mine() -> dict[str, float]:
        found = [one for one in probe.read(clock, timeout=5) if one.labels["process"] == name]
        return {one.labels["life"]: one.value for one in found}

    server.start(spec)
    try:
        eventually(lambda: max(mine().values(), default=0) > 32 << 20, within=20, what="it holds 32 MiB")
        (first,) = mine()
        server.kill()
        assert mine() == {}
        time.sleep(1.0)  # a life is named by the second in which it began
        server.start(spec)
        (second,) = mine()
        assert second != first
    finally:
        server.kill()
