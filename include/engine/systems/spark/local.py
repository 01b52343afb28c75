"""Local mode: driver and executor are one process of this machine, which outlives whoever started it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from include.engine.sandbox.accounts import ourselves, private_directory
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.streaming import Life
from include.engine.systems.spark.distribution import PROJECT, Installation
from include.engine.systems.spark.submission import SCRIPT, Submission

_ATTEMPTS = 4  # of a task: plain local mode allows one
_GRACE = 30.0


class LocalEngine:
    """Runs the job as a process here.

    :param directory: for records, logs and scratch; what was started is found through it again
    :param installation: gives the Spark of this machine; who only looks, or ends it, needs none
    :param cores: of the process
    """

    def __init__(self, directory: Path, installation: Callable[[], Installation], cores: int) -> None:
        self.directory = private_directory(_made(directory), owner=ourselves(), mode=0o700)
        self.installation = installation
        self.cores = cores

    def launch(self, submission: Submission) -> str:
        """Start it (see ``engines.Engine``)."""
        scratch = private_directory(self.directory / "scratch", owner=ourselves(), mode=0o700)
        process = self._process(submission.name)
        installation = self.installation()
        process.start(
            ServerSpec(
                command=command(installation, submission, f"local[{self.cores},{_ATTEMPTS}]", scratch),
                directory=scratch,
                environment={**installation.environment(), **submission.environment},
                grace=_GRACE,
            )
        )
        return submission.name

    def life(self, name: str, handle: str | None) -> Life:
        """Say whether it runs (see ``engines.Engine``)."""
        del handle
        return Life.RUNNING if self._process(name).running else Life.ABSENT

    def end(self, name: str, handle: str | None, *, kill: bool = False) -> None:
        """End it (see ``engines.Engine``)."""
        del handle
        process = self._process(name)
        process.kill() if kill else process.stop()

    def logs(self, name: str, handle: str | None) -> str:
        """Give the end of its log (see ``engines.Engine``)."""
        del handle
        return self._process(name).tail(40)

    def pid(self, name: str) -> int | None:
        """The driver's process id while it runs."""
        return self._process(name).pid

    def _process(self, name: str) -> ServerProcess:
        # One log for all launches of a job: what the last one said is what one looks for.
        log = self.directory / (re.sub(r"-\d+$", "", name) + ".log")
        return ServerProcess(name, state=self.directory / f"{name}.json", log=log, account=ourselves())


def command(installation: Installation, submission: Submission, master: str, scratch: Path) -> Sequence[str | Path]:
    """Give the command that runs the job in client mode.  No secret is in it."""
    options = dict(submission.properties) | {
        "spark.master": master,
        "spark.app.name": submission.name,
        "spark.local.dir": str(scratch),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    # Beside Spark's own: as `spark.jars` they would be copied through the driver's own file server first.
    options["spark.driver.extraClassPath"] = options.pop("spark.jars").replace(",", ":")
    flags = [part for key, value in sorted(options.items()) for part in ("--conf", f"{key}={value}")]
    return [installation.home / "bin" / "spark-submit", *flags, PROJECT / SCRIPT]


def _made(directory: Path) -> Path:
    directory.parent.mkdir(parents=True, exist_ok=True)
    return directory
