"""Reads a machine: disks, inodes, memory, load, and the memory of a sandbox's servers; or the same from a node exporter."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from include.engine.contracts import Clock
from include.engine.errors import Corrupt, NotFound, PermanentError
from include.engine.model import Reading
from include.engine.probing import Probe
from include.engine.sandbox.record import Record
from include.engine.watching import HostWatch

_KIB = 1024
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_NO_DISKS = ("tmpfs", "overlay", "squashfs", "ramfs", "devtmpfs")


def open_probes(watch: HostWatch) -> Sequence[Probe]:
    """Give all probes of one machine (see ``probing.Probe``)."""
    if watch.node_exporter:
        return [ExporterProbe(watch.node_exporter)]
    # One for each: a mount that hangs or is gone must not hide that another one fills.
    probes: list[Probe] = [*map(DiskProbe, watch.disks), MemoryProbe()]
    return [*probes, SandboxProbe(watch.sandbox)] if watch.sandbox else probes


class DiskProbe:
    """Reads a file system by statvfs."""

    metrics: Sequence[str] = ("host.disk.used", "host.disk.free", "host.inodes.used")

    def __init__(self, disk: Path) -> None:
        self.name = f"disk {disk}"
        self.source = f"the file system of {disk} on this machine"
        self._disk = disk

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:  # noqa: ARG002 - nothing here waits
        """Read it (see ``probing.Probe``)."""
        return list(self._one(self._disk, clock()))

    def _one(self, disk: Path, now: datetime) -> Iterator[Reading]:
        try:
            seen = os.statvfs(disk)
        except OSError as error:
            raise NotFound(
                f"{disk} is no directory of this machine: {error.strerror}", hint="see sweep.hosts"
            ) from error
        ours = seen.f_blocks - seen.f_bfree + seen.f_bavail  # what root keeps for itself is not ours to fill
        yield _reading("disk.used", 100 * (1 - seen.f_bavail / max(ours, 1)), "%", now, disk=str(disk))
        yield _reading("disk.free", seen.f_bavail * seen.f_frsize, "bytes", now, disk=str(disk))
        used = 100 * (1 - seen.f_favail / seen.f_files) if seen.f_files else 0.0  # some file systems count none
        yield _reading("inodes.used", used, "%", now, disk=str(disk))


class MemoryProbe:
    """Reads memory and load from /proc."""

    name = "memory"
    source = "memory and load of this machine, from /proc"
    metrics: Sequence[str] = ("host.memory.used", "host.memory.available", "host.load")

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:  # noqa: ARG002 - nothing here waits
        """Read it (see ``probing.Probe``)."""
        now = clock()
        rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        told = {row[0].rstrip(":"): int(row[1]) * _KIB for row in rows}
        total, available = told["MemTotal"], told["MemAvailable"]
        return [
            _reading("memory.used", 100 * (1 - available / total), "%", now),
            _reading("memory.available", available, "bytes", now),
            _reading("load", os.getloadavg()[1] / (os.cpu_count() or 1), "1", now),
        ]


class SandboxProbe:
    """Reads the memory of every server of a sandbox.  A series is of one life of a process: a leak shows within it."""

    name = "processes"
    source = "the servers of the sandbox, from /proc"
    metrics: Sequence[str] = ("host.process.memory",)

    def __init__(self, sandbox: Path) -> None:
        self._sandbox = sandbox

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:  # noqa: ARG002 - nothing here waits
        """Read it (see ``probing.Probe``)."""
        now = clock()
        found = []
        for path in sorted((self._sandbox / "run").glob("*.json")):
            record = Record.load(path)
            if record is not None and record.alive:
                bytes_ = _resident(record.identity.pid)
                if bytes_ is None:
                    continue
                labels = {"process": record.name, "life": str(int(record.started_at))}
                found.append(Reading(metric="host.process.memory", value=bytes_, unit="bytes", at=now, labels=labels))
        return found


class ExporterProbe:
    """Reads disks and memory from a Prometheus node exporter."""

    name = "exporter"
    source = "its node exporter"
    metrics: Sequence[str] = (
        "host.disk.used",
        "host.disk.free",
        "host.inodes.used",
        "host.memory.used",
        "host.memory.available",
    )

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``).

        :raises Corrupt: when the answer is not that of a node exporter
        """
        from urllib.error import URLError
        from urllib.request import urlopen

        from include.engine.errors import Unreachable

        try:
            with urlopen(self._url, timeout=timeout) as response:  # noqa: S310 - the operator's own URL
                text = response.read().decode(errors="replace")
        except (URLError, OSError) as error:
            raise Unreachable(f"the node exporter did not answer: {error}", hint="see whether it runs") from error
        return list(from_exporter(text, clock()))


def from_exporter(text: str, now: datetime) -> Iterator[Reading]:
    """Read what a node exporter says.  Pure.

    :raises Corrupt: when it does not tell what it must
    """
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for name, labels, value in _SAMPLE.findall(text):
        samples.setdefault(name, []).append((dict(_LABEL.findall(labels)), float(value)))

    def of(name: str, place: str) -> float:
        return next((value for labels, value in samples.get(name, []) if labels.get("mountpoint") == place), 0.0)

    try:
        total, available = (samples[f"node_memory_{name}_bytes"][0][1] for name in ("MemTotal", "MemAvailable"))
        disks = [labels for labels, _ in samples["node_filesystem_size_bytes"] if labels.get("fstype") not in _NO_DISKS]
    except (KeyError, IndexError) as error:
        raise Corrupt(f"the answer is not a node exporter's: it has no {error}", hint="check the URL") from error
    yield _reading("memory.used", 100 * (1 - available / total), "%", now)
    yield _reading("memory.available", available, "bytes", now)
    for labels in disks:
        place = labels.get("mountpoint", "")
        free, size = of("node_filesystem_avail_bytes", place), of("node_filesystem_size_bytes", place)
        files, left = of("node_filesystem_files", place), of("node_filesystem_files_free", place)
        if size:
            yield _reading("disk.used", 100 * (1 - free / size), "%", now, disk=place)
            yield _reading("disk.free", free, "bytes", now, disk=place)
            yield _reading("inodes.used", 100 * (1 - left / files) if files else 0.0, "%", now, disk=place)


def _resident(pid: int) -> float | None:
    """Bytes that a process has in memory and shares with nobody, and its part of what it shares; None when it has just ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise PermanentError(
            f"the memory of process {pid} cannot be read: {error.strerror}", hint="run as its user"
        ) from error
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))) * _KIB


def _reading(metric: str, value: float, unit: str, now: datetime, **labels: str) -> Reading:
    return Reading(metric=f"host.{metric}", value=float(value), unit=unit, at=now, labels=labels)
