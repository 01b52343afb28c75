"""Load on PostgreSQL, by its own pgbench, in a database of the test's own.

pgbench draws the times between transactions at random (a Poisson process) and keeps them whatever the server does; its log says
how late each transaction was sent, from which both latencies follow.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psycopg
from psycopg import sql as q

from include.engine.contracts import Clock, Connection
from include.engine.errors import Interrupted, MainstayError, PermanentError, Unreachable
from include.engine.full_disks import FULL
from include.engine.loading.contracts import CPU_SHARE, UNSENT, CutShort, LoadRun, Measured
from include.engine.loading.distribution import encoded
from include.engine.loading.driving import LATE
from include.engine.loading.permission import CANARY
from include.engine.loading.profiles import Profile
from include.engine.loading.recording import Recording, step_of
from include.engine.loading.schedule import SECOND, Schedule, Stage
from include.engine.loading.tool import run_tool
from include.engine.loading.workers import interval_of
from include.engine.model import Reading
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Home
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.client import place, sql
from include.engine.systems.postgres.hands import Hands
from include.engine.systems.postgres.pgbench_log import transactions
from include.engine.systems.postgres.workload import Workload

_PROJECT = Path(__file__).resolve().parents[4]
_LOST = (
    *("server closed the connection", "terminating connection", "connection to server", "could not receive data"),
    *FULL,  # a server that is full has had enough, and that is a result
    "perhaps the backend died",  # the only words of some clients: the server's own may be lost with the connection
)
# Waits for each: PostgreSQL drops no database that somebody is in.
_END_OURS = """
    select pg_terminate_backend(pid, 5000) from pg_stat_activity
    where datname = %s and usename = current_user and backend_type = 'client backend'
