"""A Python program of ours that runs beside the servers of a sandbox: the WAL archive, the demo's customers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from include.engine.errors import Unreachable
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.wiring import PROJECT

_PASSED_ON = "MAINSTAY_TRAFFIC_SECONDS"
_SETTLE = 0.3  # seconds that a program must survive: one that cannot even be imported is gone by then


class Companion:
    """One such program, started or not.  It runs as ourselves: the servers' account may not reach this Python.

    :param name: unique in the sandbox
    :param arguments: for the interpreter, without secrets
    """

    def __init__(self, sandbox: Sandbox, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._sandbox = sandbox
        self._arguments = tuple(arguments)

    @property
    def server(self) -> ServerProcess:
        """Its process."""
        return self._sandbox.server(self.name, account=ourselves())

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it unless it runs.

        :param environment: added to a small set that is inherited; secrets go here
        :raises Unreachable: it ended at once; the hint shows its log
        """
        passed = {_PASSED_ON: os.environ[_PASSED_ON]} if _PASSED_ON in os.environ else {}
        spec = ServerSpec(
            command=[sys.executable, *self._arguments],
            directory=self._sandbox.directory(self.name, account=ourselves()),
            environment={"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", **passed, **environment},
        )
        if self.server.start(spec):
            self._survives()

    def _survives(self) -> None:
        deadline = time.monotonic() + _SETTLE
        while time.monotonic() < deadline:
            if not self.server.running:
                raise Unreachable(f"{self.name} ended at once", hint=f"Its log ends:\n{self.server.tail()}")
            time.sleep(0.05)

    @property
    def log(self) -> Path:
        """The file with what it says."""
        return self.server.log
