"""Reads a streaming job: what runs it, how its batches go, how far behind it is."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from include.engine.contracts import Clock, Connections
from include.engine.errors import Unreachable
from include.engine.inventory import TargetSettings
from include.engine.model import Reading, Target
from include.engine.probing import Probe
from include.engine.streaming import FlowSeen, Life
from include.engine.systems.spark import checkpoint, positions
from include.engine.systems.spark.letters import Letters
from include.engine.systems.spark.retention import Retention
from include.engine.systems.spark.settings import Settings
from include.engine.systems.spark.stream import SparkStream, open_stream


def open_probes(target: Target, settings: TargetSettings, connections: Connections) -> Sequence[Probe]:
    """Give all probes of a job.  Asks nobody yet."""
    assert isinstance(settings, Settings)
    stream = open_stream(target, settings, connections)
    topics = [flow.topic for flow in settings.flows.values()]
    places = positions.Places(lambda: connections.get(settings.kafka), settings.group_of(stream.job), topics)
    found: list[Probe] = [Progress(stream, places), Application(stream), Audit(stream, connections)]
    found += [Retention(stream, connections, places), Letters(stream, connections)]
    if settings.engine == "standalone":
        found.append(Cluster(settings, connections))
    return found


_RESTS_AFTER = 120.0  # seconds without a batch, and without a record that waits


class Progress:
    """How far each flow is and how its last batch went: from Kafka alone, so a dead job's lag is seen to grow."""

    name = "progress"
    metrics: Sequence[str] = (
        "spark.flow.behind",
        "spark.flow.freshness",
        "spark.flow.lost",
    )
    sometimes: Sequence[str] = (  # from the first batch on
        "spark.flow.batch_duration",
        "spark.flow.input_rate",
        "spark.flow.processed_rate",
        "spark.flow.state",
        "spark.flow.dead_letters",
    )
    source = "the group that the job commits to, and the first record that waits, from Kafka"

    def __init__(self, stream: SparkStream, places: positions.Places) -> None:
        self._stream = stream
        self._places = places

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it.  Figures of batches are absent before the first batch, and 0 while there is nothing to do."""
        flows = self._stream.settings.flows
        places = self._places.read(timeout)
        at = clock()
        found: list[Reading] = []
        for name, flow in flows.items():
            seen = positions.seen(name, flow.topic, places[flow.topic], at.timestamp())
            values = figures(seen, at.timestamp())
            labels = {"flow": name, "topic": flow.topic}
            found += [
                _reading(metric, value, unit, at, labels)
                for metric, (value, unit) in values.items()
                if value is not None
            ]
        return found


def figures(seen: FlowSeen, now: float) -> dict[str, tuple[float | None, str]]:
    """Give what is told of a flow, by metric, with its unit; None for what is not known yet.  Pure.

    The last batch says nothing about a flow that has done nothing since and has nothing to do: one slow batch before a quiet
    night would be told until the morning.

    :param now: seconds since the epoch
    """
    rests = seen.at is not None and not seen.behind and now - seen.at > _RESTS_AFTER
    took, comes, done = (0.0, 0.0, 0.0) if rests else (seen.batch_seconds, seen.input_rate, seen.processed_rate)
    return {
        "spark.flow.behind": (seen.behind, "records"),
        "spark.flow.freshness": (seen.seconds, "s"),
        "spark.flow.lost": (seen.lost, "records"),
        "spark.flow.batch_duration": (took, "s"),
        "spark.flow.input_rate": (comes, "1/s"),
        "spark.flow.processed_rate": (done, "1/s"),
        "spark.flow.state": (seen.state_bytes, "bytes"),
        "spark.flow.dead_letters": (seen.dead_letters, "records"),
    }


# With these a read at a quorum sees what was written, whichever node is down.
_QUORUMS = frozenset({"QUORUM", "LOCAL_QUORUM", "EACH_QUORUM", "ALL"})


class Application:
    """Whether the engine has the job, how often it was launched, and whether a person wished it to rest."""

    name = "application"
    metrics: Sequence[str] = (
        "spark.application.running",
        "spark.application.launches_hour",
        "spark.application.wished",
        "spark.application.missing",
        "spark.writes.quorum",
    )
    source = "the engine that runs the job, the notes beside its checkpoint, and how it was told to write"

    def __init__(self, stream: SparkStream) -> None:
        self._stream = stream

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it."""
        del timeout  # each of the engine's questions has its own bound, of 20 s at most
        journal, at = self._stream.journal, clock()
        newest = journal.newest()
        life = self._stream.engine.life(newest.name, journal.handle(newest.generation)) if newest else Life.ABSENT
        launches = len(journal.recent(at.timestamp() - 3600))
        running, wished = life is Life.RUNNING, journal.wish().action == "run"
        consistency = self._stream.settings.consistency
        return [
            _reading("spark.application.running", running, "1", at, {}),
            _reading("spark.application.launches_hour", launches, "1", at, {}),
            _reading("spark.application.wished", wished, "1", at, {}),
            _reading("spark.application.missing", wished and not running, "1", at, {}),
            _reading("spark.writes.quorum", consistency in _QUORUMS, "1", at, {"consistency": consistency}),
        ]


