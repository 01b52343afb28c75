"""Load from end to end: events through Kafka and a twin of the declared job to Cassandra, until each row can be read.

The twin is the shipped job with the declared one's settings, as a process of this machine, with a topic, a keyspace and a
checkpoint of its own: the declared job sees no record of it, and no set has to tell them apart.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from include.engine.contracts import Clock, Connection, Connections, Stop
from include.engine.errors import Interrupted, Unreachable, Unsupported
from include.engine.health.trends import trend
from include.engine.inventory import TargetSettings
from include.engine.loading.contracts import LoadEngine, LoadRun, Measured, Worker
from include.engine.loading.profiles import Profile
from include.engine.loading.schedule import Schedule
from include.engine.loading.workers import generate, limit_by_cost
from include.engine.model import GeneratorLimit, LoadStep, Reading, System, Target
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Home
from include.engine.sandbox.process import ServerProcess
from include.engine.sandbox.record import Record
from include.engine.streaming import Life
from include.engine.systems.spark.distribution import PROJECT, SPARK_VERSION
from include.engine.systems.spark.flow_load import TABLE, open_operation
from include.engine.systems.spark.settings import Flow, Settings
from include.engine.systems.spark.stream import SparkStream
from include.engine.systems.spark.submission import application
from include.engine.systems.spark.tables import Tables
from include.engine.systems.spark.workload import Workload

_FLOW = "events"
_BEGINS_WITHIN = 300.0  # seconds: beside everything else, a driver alone takes a minute
_LOOK_EVERY = 0.5
_SCHEMA = (
    "CREATE TYPE IF NOT EXISTS {0}.device (kind text, version int)",
    "CREATE TABLE IF NOT EXISTS {0}." + TABLE + " (event_date text, event_id timeuuid, user_id uuid, event_type text,"
    " properties map<text, text>, device frozen<device>, created_at timestamp,"
    " PRIMARY KEY ((event_date, user_id), event_id)) WITH CLUSTERING ORDER BY (event_id DESC)",
)
_NO_SNAPSHOT = " AND allow_auto_snapshot = false"  # else what is dropped stays on the nodes' disks, as a snapshot


class StreamLoad:
    """Loads a twin of one declared job.

    :param settings: of the declared job, with the connections that the load may use
    :param sides: the engines that make, find and remove a topic and a keyspace, by what they are
    """

    def __init__(
        self, settings: Settings, connections: Connections, profile: Profile, sides: Mapping[str, LoadEngine]
    ) -> None:
        assert isinstance(profile.workload, Workload)
        if settings.engine != "local":
            raise Unsupported(
                f"load from end to end runs the job in local mode, and the declared one runs on {settings.engine}",
                hint="what one machine's driver takes says little about a cluster: declare a local job to be loaded",
            )
        self._settings = settings
        self._connections = connections
        self._profile = profile
        self._workload = profile.workload
        self._sides = sides
        self._folder = Home.of(PROJECT).root / "loads"
        self._measured = False

    def environment(self) -> Mapping[str, str]:
        """Say what the job gets, and what both sides are."""
        job = self._settings.profile
        found = {
            "spark": f"{SPARK_VERSION}, local mode",
            "job": f"{job.executor_cores} cores, {job.driver_memory} of heap",
            "time between two batches": f"{self._settings.trigger.total_seconds():g} s",
            "consistency": self._settings.consistency,
        }
        for side in self._sides.values():
            found |= {name: value for name, value in side.environment().items() if name not in found}
        return found

    def limit(self, run: LoadRun, *, rate: float) -> GeneratorLimit:
        """Send for a second, and look for the rows: only so do both clients do their work."""
        return limit_by_cost(self._worker(run), rate, run, bound=self._profile.in_flight, client="both clients")

    def prepare(self, run: LoadRun) -> None:
        """Make the topic and the keyspace, launch the job, and wait until it has brought a first record through."""
        for side in self._sides.values():
            side.prepare(run)
        with Tables(self._connection("cassandra")) as tables:
            for statement in schema(run.name, version=tables.version):
                tables.session.execute(statement, timeout=120.0)
        job = self._job(run.name)
        run.progress.say("launching the job")
        job.launch(reason="load test", clock=run.clock)
        self._bring_one_through(job, run)

    def measure(self, run: LoadRun, schedule: Schedule) -> Measured:
        """Send, and look for the rows."""
        job = self._job(run.name)
        if self._measured:
            self._bring_one_through(job, run)  # behind what the rate before this one has left
        self._measured = True
        stop = Stop()
        run.stop.on_stop(lambda: stop.stop(run.stop.reason))
        try:
            with _ended_with(job, stop):
                measured = generate(
                    self._worker(run),
                    schedule,
                    processes=run.processes,
                    bound=self._profile.in_flight,
                    grace=self._profile.grace.total_seconds(),
                    stop=stop,
                    progress=run.progress,
                    most=run.most,
                )
        except Interrupted as error:
            if run.stop.stopped:
                raise
            raise _death(job) from error
        if not _lives(job):
            raise _death(job)
        figures = {**measured.step.figures, **growth_of(measured.step)}
        rate = rate_of(measured.step, figures)
        step = msgspec.structs.replace(measured.step, figures=figures, achieved_rate=rate)
        return msgspec.structs.replace(measured, step=step)

    def canary(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Ask both sides."""
        return [reading for side in self._sides.values() for reading in side.canary(clock, timeout=timeout)]

    def leftovers(self, prefix: str) -> Sequence[str]:
        """Name jobs of this machine, topics and keyspaces of load tests; jobs first, for they use the others."""
        jobs = [f"job:{path.name}" for path in sorted(self._folder.glob(f"{prefix}*"))]
        return [*jobs, *(f"{kind}:{name}" for kind, side in self._sides.items() for name in side.leftovers(prefix))]

    def remove(self, names: Sequence[str]) -> None:
        """End jobs and forget their checkpoints; delete topics, drop keyspaces."""
        for name in _of("job", names):
            end_job(self._folder / name)
        for kind, side in self._sides.items():
            side.remove(_of(kind, names))

    def _connection(self, name: str) -> Connection:
        return self._connections.get(getattr(self._settings, name))

    def _worker(self, run: LoadRun) -> Worker:
        return Worker(module="include.engine.systems.spark.flow_load", parameters=self._parameters(run.name))

    def _parameters(self, name: str) -> dict[str, Any]:
        load = self._workload
        return {
            "kafka": msgspec.to_builtins(self._connection("kafka")),
            "cassandra": msgspec.to_builtins(self._connection("cassandra")),
            "topic": name,
            "keyspace": name,
            "lanes": load.lanes,
            "payload_bytes": load.payload_bytes,
            "poll": load.poll_ms / 1000,
            "offsets": str(self._folder / name / "checkpoint" / _FLOW / "offsets"),
        }

    def _job(self, name: str) -> SparkStream:
        folder = self._folder / name
        own = {
            "connection": "",
            "checkpoint": f"file://{folder}/checkpoint",
            "directory": str(folder / "engine"),
            "flows": {_FLOW: Flow(shape="events", topic=name, table=f"{name}.{TABLE}")},
            "group": name,
        }
        return SparkStream(Target(System.SPARK, name), self._settings.model_copy(update=own), self._connections)

    def _bring_one_through(self, job: SparkStream, run: LoadRun) -> None:
        arrived: list[str | None] = []
        flow = open_operation(self._parameters(run.name))
        try:
            flow.submit(0, lambda error, _kind="": arrived.append(error))
            deadline = time.monotonic() + _BEGINS_WITHIN
            while not arrived:
                run.stop.check()
                flow.poll(_LOOK_EVERY)
                if not _lives(job):
                    raise _death(job)
                if time.monotonic() > deadline:
                    raise Unreachable(
                        f"the job brought no record through in {_BEGINS_WITHIN:.0f} s",
                        hint=f"its log ends:\n{job.logs()}",
                    )
        finally:
            flow.close()
        if arrived[0] is not None:
            raise Unreachable(f"Kafka did not take a record: {arrived[0]}", hint="check the brokers")


