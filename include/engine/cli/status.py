"""How the demo is: every server asked for real, not by its process id alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from include.engine.cli import demo_stream, figures, probes
from include.engine.cli.clock import now
from include.engine.cli.companion import Companion
from include.engine.cli.demo_clusters import Clusters
from include.engine.cli.demo_sandbox import BUCKET, TARGET, DemoSandbox
from include.engine.cli.demo_stream import DemoStream
from include.engine.contracts import Connection
from include.engine.errors import MainstayError
from include.engine.sandbox.record import Record
from include.engine.store.bucket import Bucket

if TYPE_CHECKING:
    from include.engine.systems.kafka.server import KafkaCluster
    from include.engine.systems.postgres.server import PostgresServer

_LATE_BEAT = 15.0  # seconds: the heartbeat is written every two
_IMPATIENT = {"max_retries": "0", "retry_seconds": "2", "timeout_seconds": "5"}

Probe = Callable[[], str]


class ServerStatus(Struct, frozen=True, kw_only=True):
    """One server of the demo as it is now."""

    name: str
    pid: int | None
    port: int | None
    since: datetime | None
    healthy: bool
    seen: str


class Unhealthy(Exception):
    """What a probe saw is not what it should be."""


def look(demo: DemoSandbox) -> list[ServerStatus]:
    """Ask every server how it is, all at once; a server that does not run is not asked."""
    records = {record.name: record for record in demo.sandbox.running()}
    if demo.stream.record is not None:
        records[demo_stream.TARGET] = demo.stream.record
    asked = dict(_probes(demo))
    if not demo.wants_stream:
        del asked[demo_stream.TARGET]
    if not demo.wants_airflow:
        asked = {name: probe for name, probe in asked.items() if name in records or not name.startswith("airflow-")}
    with ThreadPoolExecutor(len(asked), thread_name_prefix="status") as pool:
        found = list(pool.map(lambda name: _status(name, records.get(name), asked[name]), asked))
    # What Cassandra records first is the port of its management interface.
    nodes = {node.label for node in demo.clusters.cassandra.nodes if node.running}
    port = demo.clusters.cassandra.native_port
    return [msgspec.structs.replace(one, port=port) if one.name in nodes else one for one in found]


def _status(name: str, record: Record | None, probe: Probe) -> ServerStatus:
    if record is None:
        return ServerStatus(name=name, pid=None, port=None, since=None, healthy=False, seen="does not run")
    try:
        healthy, seen = True, probe()
    except Unhealthy as error:
        healthy, seen = False, str(error)
    except MainstayError as error:
        healthy, seen = False, error.message
    return ServerStatus(
        name=name,
        pid=record.identity.pid,
        port=next(iter(record.ports.values()), None),
        since=datetime.fromtimestamp(record.started_at, UTC),
        healthy=healthy,
        seen=seen,
    )


def _probes(demo: DemoSandbox) -> Iterator[tuple[str, Probe]]:
    yield demo.store.label, lambda: _store(demo)
    yield demo.primary.label, lambda: _primary(demo.primary)
    yield demo.standby.label, lambda: _standby(demo)
    yield demo.archiver.name, lambda: _archive(demo)
    yield from _clusters(demo.clusters)
    yield demo.traffic.name, lambda: _traffic(demo.primary)
    yield demo.stream.pour.name, lambda: _pours(demo.stream.pour)
    yield demo_stream.TARGET, lambda: _stream(demo.stream)
    for component in ("api-server", "scheduler", "dag-processor", "triggerer"):
        yield f"airflow-{component}", lambda component=component: _airflow(demo, component)  # type: ignore[misc]


def _clusters(clusters: Clusters) -> Iterator[tuple[str, Probe]]:
    for node in clusters.cassandra.nodes:
        yield node.label, lambda address=node.address: _cassandra(clusters, address)  # type: ignore[misc]
    for cluster in (clusters.kafka, clusters.copy):
        for broker in cluster.nodes:
            yield broker.label, lambda cluster=cluster: _kafka(cluster)  # type: ignore[misc]
    yield clusters.connect.label, lambda: _connect(clusters)


def _cassandra(clusters: Clusters, address: str) -> str:
    from include.engine.systems.cassandra.client import Cql

    with Cql(msgspec.structs.replace(clusters.cassandra.connection(), host=address), timeout=5) as cql:
        return f"answers; it knows {len(cql.ring())} node(s)"


def _kafka(cluster: KafkaCluster) -> str:
    from include.engine.systems.kafka.client import open_admin

    with open_admin(cluster.connection(), patience=2) as admin:
        topics = admin.topics()
    partitions = [(name, partition) for name, topic in topics.items() for partition in topic.partitions]
    weak = sorted({name for name, partition in partitions if len(partition.isr) < len(partition.replicas)})
    if weak:
        raise Unhealthy(f"copies are missing of {', '.join(weak)}")
    return f"answers; {len(topics)} topics, {len(partitions)} partitions in sync"


def _connect(clusters: Clusters) -> str:
    from include.engine.systems.kafka.connect import Connect

    connect = Connect(clusters.connect.connection(), patience=0)
    names = connect.names()
    failed = [name for name in names if connect.status(name).failed]
    if failed:
        raise Unhealthy(f"tasks have failed: {', '.join(failed)}")
    return f"answers; {len(names)} connectors"


def _store(demo: DemoSandbox) -> str:
    known = demo.connections()["mainstay_store"]
    impatient = Connection(login=known.login, password=known.password, extra=known.extra | _IMPATIENT)
    folders = Bucket.open(f"s3://{BUCKET}/demo", impatient).folders("")
    return f"{demo.store.implementation}, answers; {len(folders)} folders" if folders else "answers; nothing stored yet"


def _primary(server: PostgresServer) -> str:
    bytes_, recovering = probes.size(server)
    if recovering:
        raise Unhealthy("it is a standby, and should be the primary")
    return f"takes writes; {figures.size(bytes_)}"


def _standby(demo: DemoSandbox) -> str:
    if not demo.standby.streaming():
        raise Unhealthy("the primary does not stream to it")
    return f"streams; {figures.size(probes.replay_lag(demo.primary, demo.standby.name))} behind"


def _archive(demo: DemoSandbox) -> str:
    active, behind = probes.archived(demo.primary)
    if not active:
        raise Unhealthy(f"nobody reads the slot {probes.SLOT} of {TARGET}: read {demo.archiver.log}")
    return f"receives; {figures.size(behind)} not yet acknowledged"


def _traffic(server: PostgresServer) -> str:
    age = probes.heartbeat_age(server)
    if age is None or age > _LATE_BEAT:
        raise Unhealthy(f"the last heartbeat is {figures.duration(age)} old")
    return f"last heartbeat {figures.duration(age)} ago"


def _pours(pour: Companion) -> str:
    return pour.server.tail(1)


def _stream(stream: DemoStream) -> str:
    seen = stream.job.look(now)
    told = f"{seen.behind} records wait, the oldest for {figures.duration(seen.seconds)}"
    if not seen.begun:
        raise Unhealthy(f"it is starting; {told}")
    if seen.seconds > stream.job.policy.stalled_after:
        raise Unhealthy(told)
    return told


def _airflow(demo: DemoSandbox, component: str) -> str:
    health = demo.airflow.client().health()
    told = health.get("metadatabase" if component == "api-server" else component.replace("-", "_"))
    if told != "healthy":
        raise Unhealthy(f"Airflow says that it is {told}")
    return demo.airflow.url if component == "api-server" else "healthy"
