"""A real sshd on loopback that lets one key in, and can die with all that was started through it, as a machine does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from include.engine.sandbox.ports import free_port


class Sshd:
    """Started by :meth:`start`; what it is reached by is the same in every life.

    :param top: a directory for its keys and its configuration
    """

    def __init__(self, top: Path) -> None:
        self._program = shutil.which("sshd") or "/usr/sbin/sshd"
        if not Path(self._program).exists():
            pytest.skip("there is no sshd here: install openssh-server")
        self._top = top
        self._child: subprocess.Popen[bytes] | None = None
        for name in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(top / name)], check=True)
        (top / "authorized").write_text((top / "client.pub").read_text())
        self._port = free_port()
        (top / "known").write_text(f"[127.0.0.1]:{self._port} {(top / 'host.pub').read_text()}")
        (top / "config").write_text(
            f"Port {self._port}\nListenAddress 127.0.0.1\nHostKey {top}/host\nAuthorizedKeysFile {top}/authorized\n"
            f"PidFile {top}/pid\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    @property
    def settings(self) -> dict[str, object]:
        """What an inventory says about it."""
        return {
            "transport": "ssh",
            "ssh_port": self._port,
            "ssh_identity": str(self._top / "client"),
            "ssh_known_hosts": str(self._top / "known"),
        }

    def start(self) -> None:
        command = [self._program, "-D", "-e", "-f", str(self._top / "config")]
        self._child = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def die(self) -> None:
        """Kill it, its sessions, and every process that was started through it."""
        assert self._child is not None
        for pid in reversed(_tree(self._child.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._child.wait(timeout=10)

    def stop(self) -> None:
        """End it in good order, unless it is dead."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            self._child.wait(timeout=10)


def _tree(pid: int) -> list[int]:
    """Give *pid* and all processes below it, from the root on."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found
