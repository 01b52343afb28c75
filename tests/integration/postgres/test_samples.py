"""Digests belong to a position in the log: whoever recovers to it finds the same rows, and any other row is found out."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Interrupted
from include.engine.model import Verdict
from include.engine.sandbox.accounts import own
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres import heartbeat, samples
from include.engine.systems.postgres.checks import amcheck, compare_samples, counts
from include.engine.systems.postgres.client import sql as sql_of
from include.engine.systems.postgres.digests import DatabaseSample, Gap, Instant, Sample, TableSample, digest
from include.engine.systems.postgres.restored import RestoredServer
from include.engine.systems.postgres.samples import quiet_instant, take_samples, to_documents
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.settings import SampleSettings
from tests.integration.postgres.taking import Taking

pytestmark = pytest.mark.integration

INSTANTS = 4


@pytest.fixture(scope="module")
def source(sandbox: Sandbox) -> Iterator[PostgresServer]:
    """A server that nobody else writes to: quiet is quiet."""
    server = PostgresServer(sandbox, "samples-source").start()
    yield server
    server.stop("immediate")


@pytest.fixture
def books(source: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with a few tables."""
    name = f"books {os.urandom(3).hex()}"
    with source.connect() as client:
        client.execute(f'create database "{name}"'.encode())
    with source.connect(name) as client:
        client.execute(
            'create table t (id int primary key, amount numeric, at timestamptz, raw bytea, doc jsonb, "mainstay row" text)'
        )
        client.execute(
            "insert into t select g, g / 3.0, '2026-01-01'::timestamptz + g * '1 s'::interval, decode(md5(g::text), 'hex'),"
            " jsonb_build_object('g', g), case when g % 2 = 0 then 'x' end from generate_series(1, 5000) g"
        )
        client.execute("create table empty ()")
    yield name
    with source.connect() as client:
        client.execute(f'drop database "{name}" with (force)'.encode())


def opener(server: PostgresServer, login: str = "postgres", password: str = "") -> samples.Open:
    connection = Connection(host=server.host, port=server.port, login=login, password=password or server.password)

    def open_database(database: str) -> AbstractContextManager[psycopg.Connection[Any]]:
        return sql_of(connection, database=database)

    return open_database


def take(server: PostgresServer, *databases: str, name: str = "check", **settings: Any) -> list[Sample]:
    return take_samples(
        opener(server),
        databases,
        restore_point=name,
        settings=SampleSettings.model_validate({"quiet_seconds": 5, **settings}),
        stop=Stop(),
    )


def compare(server: PostgresServer, found: list[Sample]) -> dict[str, tuple[Verdict, str]]:
    checks = compare_samples(opener(server), to_documents(found))
    return {check.name: (check.verdict, check.detail) for check in checks}


def run(server: PostgresServer, database: str, statement: str) -> None:
    with server.connect(database) as client:
        client.execute(statement.encode())


def test_the_same_rows_have_the_same_digests_whoever_asks_and_however(source: PostgresServer, books: str) -> None:
    found = take(source, books)
    run(source, books, f"alter database \"{books}\" set datestyle = 'German'")
    run(source, books, f"alter database \"{books}\" set timezone = 'Asia/Tokyo'")
    run(source, books, f'alter database "{books}" set extra_float_digits = 0')
    run(source, books, f"alter database \"{books}\" set bytea_output = 'escape'")
    assert compare(source, found) == {f"rows of {books}": (Verdict.PASS, "5,000 rows in 2 of 2 tables are equal")}


def test_a_digest_does_not_depend_on_the_order_of_rows(source: PostgresServer, books: str) -> None:
    found = take(source, books)
    run(source, books, "create table copy as select * from t order by id desc")
    run(source, books, "drop table t")
    run(source, books, "alter table copy rename to t")
    assert compare(source, found)[f"rows of {books}"][0] is Verdict.PASS


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("update t set amount = amount + 1 where id = 77", "t has other rows"),
        ("delete from t where id = 77", "t has 4,999 rows, 5,000 were backed up"),
        ("update t set \"mainstay row\" = '' where id = 77", "t has other rows"),
        ("drop table t", "t is missing"),
        ("create table more (n int)", "has 3 tables, 2 were backed up"),
    ],
)
def test_a_difference_is_found_and_named(source: PostgresServer, books: str, damage: str, told: str) -> None:
    found = take(source, books)
    run(source, books, damage)
    verdict, detail = compare(source, found)[f"rows of {books}"]
    assert verdict is Verdict.FAIL
    assert told in detail
    assert books in detail


