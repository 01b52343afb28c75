"""Load on a real PostgreSQL, by pgbench, and its bad days."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psycopg
import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import MainstayError, PermanentError, TransientError, Unreachable
from include.engine.loading.contracts import LoadRun
from include.engine.model import Target, Verdict
from include.engine.systems.postgres import probes
from include.engine.systems.postgres.client import conninfo, sql
from include.engine.systems.postgres.load import failure_of
from include.engine.systems.postgres.server import SUPERUSER, PostgresServer
from include.engine.systems.postgres.settings import PostgresSettings
from tests.estate import eventually
from tests.loading.range import SHORT, WIDE, Range, Told, clock, names

pytestmark = pytest.mark.integration

AT_WORK = "select 1 from pg_stat_activity where application_name = 'pgbench' and datname like 'mainstay_load%'"


@pytest.fixture
def postgres_range(postgres: PostgresServer, tmp_path: Path) -> Range:
    connection = Connection(host=postgres.host, port=postgres.port, login=SUPERUSER, password=postgres.password)
    return Range("postgres", connection, tmp_path)


def test_a_load_on_postgresql_is_pgbench_with_both_latencies(postgres_range: Range, postgres: PostgresServer) -> None:
    mix = {"script": None, "mix": {"select-only": 3, "simple-update": 1}}
    result = postgres_range.run(postgres_range.profile(stages=SHORT, gates=WIDE, workload=mix))
    step = result.step
    assert step is not None
    assert step.errors == {}
    assert set(step.kinds) == {"select-only", "simple-update"}
    # pgbench draws its times: 300 are due, give or take five standard deviations of a Poisson process.
    assert step.from_intended.count == pytest.approx(300, abs=90)
    assert sum(one.intended for one in step.series if not one.warm_up) == step.from_intended.count
    assert step.from_sent.p50 <= step.from_intended.p50
    with postgres.connect() as connection:
        assert connection.execute(
            "select count(*) from pg_database where datname like 'mainstay_load%'"
        ).fetchone() == (0,)


def test_a_target_that_dies_is_a_failed_test_and_not_an_endless_one(postgres: PostgresServer, tmp_path: Path) -> None:
    server = PostgresServer(postgres.sandbox, "dying").start()
    connection = Connection(host=server.host, port=server.port, login="postgres", password=server.password)
    range_ = Range("postgres", connection, tmp_path)

    def kill_in_the_middle() -> None:
        with server.connect() as client:
            eventually(lambda: client.execute(AT_WORK).fetchone(), what="pgbench is at work")
        time.sleep(2.5)
        server.kill()

    killer = threading.Thread(target=kill_in_the_middle)
    profile = range_.profile(stages=[{"rate": 50, "lasts": "30s"}], gates=WIDE, warm_up="0s")
    try:
        result = range_.run(profile, progress=Told({"load": killer.start}))
    finally:
        killer.join()
        server.start()
    assert result.verdict is Verdict.FAIL
    assert names(Verdict.FAIL, result.checks) & {"guards", "finished"}
    assert "removed" in names(Verdict.UNVERIFIED, result.checks)
    assert result.step is not None  # what was measured until then is shown, and not judged
    assert 0 < result.step.from_intended.count < 1500
    assert result.step.checks == ()
    # The next test of this pipeline removes what the dead server kept.
    after = range_.run(range_.profile(stages=SHORT, gates=WIDE))
    assert any("had left mainstay_load_test_" in note for note in after.notes)
    assert range_.engine(profile).leftovers("mainstay_load") == []
    server.stop()


def test_a_database_of_a_load_test_is_dropped_though_autovacuum_is_in_it_and_so_is_somebody(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    name = "mainstay_load_test_vacuumed"
    with postgres.connect() as admin:
        admin.execute("drop role if exists load_creator")
        admin.execute("create role load_creator login createdb password 'creates'")
    creator = Connection(host=postgres.host, port=postgres.port, login="load_creator", password="creates")
    range_ = Range("postgres", creator, tmp_path)
    engine = range_.engine(range_.profile())
    with sql(creator) as client:
        client.execute(f"create database {name}")
    slow = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 0"
    with sql(creator, database=name) as client:  # a worker that stays, for it sleeps after each page
        client.execute(
            f"create table dirty with ({slow}) as select g, repeat('x', 500) from generate_series(1, 100000) g"
        )
        client.execute("delete from dirty where g % 2 = 0")
    with postgres.connect() as admin:
        admin.execute("alter system set autovacuum_naptime = '1s'")
        admin.execute("select pg_reload_conf()")
        workers = "select pid from pg_stat_activity where backend_type = 'autovacuum worker' and datname = %s"
        try:
            (worker,) = eventually(lambda: admin.execute(workers, (name,)).fetchone(), what="autovacuum comes")
            somebody = psycopg.connect(conninfo(creator, database=name, application="somebody"))
            engine.remove([name])
            with pytest.raises(psycopg.errors.AdminShutdown):
                somebody.execute("select 1")
            somebody.close()
            assert engine.leftovers("mainstay_load_test_vacuumed") == []
            assert admin.execute("select from pg_stat_activity where pid = %s", (worker,)).fetchone() is None
        finally:
            admin.execute("alter system reset autovacuum_naptime")
            admin.execute("select pg_reload_conf()")
            admin.execute("drop role load_creator")


def test_a_ramp_on_a_server_that_hangs_ends_when_one_grace_is_over_and_not_one_for_each_part(
    postgres_range: Range, postgres: PostgresServer
) -> None:
    profile = postgres_range.profile(stages=[{"rate": 20, "to": 40, "lasts": "4s"}], warm_up="0s", grace="6s")
    engine = postgres_range.engine(profile)
    run = LoadRun(name="mainstay_load_test_hanging", progress=Told(), stop=Stop(), clock=clock)
    try:
        engine.prepare(run)
        with postgres.connect(run.name) as other:
            other.execute("begin")
            other.execute("lock table pgbench_branches")
            began = time.monotonic()
            step = engine.measure(run, profile.schedule()).step
            took = time.monotonic() - began
            other.execute("rollback")
    finally:
        engine.remove([run.name])
    assert 10 <= took < 16  # with six seconds for each of the four parts, it was twenty-eight
    assert step.error_count > 60
    assert step.from_intended.max > 4000  # milliseconds: the first ones waited until all was given up


def test_a_clock_that_is_set_while_pgbench_runs_makes_no_result(postgres_range: Range) -> None:
    profile = postgres_range.profile(stages=SHORT, gates=WIDE)
    engine = postgres_range.engine(profile)
    looks = itertools.count()

    def stepped() -> datetime:
        return clock() + timedelta(hours=next(looks))

    run = LoadRun(name="mainstay_load_test_stepped", progress=Told(), stop=Stop(), clock=stepped)
    try:
        engine.prepare(run)
        with pytest.raises(TransientError, match=r"the clock was set by \+3,600"):
            engine.measure(run, profile.schedule(seconds=1))
    finally:
        engine.remove([run.name])


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('ERROR:  could not extend file "base/1": No space left on device', Unreachable),
        ("FATAL:  terminating connection due to administrator command", Unreachable),
        ('pgbench: error: relation "pgbench_accounts" does not exist', PermanentError),
    ],
    ids=["full", "stopped", "wrong"],
)
def test_a_server_that_is_full_or_gone_is_a_result_and_a_mistake_is_none(
    said: str, kind: type[MainstayError], postgres_range: Range
) -> None:
    assert type(failure_of(2, said, postgres_range.connection)) is kind


def test_a_guard_that_trips_ends_the_load_at_once_and_the_result_says_so(
    postgres_range: Range, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    profile = postgres_range.profile(stages=[{"rate": 50, "lasts": "120s"}], gates=WIDE)
    engine = postgres_range.engine(profile)
    slow = threading.Event()
    honest = engine.canary

    def canary(*arguments: object, **more: object) -> object:
        (reading,) = honest(*arguments, **more)  # type: ignore[arg-type]
        return [msgspec.structs.replace(reading, value=reading.value + 60 * slow.is_set())]

    monkeypatch.setattr(engine, "canary", canary)
    monkeypatch.setattr(postgres_range, "engine", lambda _: engine)
    result = postgres_range.run(profile, progress=Told({"load": slow.set}))
    assert time.monotonic() - began < 100
    assert result.verdict is Verdict.FAIL
    assert result.stopped.startswith("guard: load.canary is ")
    assert "guards" in names(Verdict.FAIL, result.checks)
    assert engine.leftovers("mainstay_load") == []


def test_a_guard_of_postgresqls_own_holds_for_as_long_as_the_load_is_on(postgres_range: Range) -> None:
    """Read again and again, by one of the probes that share a connection."""
    target = Target.parse("postgres/main")
    connections = SimpleNamespace(get=lambda _: postgres_range.connection)
    found = probes.open_probes(target, PostgresSettings(connection="x"), connections)
    guards = {"load.canary": {"above": 30}, "postgres.connections.used": {"above": 99}}
    profile = postgres_range.profile(stages=[{"rate": 50, "lasts": "4s"}], gates=WIDE)
    result = postgres_range.run(profile, permission={"guards": guards, "guard_every": "0.1s"}, probes=found)
    check = next(one for one in result.checks if one.name == "guards")
    assert (check.verdict, result.stopped) == (Verdict.PASS, "")
    assert "postgres.connections.used up to" in check.detail
