"""A Python program of ours that runs beside the servers of a sandbox: the WAL archive, the demo's customers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.wiring import PROJECT

_PASSED_ON = "MAINSTAY_TRAFFIC_SECONDS"


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

    def start(self, environment: Mapping[str, str], *, ready: Callable[[], bool], timeout: float = 60.0) -> None:
        """Start it unless it runs, and wait until *ready* says that it does what it is for.

        :param environment: added to a small set that is inherited; secrets go here
        :param timeout: seconds
        :raises Unreachable: it ended or was not ready in time; the hint shows its log
        """
        passed = {_PASSED_ON: os.environ[_PASSED_ON]} if _PASSED_ON in os.environ else {}
        self.server.start(
            ServerSpec(
                command=[sys.executable, *self._arguments],
                directory=self._sandbox.directory(self.name, account=ourselves()),
                environment={"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", **passed, **environment},
            )
        )
        self.server.wait_ready(ready, timeout=timeout)

    @property
    def log(self) -> Path:
        """The file with what it says."""
        return self.server.log