def test_a_database_that_is_missing_fails(source: PostgresServer, books: str) -> None:
    documents = [dict(document) for document in to_documents(take(source, books))]
    for document in documents:
        document.update({"database": "nowhere"} if "database" in document else {})
    (check,) = compare_samples(opener(source), documents)
    assert check.verdict is Verdict.FAIL


def test_large_tables_are_digested_by_ranges_of_blocks(source: PostgresServer, books: str) -> None:
    found = take(source, books, whole_table_bytes=0, ranges=3, range_blocks=2)
    (table,) = [sample for sample in found if isinstance(sample, TableSample) and sample.table == "t"]
    assert len(table.ranges) == 3
    assert 0 < table.rows < 5000
    assert compare(source, found)[f"rows of {books}"][0] is Verdict.PASS
    run(source, books, "update t set amount = 0 where ctid = '(0,1)'")
    assert compare(source, found)[f"rows of {books}"][0] is Verdict.FAIL


def test_an_open_transaction_that_has_written_is_not_quiet(source: PostgresServer, books: str) -> None:
    with closing(psycopg.connect(source.conninfo(books))) as writer:
        writer.execute("insert into t (id) values (9001)")
        with source.connect() as client:
            row = client.execute("select pg_current_snapshot()").fetchone()
        # The trap: it runs, it is not listed, and xmin = xmax all the same.
        assert row is not None
        assert row[0].split(":")[0] == row[0].split(":")[1]
        found = take(source, books, quiet_seconds=0.3)
        assert isinstance(found[0], Gap)
        assert "no instant" in found[0].reason
        assert compare(source, found)["rows"][0] is Verdict.UNVERIFIED
        writer.rollback()
    assert isinstance(take(source, books)[0], Instant)


def test_all_databases_share_one_instant(source: PostgresServer, books: str) -> None:
    found = take(source, "postgres", books)
    assert len([sample for sample in found if isinstance(sample, Instant)]) == 1
    assert {sample.database for sample in found if isinstance(sample, DatabaseSample)} == {"postgres", books}


def test_a_table_that_was_emptied_after_the_instant_is_left_out(source: PostgresServer, books: str) -> None:
    with opener(source)(books) as client:
        assert quiet_instant({books: client}, seconds=5, stop=Stop()) is not None
        run(source, books, "truncate t")
        taken = list(samples._of_database(books, client, SampleSettings(), time.monotonic() + 60, Stop()))
        client.rollback()
    (database,) = [sample for sample in taken if isinstance(sample, DatabaseSample)]
    assert "emptied" in database.skipped["public.t"]
    assert [sample.table for sample in taken if isinstance(sample, TableSample)] == ["empty"]


def test_what_cannot_be_read_is_named_and_never_passes(source: PostgresServer, books: str) -> None:
    password = source.create_role("reads_nothing")
    with source.connect(books) as client:
        client.execute("grant execute on function pg_create_restore_point(text) to reads_nothing")
    found = take_samples(
        opener(source, "reads_nothing", password),
        [books],
        restore_point="x",
        settings=SampleSettings(),
        stop=Stop(),
    )
    (database,) = [sample for sample in found if isinstance(sample, DatabaseSample)]
    assert "permission denied" in database.skipped["public.t"]
    assert compare(source, found)[f"rows of {books}"][0] is Verdict.UNVERIFIED


def test_rows_behind_a_policy_are_not_taken_for_all_rows(source: PostgresServer, books: str) -> None:
    password = source.create_backup_role("sees_some")
    with source.connect(books) as client:
        client.execute("grant execute on function pg_create_restore_point(text) to sees_some")
        client.execute("alter table t enable row level security")
    found = take_samples(
        opener(source, "sees_some", password), [books], restore_point="x", settings=SampleSettings(), stop=Stop()
    )
    (database,) = [sample for sample in found if isinstance(sample, DatabaseSample)]
    assert "policy" in database.skipped["public.t"]


def test_no_right_to_the_restore_point_is_a_gap(source: PostgresServer, books: str) -> None:
    password = source.create_role("no_points")
    found = take_samples(
        opener(source, "no_points", password), [books], restore_point="x", settings=SampleSettings(), stop=Stop()
    )
    assert isinstance(found[0], Gap)
    assert "pg_create_restore_point" in found[0].reason