class Audit:
    """Whether the group is where the checkpoint is: a listener that fails would make the lag a lie."""

    name = "audit"
    metrics: Sequence[str] = ("spark.flow.group_behind_checkpoint",)
    source = "the checkpoint's own notes, compared with the job's group in Kafka"

    def __init__(self, stream: SparkStream, connections: Connections) -> None:
        self._stream = stream
        self._connections = connections

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read both; a batch that ends in between is a difference of one batch."""
        settings = self._stream.settings
        states = self._stream.inspect()
        topics = [flow.topic for name, flow in settings.flows.items() if name in states]
        group = settings.group_of(self._stream.job)
        places = positions.read(self._connections.get(settings.kafka), group, topics, timeout=timeout)
        at = clock()
        return [
            _reading(
                "spark.flow.group_behind_checkpoint",
                difference(states[name], flow.topic, places[flow.topic]),
                "records",
                at,
                {"flow": name, "topic": flow.topic},
            )
            for name, flow in settings.flows.items()
            if name in states
        ]


class Cluster:
    """Masters, workers and cores of a standalone cluster."""

    name = "cluster"
    metrics: Sequence[str] = ("spark.masters.alive", "spark.masters.leading", "spark.workers.alive")
    sometimes: Sequence[str] = ("spark.cores.total", "spark.cores.used", "spark.applications")  # the leader tells them
    source = "the page of each master"

    def __init__(self, settings: Settings, connections: Connections) -> None:
        self._settings = settings
        self._connections = connections

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read every master.  One whose machine refuses is dead; of a silent one nothing is known.

        :raises Unreachable: when none answers, and one of them is silent
        """
        pages = self._connections.get(self._settings.cluster).extra.get("page", "").split(",")
        with ThreadPoolExecutor(len(pages)) as together:  # one that hangs would take the time of all
            told = list(together.map(lambda page: _page(page.strip(), timeout), pages))
        return _of_masters([one for one in told if one is not _DEAD], clock())


def difference(state: checkpoint.FlowState, topic: str, places: Sequence[positions.Place]) -> int:
    """Say how many records the group is behind the checkpoint; below 0 when it is ahead somewhere, which nothing explains.  Pure.

    Partitions do not make up for each other: one that is ahead would hide one that is behind.
    """
    known = state.offsets.get(topic, {})
    apart = [known[place.partition] - (place.committed or 0) for place in places if place.partition in known]
    return sum(one for one in apart if one < 0) or sum(apart)


_DEAD: Mapping[str, Any] = {}


def _of_masters(told: Sequence[Mapping[str, Any] | None], at: datetime) -> Sequence[Reading]:
    """Say what the masters that live have told, None for a silent one.  The one that leads is ALIVE, those that wait STANDBY."""
    alive = [one for one in told if one is not None]
    if not alive and told:
        raise Unreachable("no Spark master answers", hint="start one; running applications go on without it")
    leading = [one for one in alive if one.get("status") == "ALIVE"]
    found = {"spark.masters.alive": len(alive), "spark.masters.leading": len(leading)}
    if leading:
        workers = [worker for worker in leading[0]["workers"] if worker["state"] == "ALIVE"]
        found |= {
            "spark.workers.alive": len(workers),
            "spark.cores.total": sum(worker["cores"] for worker in workers),
            "spark.cores.used": sum(worker["coresused"] for worker in workers),
            "spark.applications": len(leading[0]["activeapps"]),
        }
    return [_reading(metric, value, "1", at, {}) for metric, value in found.items()]


def _page(url: str, timeout: float) -> Mapping[str, Any] | None:
    """Read a master's page: ``_DEAD`` when its machine says that nobody listens, None when nothing is known."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/json/", timeout=timeout) as answer:  # noqa: S310 - the inventory's
            found = json.load(answer)
    except urllib.error.URLError as error:
        return _DEAD if isinstance(error.reason, ConnectionRefusedError) else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "status" in found else None


def _reading(metric: str, value: float, unit: str, at: datetime, labels: dict[str, str]) -> Reading:
    return Reading(metric=metric, value=float(value), unit=unit, at=at, labels=labels)