"""
_SLICES = 4  # a ramp is made of this many steady parts: pgbench knows one rate


class PostgresLoad:
    """Runs pgbench on one cluster.

    :param connection: of a role with CREATEDB
    """

    def __init__(self, connection: Connection, profile: Profile) -> None:
        assert isinstance(profile.workload, Workload)
        self._connection = connection
        self._profile = profile
        self._workload = profile.workload

    def environment(self) -> Mapping[str, str]:
        """Say which server with which settings it is."""
        names = ("server_version", "shared_buffers", "synchronous_commit", "fsync", "max_wal_size", "full_page_writes")
        with sql(self._connection) as client:
            rows = client.execute(
                "select name, setting from pg_settings where name = any(%s)", (list(names),)
            ).fetchall()
        found = {str(name): str(value) for name, value in rows}
        version = found.pop("server_version")
        return {"postgresql": version, "client": f"pgbench {self._binaries().version}", **found}

    def limit(self, run: LoadRun, *, rate: float) -> None:
        """Measure nothing: pgbench says by itself how late it was."""

    def prepare(self, run: LoadRun) -> None:
        """Create the database and fill it."""
        with sql(self._connection) as client:
            client.execute(q.SQL("create database {}").format(q.Identifier(run.name)))
        with tempfile.TemporaryDirectory() as folder:
            self._pgbench(run, Path(folder), ["--initialize", "--quiet", "--scale", str(self._workload.scale)])

    def measure(self, run: LoadRun, schedule: Schedule) -> Measured:
        """Run pgbench once for each steady part of the schedule."""
        recording = Recording(interval_of(schedule))
        begun, late, cpu = 0.0, 0, 0.0
        # All parts have one grace between them: with one each, a ramp would outlive what was allowed.
        ends = time.monotonic() + schedule.seconds + self._profile.grace.total_seconds()
        for stage in _steady_parts(schedule):
            before = _cpu_of_children()
            try:
                late = self._one(run, stage, begun, late, recording, ends=ends)
            except (Interrupted, Unreachable) as error:
                lasted = recording.last / SECOND
                if lasted > schedule.warm_up + 1:
                    error.__cause__ = CutShort(_measured(recording, schedule.until(lasted), cpu))
                raise
            jobs = min(self._workload.clients, run.processes)
            cpu = max(cpu, (_cpu_of_children() - before) / jobs / (stage.seconds + late / SECOND))
            begun += stage.seconds
        return _measured(recording, schedule, cpu)

    def canary(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Log in and ask for a one."""
        began = time.monotonic()
        extra = {**self._connection.extra, "options": f"-c statement_timeout={int(timeout * 1000)}"}
        extra["connect_timeout"] = str(max(2, int(timeout)))
        patient = Connection(
            **{**{f: getattr(self._connection, f) for f in self._connection.__struct_fields__}, "extra": extra}
        )
        with sql(patient) as client:
            client.execute("select 1")
        return [Reading(metric=CANARY, value=time.monotonic() - began, unit="s", at=clock())]

    def leftovers(self, prefix: str) -> Sequence[str]:
        """Name databases of load tests."""
        with sql(self._connection) as client:
            rows = client.execute(
                "select datname from pg_database where starts_with(datname, %s)", (prefix,)
            ).fetchall()
        return sorted(str(name) for (name,) in rows)

    def remove(self, names: Sequence[str]) -> None:
        """Drop databases, whoever is connected to them.

        By force only where it takes force: without it, PostgreSQL itself ends an autovacuum worker that is in the database;
        with it, only a superuser may.
        """
        with sql(self._connection) as client:
            for name in names:
                client.execute(_END_OURS, (name,))
                database = q.Identifier(name)
                try:
                    client.execute(q.SQL("drop database if exists {}").format(database))
                except psycopg.errors.ObjectInUse:
                    client.execute(q.SQL("drop database if exists {} with (force)").format(database))

    def _one(self, run: LoadRun, stage: Stage, begun: float, late: int, recording: Recording, *, ends: float) -> int:
        """Run one part, and give by how many nanoseconds it ended after its time.

        :param late: by how much the part before it did: everything in this one was sent by that much later than it was due
        :param ends: when the whole load must have ended, on the monotonic clock
        """
        load = self._workload
        scripts = [part for name, weight in load.scripts.items() for part in ("--builtin", f"{name}@{weight}")]
        # By their number and not by the time: at the end of a time, pgbench forgets the transactions that it is late with.
        each = -(-int(stage.operations) // load.clients)
        began_us = time.time_ns() // 1000
        hands = Hands(run.clock)
        problem: MainstayError | None = None
        with tempfile.TemporaryDirectory() as folder:
            arguments = [
                *("--no-vacuum", "--log", "--log-prefix", "load", "--protocol", load.protocol, *scripts),
                *("--client", str(load.clients), "--jobs", str(min(load.clients, run.processes))),
                *("--rate", f"{stage.rate:.6f}", "--transactions", str(each)),
            ]
            timeout = min(stage.seconds + self._profile.grace.total_seconds(), ends - time.monotonic())
            try:
                ended = timeout > 0 and self._pgbench(run, Path(folder), arguments, timeout=timeout)
            except (Interrupted, Unreachable) as error:  # what it has logged until then was measured
                ended, problem = True, error
            found = list(transactions(_whole_lines(Path(folder)), began_us=began_us, scripts=list(load.scripts)))
        hands.check()
        given_up = time.time_ns() // 1000 - began_us
        # pgbench began some time after we asked for it; its schedule begins with its first transaction, to within one.
        offset = int(begun * SECOND) - min((one.due for one in found), default=0)
        end = int((begun + stage.seconds) * SECOND)
        due = [one for one in found if one.due + offset < end]
        moved = offset + late
        recording.add_many(
            (one.due + offset, one.sent + moved, one.answered + moved, one.kind, one.error) for one in due
        )
        held = [(one.due + offset, one.sent + moved) for one in due if one.sent + late - one.due > LATE]
        if not ended:  # the last ones of the schedule are those that it still had to make
            for index in range(len(found), int(stage.operations)):
                wanted = int((begun + stage.time_of(index)) * SECOND)
                recording.add_lost(wanted, max(wanted, given_up * 1000 + moved), UNSENT)
                held.append((wanted, end))
        note_held(recording, held)
        if problem is not None:
            raise problem
        last = given_up * 1000 + moved if not ended else max((one.answered + moved for one in due), default=0)
        return max(0, last - end)

    def _pgbench(self, run: LoadRun, folder: Path, arguments: list[str], *, timeout: float | None = None) -> bool:
        """Run it to its end, or end it after *timeout*; say which."""
        connection = self._connection
        secret = {"PGPASSWORD": connection.password} if connection.password else {}
        binaries = self._binaries()
        with (folder / "said").open("w+") as said:
            code = run_tool(
                [
                    *(str(binaries.tool("pgbench")), *arguments, "--username", connection.login),
                    *("--host", connection.host, "--port", str(connection.port or 5432), run.name),
                ],
                directory=folder,
                environment={**_inherited(), **binaries.environment, **secret, **_tls(connection)},
                stop=run.stop,
                timeout=timeout,
                errors=said,
                moment=1.0,  # in which it finds out by itself that its server is gone: only so it writes its log out
            )
            if code is None:
                return False
            if code != 0:
                said.seek(0)
                raise failure_of(code, said.read(), connection)
            return True

    def _binaries(self) -> PostgresBinaries:
        with sql(self._connection) as client:
            major = client.info.server_version // 10_000
        shelf = Shelf.of(Home.of(_PROJECT))
        try:
            return PostgresBinaries.find(major, shelf)
        except MainstayError:
            return PostgresBinaries.find(17, shelf)  # pgbench talks to servers of other versions


def note_held(recording: Recording, held: Iterable[tuple[int, int]]) -> None:
    """Note the time in which transactions waited for a client: pgbench has none free only while the server works on all.

    :param held: when each of them was due and sent; they overlap
    """
    until = 0
    for due, sent in sorted(held):
        begin = max(due, until)
        if sent > begin:
            recording.note_wait(begin, sent)
            until = sent


def open_load(connection: Connection, profile: Profile) -> PostgresLoad:
    """Give the engine for one cluster.  Asks nothing of it yet."""
    return PostgresLoad(connection, profile)


def _measured(recording: Recording, schedule: Schedule, cpu: float) -> Measured:
    step = step_of(recording, schedule, drawn=True, figures={CPU_SHARE: round(cpu, 3)})
    kept = {"from_intended": recording.intended, "from_sent": recording.sent}
    histograms = {name: encoded(recording.distribution(one, step.warm_up_seconds)) for name, one in kept.items()}
    return Measured(step=step, histograms=histograms)


def _steady_parts(schedule: Schedule) -> Iterator[Stage]:
    for stage in schedule.stages:
        if stage.to is None:
            yield stage
            continue
        width = stage.seconds / _SLICES
        for part in range(_SLICES):
            middle = (part + 0.5) / _SLICES
            yield Stage(rate=stage.rate + (stage.to - stage.rate) * middle, seconds=width)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _whole_lines(folder: Path) -> Iterator[str]:
    """Give the lines of the log; one that was being written when pgbench was killed is none."""
    for file in sorted(folder.glob("load.*")):
        with file.open() as stream:
            yield from (line for line in stream if line.endswith("\n"))


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "TZ") if name in os.environ} | {"LC_ALL": "C"}


def _tls(connection: Connection) -> dict[str, str]:
    named = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"}
    return {variable: connection.extra[key] for key, variable in named.items() if key in connection.extra}


def failure_of(code: int, said: str, connection: Connection) -> MainstayError:
    """Say what it means that pgbench ended badly: a server that is gone or full is lost, anything else is a mistake."""
    text = said.replace(connection.password, "***") if connection.password else said
    if any(lost in text for lost in _LOST):
        first = next(line for line in text.splitlines() if any(lost in line for lost in _LOST))
        return Unreachable(f"pgbench lost {place(connection)}: {first.strip()}", hint="check the server's log")
    wrong = [line for line in text.strip().splitlines() if "error" in line.lower()] or text.strip().splitlines()[-1:]
    return PermanentError(
        f"pgbench ended with exit code {code}: {' '.join(wrong[:1]).strip()}",
        hint="mend what it names, and run it again",
    )