def test_time_that_is_over_skips_what_is_left(source: PostgresServer, books: str) -> None:
    found = take(source, books, seconds=0.000001)
    (database,) = [sample for sample in found if isinstance(sample, DatabaseSample)]
    assert set(database.skipped) == {"public.t", "public.empty"}


def test_a_stop_ends_the_wait_for_quiet(source: PostgresServer, books: str) -> None:
    stop = Stop()
    with closing(psycopg.connect(source.conninfo(books))) as writer:
        writer.execute("insert into t (id) values (9002)")
        threading.Timer(0.2, stop.stop, ["enough"]).start()
        with pytest.raises(Interrupted):
            take_samples(opener(source), [books], restore_point="x", settings=SampleSettings(), stop=stop)


@pytest.mark.parametrize("documents", [[], [{"kind": "gap", "reason": "why"}], [{"kind": "riddle"}]])
def test_without_samples_nothing_is_proved(source: PostgresServer, documents: list[dict[str, Any]]) -> None:
    (check,) = compare_samples(opener(source), documents)
    assert check.verdict is Verdict.UNVERIFIED


class Load:
    """Writers that commit all the time, so that an instant is a matter of milliseconds."""

    def __init__(self, server: PostgresServer, database: str, *, pause: float) -> None:
        self._over = threading.Event()
        self.commits = 0
        self._threads = [
            threading.Thread(target=self._write, args=(server, database, number, pause)) for number in range(3)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, server: PostgresServer, database: str, number: int, pause: float) -> None:
        with closing(psycopg.connect(server.conninfo(database))) as client:
            while not self._over.is_set():
                client.execute("insert into t (id, amount) values (nextval('ids'), %s)", (number,))
                client.execute("update t set amount = amount + 1 where id = (random() * 5000)::int")
                client.commit()
                self.commits += 1
                time.sleep(pause)


