"""Measures one command beside the servers that work for it: wall, CPU, memory, scratch."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figures:
    """What one run cost."""

    wall: float  # seconds
    client_cpu: float  # seconds, of the whole process tree
    server_cpu: float  # seconds, of PostgreSQL and the object store
    rss: int  # bytes, of the client's largest process
    scratch: int  # bytes, the peak below the scratch directory
    stored: int = 0  # bytes in the store

    @property
    def cpu(self) -> float:
        return self.client_cpu + self.server_cpu


@dataclass
class Side:
    """One of the ways that are compared, and its rounds."""

    name: str
    rounds: list[Figures] = field(default_factory=list)

    def median(self, figure: str) -> float:
        return float(statistics.median(getattr(one, figure) for one in self.rounds))

    def spread(self, figure: str) -> str:
        values = [getattr(one, figure) for one in self.rounds]
        return f"{min(values):.1f} to {max(values):.1f}"


def run(
    command: Sequence[str | Path],
    *,
    servers: Sequence[int],
    scratch: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    good: int = 0,
) -> Figures:
    """Run *command* to its end.

    :param servers: pids whose process trees work for the command; their CPU is counted beside its own
    :param good: the exit code that it has to end with
    :raises subprocess.CalledProcessError: when it fails; the end of what it said is on standard error
    """
    before = sum(tree_cpu(pid) for pid in servers)
    peak = _Peak(scratch)
    started = time.monotonic()
    # An installed program keeps its byte code, whatever this machine tells Python of others.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    child = subprocess.Popen(
        [str(part) for part in command],
        env=inherited | dict(env or {}),
        cwd=cwd,
        user=user,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak.watch(child.pid)
    said, _ = child.communicate()
    wall = time.monotonic() - started
    peak.end()
    if child.returncode != good:
        print(said[-2000:], file=sys.stderr)
        raise subprocess.CalledProcessError(child.returncode, command, output=said[-2000:])
    return Figures(
        wall=wall,
        client_cpu=peak.cpu,
        server_cpu=sum(tree_cpu(pid) for pid in servers) - before,
        rss=peak.rss,
        scratch=peak.scratch,
    )


def tree_cpu(pid: int) -> float:
    """Give the CPU seconds of *pid*, of its living descendants, and of the dead ones that they have reaped."""
    total = 0
    for one in [pid, *_descendants(pid)]:
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(value) for value in fields[11:15])  # utime stime cutime cstime
    return total / _TICK


def disk_used(path: Path) -> int:
    """Give the bytes that the files below *path* take."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(Path(folder) / name).st_blocks * 512
            except OSError:
                continue
    return total


def empty(path: Path) -> Path:
    """Make *path* an empty directory."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


class _Peak:
    """Looks at a process tree ten times a second and remembers the highest figures."""

    def __init__(self, scratch: Path | None) -> None:
        self.rss = self.scratch = 0
        self.cpu = 0.0
        self._scratch = scratch
        self._start = disk_used(scratch) if scratch else 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._children = _children_cpu()

    def watch(self, pid: int) -> None:
        self._thread = threading.Thread(target=self._look, args=(pid,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()
        self.cpu = _children_cpu() - self._children

    def _look(self, pid: int) -> None:
        while not self._done.wait(0.1):
            self.rss = max([self.rss, *(_rss(one) for one in [pid, *_descendants(pid)])])
            if self._scratch:
                self.scratch = max(self.scratch, disk_used(self._scratch) - self._start)


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    todo = [pid]
    while todo:
        try:
            children = Path(f"/proc/{todo[0]}/task/{todo[0]}/children").read_text().split()
        except OSError:
            children = []
        todo = [*todo[1:], *map(int, children)]
        found += map(int, children)
    return found


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
