"""How the demo is: every server asked for real, not by its process id alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from include.engine.cli import figures
from include.engine.cli.demo_sandbox import BUCKET, TARGET, DemoSandbox
from include.engine.contracts import Connection
from include.engine.errors import MainstayError
from include.engine.sandbox.record import Record
from include.engine.store.bucket import Bucket

if TYPE_CHECKING:
    from include.engine.systems.postgres.server import PostgresServer

_LATE_BEAT = 15.0  # seconds: the heartbeat is written every two
_SLOT = "mainstay_wal"
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
    probes = dict(_probes(demo))
    with ThreadPoolExecutor(len(probes), thread_name_prefix="status") as pool:
        return list(pool.map(lambda name: _status(name, records.get(name), probes[name]), probes))


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
    yield demo.traffic.name, lambda: _traffic(demo.primary)
    for component in ("api-server", "scheduler", "dag-processor", "triggerer"):
        yield f"airflow-{component}", lambda component=component: _airflow(demo, component)  # type: ignore[misc]


def _store(demo: DemoSandbox) -> str:
    known = demo.connections()["mainstay_store"]
    impatient = Connection(login=known.login, password=known.password, extra=known.extra | _IMPATIENT)
    folders = Bucket.open(f"s3://{BUCKET}/demo", impatient).folders("")
    return f"{demo.store.implementation}, answers; {len(folders)} folders" if folders else "answers; nothing stored yet"


def _primary(server: PostgresServer) -> str:
    bytes_, recovering = _ask(
        server, "select sum(pg_database_size(oid))::bigint, pg_is_in_recovery() from pg_database where datallowconn"
    )
    if recovering:
        raise Unhealthy("it is a standby, and should be the primary")
    return f"takes writes; {figures.size(float(str(bytes_)))}"


def _standby(demo: DemoSandbox) -> str:
    if not demo.standby.streaming():
        raise Unhealthy("the primary does not stream to it")
    (behind,) = _ask(
        demo.primary,
        "select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint from pg_stat_replication "
        "where application_name = %s",
        demo.standby.name,
    )
    return f"streams; {figures.size(float(str(behind)))} behind"


def _archive(demo: DemoSandbox) -> str:
    row = _ask(
        demo.primary,
        "select bool_or(active), coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::bigint "
        "from pg_replication_slots where slot_name = %s",
        _SLOT,
    )
    if not row[0]:
        raise Unhealthy(f"nobody reads the slot {_SLOT} of {TARGET}: read {demo.archiver.log}")
    return f"receives; {figures.size(float(str(row[1])))} not yet acknowledged"


def _traffic(server: PostgresServer) -> str:
    (age,) = _ask(server, "select extract(epoch from clock_timestamp() - max(at))::float8 from mainstay.heartbeat")
    if age is None or float(str(age)) > _LATE_BEAT:
        raise Unhealthy(f"the last heartbeat is {figures.duration(None if age is None else float(str(age)))} old")
    return f"last heartbeat {figures.duration(float(str(age)))} ago"


def _airflow(demo: DemoSandbox, component: str) -> str:
    health = demo.airflow.client().health()
    told = health.get("metadatabase" if component == "api-server" else component.replace("-", "_"))
    if told != "healthy":
        raise Unhealthy(f"Airflow says that it is {told}")
    return demo.airflow.url if component == "api-server" else "healthy"


def _ask(server: PostgresServer, query: str, *values: object) -> tuple[object, ...]:
    import psycopg

    try:
        with server.connect() as connection:
            row = connection.execute(query, values).fetchone()  # type: ignore[call-overload]
    except psycopg.Error as error:
        raise Unhealthy(str(error).splitlines()[0]) from error
    if row is None:
        raise Unhealthy("it has no answer")
    return tuple(row)
