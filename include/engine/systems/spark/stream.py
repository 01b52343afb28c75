"""A declared streaming job: looked at, launched and ended, whatever runs it (see ``streaming.StreamJob``)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

from include.engine.contracts import Clock, Connection, Connections
from include.engine.errors import PermanentError
from include.engine.inventory import TargetSettings
from include.engine.model import Target
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Home
from include.engine.streaming import Life, StreamPolicy, StreamSeen
from include.engine.systems.spark import checkpoint, positions
from include.engine.systems.spark.clients import clusters_of
from include.engine.systems.spark.distribution import PROJECT, Installation, spark_home
from include.engine.systems.spark.emr_serverless import EmrServerlessEngine
from include.engine.systems.spark.engines import Engine
from include.engine.systems.spark.journal import End, Journal, Launch, Page
from include.engine.systems.spark.kubernetes import KubernetesEngine
from include.engine.systems.spark.local import LocalEngine
from include.engine.systems.spark.settings import Settings
from include.engine.systems.spark.standalone import StandaloneEngine
from include.engine.systems.spark.submission import application, in_image, submission

IMAGES = ("kubernetes", "emr-serverless")  # engines that run the job from an image
_HOUR = 3600.0
_UNREAD = "unread"  # in place of how it ended, in the note of a call for a person


def open_stream(target: Target, settings: TargetSettings, connections: Connections) -> SparkStream:
    """Open a declared job.  Asks nobody for anything yet."""
    assert isinstance(settings, Settings)
    return SparkStream(target, settings, connections)


class SparkStream:
    """One job (see ``streaming.StreamJob``)."""

    def __init__(self, target: Target, settings: Settings, connections: Connections) -> None:
        self.name = str(target)
        self.job = target.name
        self.settings = settings
        self.policy = StreamPolicy(stalled_after=settings.stalled_after.total_seconds(), restarts=settings.restarts)
        self.connections = connections

    @cached_property
    def store(self) -> Connection | None:
        """How the checkpoint's object store is reached; None for a directory."""
        return self.connections.get(self.settings.connection) if self.settings.connection else None

    @cached_property
    def journal(self) -> Journal:
        """The notes beside the checkpoint."""
        return Journal.of(self.settings, self.store)

    @cached_property
    def installation(self) -> Installation:
        """The Spark of this machine."""
        return Installation.on(Shelf.of(Home.of(PROJECT)))

    @property
    def jars(self) -> Sequence[Path]:
        """What is put beside Spark's own; an image has it there."""
        return () if self.settings.engine in IMAGES else self.installation.jars

    @property
    def project(self) -> Path:
        """Where the job's code is, on what runs it."""
        engine, cluster = self.settings.engine, self.settings.cluster
        return in_image(self.connections.get(cluster).extra) if engine in IMAGES else PROJECT

    @cached_property
    def engine(self) -> Engine:
        """What runs it."""
        return open_engine_of(self)

    def look(self, clock: Clock) -> StreamSeen:
        """Say how it is (see ``streaming.StreamJob``)."""
        wish, newest = self.journal.wish(), self.journal.newest()
        life, begun, end = Life.ABSENT, False, None
        if newest is not None:
            handle = self.journal.handle(newest.generation)
            life = self.engine.life(newest.name, handle)
            begun = self.journal.run(newest.generation) is not None
            end = self.journal.end(newest.generation) if life is Life.ABSENT else None
        page = self.journal.page()
        topics = [flow.topic for flow in self.settings.flows.values()]
        found, unread = {}, ""
        try:
            found = positions.read(self.connections.get(self.settings.kafka), self._group, topics)
        except PermanentError as error:  # what is wished, and whether it runs, is known all the same
            unread = f"{error.message}: {error.hint}"
        now = clock().timestamp()
        return StreamSeen(
            job=self.name,
            at=now,
            wish=wish.action,
            wish_at=wish.at,
            wish_reason=wish.reason,
            wish_by=wish.by,
            paged=page.at if page and page.at > wish.at and _same(page, newest, _ended(end, unread)) else 0.0,
            generation=newest.generation if newest else 0,
            life=life,
            launched=newest.at if newest else None,
            begun=begun,
            end=end.kind if end else "",
            end_reason=end.reason if end else "",
            ended=end.at if end else None,
            launches=tuple(one.at for one in self.journal.recent(now - _HOUR)),
            flows=tuple(
                positions.seen(name, flow.topic, found[flow.topic], now)
                for name, flow in self.settings.flows.items()
                if flow.topic in found
            ),
            unread=unread,
        )

    def launch(self, *, after: int | None = None, reason: str, clock: Clock) -> str:
        """Launch it (see ``streaming.StreamJob``)."""
        self.inspect()
        self.installation.require()
        if after is None:
            newest = self.journal.newest()
            after = newest.generation if newest else 0
        generation = after + 1
        name = application(self.job, generation)
        ready = submission(
            self.job,
            self.settings,
            generation,
            kafka=self.connections.get(self.settings.kafka),
            cassandra=self.connections.get(self.settings.cassandra),
            store=self.store,
            jars=self.jars,
            project=self.project,
        )
        self.journal.claim(generation, name, reason=reason, clock=clock)
        # Whoever loses the claim has changed nothing; whoever dies after it leaves a name that the engine does not know.
        self.journal.remember(generation, self.engine.launch(ready))
        return name

    def end(self, *, launch: int | None = None, kill: bool = False) -> None:
        """End a launch (see ``streaming.StreamJob``)."""
        found = self.journal.newest() if launch is None else self.journal.launch(launch)
        if found is not None:
            self.engine.end(found.name, self.journal.handle(found.generation), kill=kill)

    def say(self, action: str, *, reason: str, by: str, clock: Clock) -> None:
        """Note a wish (see ``streaming.StreamJob``)."""
        self.journal.say(action, reason=reason, by=by, clock=clock)

    def call(self, seen: StreamSeen, why: str, clock: Clock) -> None:
        """Note a call for a person (see ``streaming.StreamJob``)."""
        self.journal.call(seen.generation, end=_UNREAD if seen.unread else seen.end, why=why, clock=clock)

    def logs(self) -> str:
        """Give what it said (see ``streaming.StreamJob``)."""
        newest = self.journal.newest()
        return self.engine.logs(newest.name, self.journal.handle(newest.generation)) if newest else ""

    def inspect(self) -> dict[str, checkpoint.FlowState]:
        """Read every flow's checkpoint as a launch would: none yet is fine, a damaged one is not.

        :raises Corrupt: naming what is wrong with it
        :raises Refused: when it is about another topic
        """
        found = {}
        for name, flow in self.settings.flows.items():
            paths = [one.key.removeprefix(f"{name}/") for one in self.journal.bucket.list(name)]
            if checkpoint.METADATA in paths or checkpoint.batches(paths, "commits"):
                files = {path: self.journal.bucket.read(f"{name}/{path}") for path in checkpoint.needed(paths)}
                found[name] = checkpoint.inspect(name, files, flow.topic)
        return found

    @property
    def _group(self) -> str:
        return self.settings.group_of(self.job)


def _ended(end: End | None, unread: str) -> str:
    """In one word, what a person is called for."""
    return _UNREAD if unread else end.kind if end else ""


def _same(page: Page, newest: Launch | None, ended: str) -> bool:
    """Whether it is still as it was when a person was called."""
    return page.generation == (newest.generation if newest else 0) and page.end == ended


def open_engine_of(stream: SparkStream) -> Engine:
    """Open what runs the job."""
    settings = stream.settings
    if settings.engine == "local":
        directory = Path(settings.directory) if settings.directory else Home.of(PROJECT).root / "streams" / stream.job
        return LocalEngine(directory, lambda: stream.installation, settings.profile.executor_cores)
    connection = stream.connections.get(settings.cluster)
    if settings.engine == "standalone":
        return StandaloneEngine(connection)
    clusters, checkpoint = clusters_of(stream.connections), settings.checkpoint
    if settings.engine == "kubernetes":
        spark = partial(spark_home, Shelf.of(Home.of(PROJECT)))
        return KubernetesEngine(settings.cluster, connection, clusters, checkpoint=checkpoint, spark=spark)
    return EmrServerlessEngine(settings.cluster, connection, clusters, checkpoint=checkpoint)
