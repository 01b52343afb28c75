"""What is written down about a started server, so that any later process finds it, and only it.

The record holds the identity of the server's first process and the marks by which the rest of its processes are
recognised.  Nothing is ever signalled on the word of a pid alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from include.engine.errors import Contended
from include.engine.sandbox import procfs
from include.engine.sandbox.procfs import Identity

MARK = "MAINSTAY_SERVER"
"""The environment variable that every process of a server inherits; its value is the path of the record."""

_POLL = 0.02
_KILL_WAIT = 10.0

_children: dict[int, subprocess.Popen[bytes]] = {}


def adopt(child: subprocess.Popen[bytes]) -> None:
    """Remember *child*, so that it is reaped when it ends and is not mistaken for alive until we end."""
    _children[child.pid] = child


def reap() -> None:
    """Collect the exit codes of the servers that we started and that ended."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            del _children[pid]


@dataclass(frozen=True)
class Record:
    """A started server.

    :param path: where the record itself lies; its value marks the server's processes
    :param identity: the first process, which leads its own session and process group
    :param program: the file that its processes execute from inside *directory*, when they hide their environment
    :param grace: seconds between the request to stop and the kill
    :param discard_signal: what ends it at once when its data is deleted as well
    """

    path: Path
    name: str
    identity: Identity
    program: str | None
    directory: Path
    log: Path
    stop_signal: int = signal.SIGTERM
    grace: float = 30.0
    discard_signal: int = signal.SIGKILL
    ports: dict[str, int] = field(default_factory=dict)
    started_at: float = field(default_factory=time.time)

    @property
    def alive(self) -> bool:
        """Whether the server's first process still runs."""
        reap()
        return self.identity.alive

    def save(self) -> None:
        """Write the record; a reader sees the old one or the new one, never half of it."""
        content = asdict(self) | {"directory": str(self.directory), "log": str(self.log)}
        del content["path"]
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(content, indent=2) + "\n")
        draft.replace(self.path)

    @classmethod
    def load(cls, path: Path) -> Record | None:
        """The record at *path*; None when there is none, or when a crash left something unreadable."""
        try:
            content = json.loads(path.read_text())
            content["identity"] = Identity(**content["identity"])
            content["directory"], content["log"] = Path(content["directory"]), Path(content["log"])
            return cls(path=path, **content)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def stop(self, how: int | None = None) -> None:
        """Ask the server to stop, wait ``grace`` seconds, then kill what is left of it.

        :param how: the signal, when it is not the recorded one
        :raises Contended: a process did not even die of SIGKILL
        """
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.identity.pid, how or self.stop_signal)
            if _until(lambda: not self.alive and not self.members(), self.grace):
                return
        self.kill()

    def kill(self) -> None:
        """SIGKILL all processes of the server at once, as a crash of the machine would, and wait until none is left.

        :raises Contended: a process is stuck in the kernel
        """
        kill_all(self.members, self.name)

    def discard(self) -> None:
        """End the server at once, without regard for what it writes.

        :raises Contended: a process is stuck in the kernel
        """
        if self.discard_signal == signal.SIGKILL:
            self.kill()
        else:
            self.stop(self.discard_signal)

    def members(self) -> set[int]:
        """The pids of the server's processes that run now, its first one or not."""
        found = marked(self.path)
        if self.program is not None:
            found |= {
                pid
                for pid in procfs.pids()
                if procfs.executable(pid) == self.program and _inside(procfs.directory(pid), self.directory)
            }
        if self.identity.alive:
            found.add(self.identity.pid)
        return {pid for pid in found if procfs.identity(pid) is not None}


def marked(path: Path) -> set[int]:
    """The pids of the processes that carry the mark of the record at *path*, or of any record below it; never ours."""
    reap()
    mark = f"{MARK}={path}".encode()
    found = {
        pid
        for pid in procfs.pids()
        if any(entry == mark or entry.startswith(mark + b"/") for entry in procfs.environment(pid))
    }
    return {pid for pid in found - {os.getpid()} if procfs.identity(pid) is not None}


def kill_all(members: Callable[[], set[int]], name: str) -> None:
    """SIGKILL *members* until there are none left, however they fork meanwhile.

    :raises Contended: a process is still there after ten seconds
    """

    def none_left() -> bool:
        victims = members()
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Looked at twice: for an instant, a process that is just executing a program has no environment to show.
        return not victims and not members()

    if not _until(none_left, _KILL_WAIT):
        pids = ", ".join(map(str, sorted(members())))
        raise Contended(
            f"{name} does not die: process {pids} ignores SIGKILL",
            hint="It is stuck in the kernel, most often on a disk or a network file system: look at dmesg",
        )


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll *condition* until it holds; False when it did not within *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True


def _inside(place: str | None, directory: Path) -> bool:
    return place is not None and Path(place).is_relative_to(directory)
