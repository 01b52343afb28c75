"""The demo's streaming job, the records that it reads, and how it is looked after."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from include.engine.cli import pour
from include.engine.cli.clock import now
from include.engine.cli.companion import Companion
from include.engine.cli.demo_clusters import Clusters
from include.engine.errors import Unreachable
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.process import ServerProcess
from include.engine.sandbox.record import Record
from include.engine.streaming import Life, StreamJob, StreamSeen

TARGET = "spark/main"
BUCKET = "streams"  # of its checkpoint: apart from the backups, which may expire things in theirs
_TOPICS = {"users": "users_created", "events": "events_topic"}
_RATE = 20.0  # records a second: what two cores carry beside everything else
_BROKEN = 99  # one of so many; an odd number, so that both flows get some
_BEGINS_WITHIN = 300.0  # seconds: beside everything else that starts, a driver alone takes a minute


class DemoStream:
    """The job, started or not.  It runs as a process of this machine, and outlives whoever launched it.

    :param open_job: gives the job that the demo's inventory declares
    """

    def __init__(self, sandbox: Sandbox, clusters: Clusters, open_job: Callable[[], StreamJob]) -> None:
        self._sandbox = sandbox
        self._clusters = clusters
        self._open_job = open_job
        self.pour = Companion(sandbox, "pour", ["-m", "include.engine.cli.pour"])

    @cached_property
    def job(self) -> StreamJob:
        """The declared job."""
        return self._open_job()

    @property
    def record(self) -> Record | None:
        """Its process while it runs."""
        found = (Record.load(path) for path in self._directory.glob("*.json"))
        return next((record for record in found if record is not None and record.alive), None)

    def install(self) -> None:
        """Put Spark and what the job needs in place, once per machine.

        :raises MainstayError: it cannot be had
        """
        from include.engine.systems.spark.distribution import Installation

        Installation.on(Shelf.of(self._sandbox.home))

    def settings(self) -> dict[str, dict[str, Any]]:
        """What the inventory has to say about where it is, by target."""
        return {TARGET: {"directory": str(self._directory)}}

    def send(self) -> None:
        """Begin to send users and events, unless somebody does."""
        # A seed of its own for each life: the same one would send the same users again.
        told = pour.environment(
            self._clusters.kafka.connection(), _TOPICS, rate=_RATE, seed=int(time.time()), broken=_BROKEN
        )
        self.pour.start(told, ready=lambda: "pouring" in self.pour.server.tail())

    def start(self) -> None:
        """Launch the job unless it runs, or a person wished it to rest.  It begins after this has returned."""
        seen = self.job.look(now)
        if seen.life is Life.ABSENT and seen.wish == "run":
            self.job.launch(reason="./mainstay up", clock=now)

    def kill(self) -> None:
        """SIGKILL it, as a crash would."""
        running = self.record
        if running is not None:
            self._process(running).kill()

    def wait(self, *, relaunched: bool = False) -> None:
        """Wait until it has finished a batch of every flow: from then on there is something to back up.

        :param relaunched: somebody launches it again, so that it is not there now says nothing
        :raises Unreachable: it ended instead, or did not get there; the hint says what it said last
        """
        deadline = time.monotonic() + _BEGINS_WITHIN
        while True:
            seen = self.job.look(now)
            if _works(seen) or seen.wish != "run":
                return
            ended = seen.life is Life.ABSENT and not relaunched
            if ended or time.monotonic() > deadline:
                how = f"ended: {seen.end} {seen.end_reason}" if ended else f"did not begin in {_BEGINS_WITHIN:.0f} s"
                raise Unreachable(f"{TARGET} {how}".strip(), hint=f"its log ends:\n{self.job.logs()}")
            time.sleep(0.5)

    def stop(self) -> list[str]:
        """Stop the job and give its name, if it ran.  Asks no server: they may be gone."""
        running = self.record
        for path in self._directory.glob("*.json"):
            record = Record.load(path)
            if record is not None:
                self._process(record).stop()
        return [running.name] if running is not None else []

    def _process(self, record: Record) -> ServerProcess:
        return ServerProcess(record.name, state=record.path, log=record.log, account=ourselves())

    @property
    def _directory(self) -> Path:
        # Beside the records of the sandbox's own servers: what destroys those destroys this, also after a crash.
        return self._sandbox.root / "run" / "stream"


def _works(seen: StreamSeen) -> bool:
    return seen.life is not Life.ABSENT and seen.begun and all(flow.batch is not None for flow in seen.flows)