def schema(keyspace: str, *, version: str) -> Sequence[str]:
    """Give the statements that make the twin's table in *keyspace*, on a Cassandra of *version*."""
    first, table = (statement.format(keyspace) for statement in _SCHEMA)
    return first, table + (_NO_SNAPSHOT if int(version.partition(".")[0]) >= 5 else "")


def growth_of(step: LoadStep) -> dict[str, float]:
    """Say by how many seconds the latency grows in a second: 0 while the job keeps up.  Nothing when it was too short to say."""
    points = [
        (one.second, one.from_intended.p50 / 1000) for one in step.series if not one.warm_up and one.from_intended.count
    ]
    found = trend(points)
    return {} if found is None else {"latency_growth": round(found.slope, 4)}


def rate_of(step: LoadStep, figures: Mapping[str, float]) -> float:
    """Give the rate at which rows became readable, after the warm-up.

    Rows come by the batch, and one more or less of them within the test is a large part of it.  So what is counted is what
    was sent in the time of the test, and it took as much longer to arrive than to send as the latency has grown meanwhile.
    """
    growth = figures.get("latency_growth")
    if growth is None:
        return step.achieved_rate
    arrived = step.from_intended.count - step.error_count
    return round(arrived / step.seconds / (1 + max(0.0, growth)), 3)


def end_job(folder: Path) -> None:
    """End what runs in *folder* and delete it."""
    for path in (folder / "engine").glob("*.json"):
        record = Record.load(path)
        if record is not None:
            ServerProcess(record.name, state=path, log=record.log, account=ourselves()).kill()
    shutil.rmtree(folder, ignore_errors=True)


def open_load(
    settings: TargetSettings, connections: Connections, profile: Profile, sides: Mapping[str, LoadEngine]
) -> StreamLoad:
    """Give the engine for one declared job.  Asks nothing of anybody yet."""
    assert isinstance(settings, Settings)
    return StreamLoad(settings, connections, profile, sides)


@contextmanager
def _ended_with(job: SparkStream, stop: Stop) -> Iterator[None]:
    """Pull *stop* when the job ends while the context lasts: what is sent after that measures nothing."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY):
            if not _lives(job):
                stop.stop("the job has ended")
                return

    thread = threading.Thread(target=watch, name="job", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)


def _lives(job: SparkStream) -> bool:
    return job.engine.life(application(job.job, 1), None) is not Life.ABSENT


def _death(job: SparkStream) -> Unreachable:
    end = job.journal.end(1)
    why = f": {end.kind}, {end.reason}" if end else ""
    return Unreachable(f"the job has ended{why}", hint=f"its log ends:\n{job.logs()}")


def _of(kind: str, names: Sequence[str]) -> list[str]:
    return [name.removeprefix(f"{kind}:") for name in names if name.startswith(f"{kind}:")]
