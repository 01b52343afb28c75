"""What Linux says about processes, read from /proc: who a pid is, what it runs, which port it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TCP_LISTEN = "0A"


@dataclass(frozen=True)
class Identity:
    """One process for ever: a pid is reused, a pid with its start time and boot is not.

    :param pid: the process id
    :param started: the start time in clock ticks since boot, as the kernel counts it
    :param boot: the kernel's id of this boot; ticks start again after a reboot
    """

    pid: int
    started: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs.  A zombie does not: it holds nothing but its exit code.

        One whose first thread has ended is a zombie to look at, but runs, and holds its ports, until its last thread ends.
        """
        return identity(self.pid) == self


def identity(pid: int) -> Identity | None:
    """The identity of *pid*, or None when no such process runs (a zombie without threads counts as none)."""
    fields = _stat(pid)
    if fields is None or (fields[0] in "ZX" and int(fields[17]) <= 1):
        return None
    return Identity(pid=pid, started=int(fields[19]), boot=boot_id())


def boot_id() -> str:
    """The kernel's random id of this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def namespace() -> str:
    """Name the pid namespace that we are in: what goes on in others' cannot be seen from here."""
    return str((_PROC / "self/ns/pid").readlink())


def pids() -> Iterator[int]:
    """Every process id that is visible now."""
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def executable(pid: int) -> str | None:
    """The path of the program that *pid* runs, or None when it is gone or another user's."""
    return _link(pid, "exe")


def directory(pid: int) -> str | None:
    """The working directory of *pid*, or None when it is gone or another user's."""
    return _link(pid, "cwd")


def environment(pid: int) -> frozenset[bytes]:
    """The ``NAME=value`` entries that *pid* was started with; empty when it is gone or another user's."""
    try:
        return frozenset((_PROC / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:
        return frozenset()


def command(pid: int) -> str:
    """The short name of *pid* as ``ps -o comm`` shows it, ``?`` when it is gone."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "?"


def listener(port: int) -> int | None:
    """The pid that listens on TCP *port*, on any address; None when nobody does or it is not ours to see."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for pid in pids():
        try:
            for descriptor in (_PROC / str(pid) / "fd").iterdir():
                if str(descriptor.readlink()) in sockets:
                    return pid
        except OSError:  # it ended while we looked, or it is another user's
            continue
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    suffix = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        try:
            rows = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[1].endswith(suffix) and fields[3] == _TCP_LISTEN:
                yield fields[9]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on: the name before it may hold spaces and brackets."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _link(pid: int, name: str) -> str | None:
    try:
        target = str((_PROC / str(pid) / name).readlink())
    except OSError:
        return None
    return target.removesuffix(" (deleted)")  # the program was replaced by a newer one while it ran