def test_recovery_to_the_instant_gives_exactly_the_digested_rows_under_load(
    source: PostgresServer, books: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The proof of samples.py's claim: a physical copy is rolled forward from instant to instant and compared at each."""
    run(source, books, "create sequence ids start 10000")
    taking = Taking(
        Connection(host=source.host, port=source.port, login="postgres", password=source.password),
        Bucket.open(f"file://{tmp_path}/store"),
        samples={"enabled": False},
    )
    with source.connect() as client:
        client.execute("select pg_create_physical_replication_slot('keep_wal', true)")
    try:
        with Load(source, books, pause=0.004) as load:
            manifest = taking.take()
            found = []
            for number in range(INSTANTS):
                # Where the writers' threads share a busy processor, there is no such moment for a while.
                found.append(take(source, books, name=f"instant{number}", quiet_seconds=60))
                time.sleep(0.2)
        assert load.commits > 100
        run(source, books, "select pg_switch_wal()")
        place = sandbox.directory(f"instants-{os.urandom(3).hex()}")
        data = taking.unpack(manifest, place / "data")
        (data / "recovery.signal").touch()
        for path in (data, *data.rglob("*")):
            own(path, sandbox.account)
        for number, here in enumerate(found):
            follow(source, sandbox, data, here, elsewhere=found[number - 1])
        shutil.rmtree(place)
    finally:
        with source.connect() as client:
            client.execute("select pg_drop_replication_slot('keep_wal')")


def follow(
    source: PostgresServer, sandbox: Sandbox, data: Path, found: list[Sample], *, elsewhere: list[Sample]
) -> None:
    """Roll the copy forward to the instant of *found* and compare; samples from *elsewhere* must not fit."""
    assert isinstance(found[0], Instant)
    settings = {
        "restore_command": f'cp "{source.data_directory}/pg_wal/%f" "%p"',
        "recovery_target_lsn": found[0].lsn,
        "recovery_target_inclusive": "off",
        "recovery_target_action": "pause",
        "recovery_target_timeline": "current",
    }
    copy = RestoredServer(sandbox, "samples-copy", data_directory=data, settings=settings).start()
    try:
        with copy.connect() as client:
            deadline = time.monotonic() + 120
            state = None
            while state != "paused" and time.monotonic() < deadline:
                row = client.execute("select pg_get_wal_replay_pause_state()").fetchone()
                state = row[0] if row else None
                time.sleep(0.02)
        assert state == "paused"

        def open_copy(database: str) -> AbstractContextManager[psycopg.Connection[Any]]:
            return copy.connect(database)

        (check,) = compare_samples(open_copy, to_documents(found))
        assert check.verdict is Verdict.PASS, check.detail
        (other,) = compare_samples(open_copy, to_documents(elsewhere))
        assert other.verdict is Verdict.FAIL
    finally:
        copy.stop()


def test_every_table_can_be_counted(source: PostgresServer, books: str) -> None:
    (check,) = counts(opener(source), [books])
    assert (check.verdict, check.detail) == (Verdict.PASS, "5,000 rows in 2 tables can be read")
    (missing,) = counts(opener(source), ["nowhere"])
    assert missing.verdict is Verdict.FAIL


def test_the_missing_library_of_an_extension_says_nothing_of_the_rows(source: PostgresServer, books: str) -> None:
    run(source, books, "create extension hstore")
    run(source, books, "create table tagged as select 'a=>1'::hstore as tags")
    found = take(source, books)
    run(source, books, "update pg_proc set probin = '$libdir/not_here' where proname = 'hstore_out'")
    verdict, detail = compare(source, found)[f"rows of {books}"]
    assert verdict is Verdict.UNVERIFIED
    assert 'tagged: could not access file "$libdir/not_here"' in detail
    assert "install the extension's package" in detail
    (check,) = counts(opener(source), [books])
    assert check.verdict is Verdict.UNVERIFIED
    run(source, books, "delete from t where id = 77")  # what can be read is compared, and a difference counts for more
    assert compare(source, found)[f"rows of {books}"][0] is Verdict.FAIL


def test_amcheck_tells_a_sound_cluster_from_a_damaged_one(sandbox: Sandbox) -> None:
    server = PostgresServer(sandbox, "samples-damaged").start()
    try:
        superuser = Connection(host=server.host, port=server.port, login="postgres", password=server.password)
        program = server.binaries.tool("pg_amcheck")
        run(server, "postgres", "create table t as select generate_series(1, 20000) n")
        run(server, "postgres", "create index t_n on t (n)")
        run(server, "postgres", "checkpoint")
        assert amcheck(superuser, program).verdict is Verdict.PASS
        with server.connect() as client:
            row = client.execute("select pg_relation_filepath('t')").fetchone()
        assert row is not None
        server.stop()
        with (server.data_directory / row[0]).open("r+b") as file:
            file.seek(5 * 8192 + 5000)
            file.write(b"\x55" * 64)
        server.start()
        damaged = amcheck(superuser, program)
        assert damaged.verdict is Verdict.FAIL
        assert damaged.detail
        (count,) = counts(opener(server), ["postgres"])
        assert count.verdict is Verdict.FAIL
        assert "postgres.public.t" in count.detail
    finally:
        server.stop("immediate")


def test_an_amcheck_that_cannot_run_is_unverified(source: PostgresServer) -> None:
    nobody = Connection(host=source.host, port=source.port, login="nobody", password="x")
    assert amcheck(nobody, source.binaries.tool("pg_amcheck")).verdict is Verdict.UNVERIFIED
    assert amcheck(nobody, Path("/nowhere/pg_amcheck")).verdict is Verdict.UNVERIFIED


def test_the_heartbeat_goes_on_and_is_trimmed(source: PostgresServer, books: str) -> None:
    with source.connect(books) as client:
        assert heartbeat.newest(client, "mainstay.heartbeat") is None
        for _ in range(2):
            heartbeat.ensure(client, "mainstay.heartbeat")
        assert heartbeat.newest(client, "mainstay.heartbeat") is None
        beats = [heartbeat.beat(client, "mainstay.heartbeat", note) for note in (None, "x")]
        assert heartbeat.newest(client, "mainstay.heartbeat") == max(beats)
        assert heartbeat.trim(client, "mainstay.heartbeat", timedelta(hours=1)) == 0
        assert heartbeat.trim(client, "mainstay.heartbeat", timedelta(0)) == 2


def test_a_heartbeat_needs_no_right_to_create_once_it_is_there(source: PostgresServer, books: str) -> None:
    password = source.create_role("beats")
    with source.connect(books) as client:
        heartbeat.ensure(client, "mainstay.heartbeat")
        client.execute("grant usage on schema mainstay to beats")
        client.execute("grant insert, select on mainstay.heartbeat to beats")
    with opener(source, "beats", password)(books) as client:
        heartbeat.ensure(client, "mainstay.heartbeat")
        assert heartbeat.beat(client, "mainstay.heartbeat") == heartbeat.newest(client, "mainstay.heartbeat")


def test_an_empty_table_has_a_digest(source: PostgresServer, books: str) -> None:
    with source.connect(books) as client:
        assert digest(client, "public", "empty") == (0, "0")
