"""Servers may have as many files open as their packages ask for, where this account may say so."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

ASK = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
RAISE = f"""
import resource, subprocess, sys
from include.engine.sandbox.limits import open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (500, 2000))
print(open_files())
print(subprocess.run([sys.executable, "-c", {ASK!r}], capture_output=True, text=True).stdout)
"""


def may_raise_limits() -> bool:
    """Whether this process has CAP_SYS_RESOURCE: root in a container often has not."""
    (told,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(told.split()[1], 16) >> 24 & 1)


def test_what_is_started_afterwards_may_open_more_and_counts_on_no_more_than_before() -> None:
    """In a process of its own: a limit is the whole process's."""
    said = subprocess.run([sys.executable, "-c", RAISE], capture_output=True, text=True, check=True).stdout.split()
    allowed = 100_000 if may_raise_limits() else 2000
    assert list(map(int, said)) == [allowed, 500, allowed]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 500
