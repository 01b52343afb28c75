"""Verbs in processes of their own, which tests kill in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.integration.cassandra.estate import Estate


def beside(estate: Estate, script: str) -> subprocess.Popen[bytes]:
    """Run *script* in a process of its own, with ``pipeline`` as it was opened last."""
    known = estate.directory / "known.json"
    known.write_bytes(msgspec.json.encode(estate.connections.known))
    prelude = f"""
        import time
        from pathlib import Path
        import msgspec
        from include.engine.contracts import Connection, Stop
        from include.engine.inventory import load
        from include.engine.systems.cassandra.settings import Settings
        from include.engine.verbs import restore
        from tests.integration.cassandra.estate import *
        known = msgspec.json.decode(open({str(known)!r}).read(), type=dict[str, Connection])
        inventory = load(Path({str(estate.directory / "inventory.yaml")!r}), {{System.CASSANDRA: Settings}})
        pipeline = open_pipeline(inventory, Named(known))
    """
    whole = textwrap.dedent(prelude) + textwrap.dedent(script)
    return subprocess.Popen([sys.executable, "-c", whole], env={**os.environ, "PYTHONPATH": str(Path.cwd())})


def kill_when(child: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    """SIGKILL *child* as soon as *reached* says so."""
    deadline = time.monotonic() + 120
    while not reached():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
