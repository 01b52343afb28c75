"""A backup of a real server holds everything, holds the server's WAL while it runs, and leaves nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg import sql

from include.engine.contracts import Connection, Stop
from include.engine.errors import Contended, Corrupt, Incomplete, Interrupted, Unauthorized, Unreachable
from include.engine.model import Cut, Kind, Manifest, Verdict, backup_time
from include.engine.sandbox.accounts import own
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.checks import compare_samples
from include.engine.systems.postgres.client import application_name
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.replication import ReplicationSession
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.standby import StandbyServer
from tests.integration.postgres.taking import FIRST, SECOND, TARGET, THIRD, Taking, Watched, clock, environment

pytestmark = pytest.mark.integration

SLOW_RATE = 256 << 10  # bytes a second
SLOW = {"max_rate": SLOW_RATE, "samples": {"enabled": False}}  # some 100 s for an empty cluster: time to act


def connection_to(server: PostgresServer, login: str = "mainstay", password: str | None = None) -> Connection:
    return Connection(
        host=server.host, port=server.port, login=login, password=password or server.create_backup_role(login)
    )


@pytest.fixture(scope="module")
def source(sandbox: Sandbox) -> Iterator[PostgresServer]:
    """A server of this module's own: it is restarted, and its walsenders are counted."""
    server = PostgresServer(sandbox, "backup-source").start()
    with server.connect() as client:
        client.execute("create table t as select g as id, md5(g::text) as hash from generate_series(1, 20000) g")
        client.execute("checkpoint")
    yield server
    server.stop("immediate")


@pytest.fixture(scope="module")
def role(source: PostgresServer) -> Connection:
    return connection_to(source)


@pytest.fixture
def bucket_here(tmp_path: Path) -> Bucket:
    return Bucket.open(f"file://{tmp_path}/store")


@pytest.fixture
def taking(role: Connection, bucket_here: Bucket) -> Taking:
    return Taking(role, bucket_here)


@pytest.fixture
def copies(sandbox: Sandbox) -> Iterator[Path]:
    """A place for data directories that the server's account can enter."""
    place = sandbox.directory(f"copies-{os.urandom(4).hex()}")
    yield place
    shutil.rmtree(place)


def value(server: PostgresServer, query: str, *arguments: object, database: str = "postgres") -> object:
    with server.connect(database) as client:
        row = client.execute(query.encode(), arguments).fetchone()
    assert row is not None
    return row[0]


def senders(server: PostgresServer) -> int:
    return int(str(value(server, "select count(*) from pg_stat_activity where backend_type = 'walsender'")))


def slots(server: PostgresServer) -> int:
    return int(str(value(server, "select count(*) from pg_replication_slots")))


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def objects(taking: Taking) -> list[str]:
    return [found.key for found in taking.bucket.list()]


def verified(server: PostgresServer, directory: Path) -> str:
    """Hand *directory* to the server's account and let PostgreSQL's own tool judge it."""
    for path in (directory, *directory.rglob("*")):
        own(path, server.sandbox.account)
    return server.run("pg_verifybackup", directory)


def test_a_full_backup_is_what_postgresql_itself_accepts(source: PostgresServer, taking: Taking, copies: Path) -> None:
    progress = Watched()
    manifest = taking.take(progress=progress)
    assert manifest.kind is Kind.FULL
    assert [entry.name for entry in manifest.entries] == ["base.tar.zst", "backup_manifest.zst"]
    base = manifest.entries[0]
    stored = taking.bucket.read(base.key)
    assert (base.bytes, base.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert base.original_bytes == len(taking.stored(base))
    assert progress.bytes == base.original_bytes
    assert ("copy", progress.stages[1][1]) in progress.stages
    assert "successfully verified" in verified(source, taking.unpack(manifest, copies / "full"))


def test_a_manifest_tells_what_a_restore_must_know(source: PostgresServer, taking: Taking) -> None:
    manifest = taking.take()
    detail = PostgresDetail.of(manifest)
    assert manifest.source.identity == source.system_identifier()
    assert manifest.recoverable_from == manifest.recoverable_to >= manifest.cut.at
    assert manifest.cut.detail["restore_point"] == detail.restore_point == f"mainstay_{FIRST}"
    assert (detail.timeline, detail.wal_segment_bytes, detail.data_checksums) == (1, 16 << 20, True)
    assert (detail.compression, detail.compressed_on) == ("zstd", "server")
    assert detail.start_wal == value(source, "select pg_walfile_name(%s)", detail.start_lsn)
    assert f"pg_wal/{detail.start_wal}" in taking.names(manifest, "base.tar.zst")
    assert f"pg_wal/{detail.stop_wal}" in taking.names(manifest, "base.tar.zst")
    assert {database.name for database in detail.databases} >= {"postgres", "template1"}
    assert detail.check.lsn
    assert [check.verdict for check in compare_samples(taking.open, manifest.samples)] == [Verdict.PASS]


@pytest.mark.parametrize("major", [15, 16, 18])
def test_every_supported_version_streams_a_cluster_of_no_tables(
    sandbox: Sandbox, bucket_here: Bucket, major: int
) -> None:
    server = PostgresServer(sandbox, f"backup-{major}", major=major).start()
    try:
        taking = Taking(connection_to(server), bucket_here)
        manifest = taking.take()
        assert "PG_VERSION" in taking.names(manifest, "base.tar.zst")
        assert manifest.entries[0].original_bytes == len(taking.stored(manifest.entries[0]))
        files = json.loads(taking.stored(manifest.entries[1]))["Files"]
        assert any(file.get("Path") == "global/pg_control" for file in files)
        checks = compare_samples(taking.open, manifest.samples)
        assert [(check.verdict, check.detail) for check in checks] == [
            (Verdict.PASS, "0 rows in 0 of 0 tables are equal")
        ]
        if major >= 17:
            assert taking.take(SECOND, [manifest]).kind is Kind.INCREMENTAL
    finally:
        server.stop("immediate")


def test_names_with_spaces_quotes_and_other_alphabets_and_tablespaces(
    source: PostgresServer, taking: Taking, sandbox: Sandbox
) -> None:
    database, place = 'Ärger "im" Büro', sandbox.directory("tablespace one")
    with source.connect() as client:
        client.execute(
            sql.SQL("create tablespace {} location {}").format(sql.Identifier("ts 'ü'"), sql.Literal(str(place)))
        )
        client.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
    try:
        with source.connect(database) as client:
            table, there = sql.Identifier("мир's \"table"), sql.Identifier("ts 'ü'")
            client.execute(
                sql.SQL('create table {} (" a b" int, "mainstay row" text) tablespace {}').format(table, there)
            )
            client.execute(sql.SQL("insert into {} values (1, 'x'), (2, null)").format(table))
        manifest = taking.take()
        (tablespace,) = PostgresDetail.of(manifest).tablespaces
        assert tablespace.path == str(place)
        assert any("/" in name for name in taking.names(manifest, tablespace.archive))
        assert "tablespace_map" in taking.names(manifest, "base.tar.zst")
        checks = {check.name: check for check in compare_samples(taking.open, manifest.samples)}
        assert checks[f"rows of {database}"].verdict is Verdict.PASS
        assert checks[f"rows of {database}"].detail.startswith("2 rows in 1 of 1")
    finally:
        with source.connect() as client:
            client.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(database)))
            client.execute(sql.SQL("drop tablespace {}").format(sql.Identifier("ts 'ü'")))


@pytest.mark.parametrize(
    ("compression", "compress_on", "name"),
    [
        ("zstd", "client", "base.tar.zst"),
        ("gzip", "server", "base.tar.gz"),
        ("lz4", "auto", "base.tar.lz4"),
        ("none", "auto", "base.tar"),
    ],
)
def test_every_way_of_compressing(
    role: Connection, bucket_here: Bucket, compression: str, compress_on: str, name: str
) -> None:
    taking = Taking(role, bucket_here, compression=compression, compress_on=compress_on, samples={"enabled": False})
    manifest = taking.take()
    base = taking.entry(manifest, name)
    stored = taking.stored(base)
    if compression == "gzip":
        stored = gzip.decompress(stored)
    if compression == "lz4":
        assert stored[:4] == b"\x04\x22\x4d\x18"
    else:
        assert base.original_bytes == len(stored)
        assert stored[257:262] == b"ustar"
    assert PostgresDetail.of(manifest).compressed_on == (
        "client" if compress_on == "client" or compression == "none" else "server"
    )


def test_an_incremental_is_small_and_combines_with_its_parent(
    source: PostgresServer, taking: Taking, copies: Path
) -> None:
    full = taking.take()
    with source.connect() as client:
        client.execute("update t set hash = 'changed' where id <= 10")
    small = taking.take(SECOND, [full])
    assert (small.kind, small.parent) == (Kind.INCREMENTAL, FIRST)
    assert small.bytes < full.bytes / 5
    first, second = taking.unpack(full, copies / "1"), taking.unpack(small, copies / "2")
    assert "successfully verified" in verified(source, second)
    verified(source, first)
    source.run("pg_combinebackup", first, second, "-o", copies / "whole")
    assert "successfully verified" in source.run("pg_verifybackup", copies / "whole")


def test_a_full_backup_that_was_asked_for_is_one(taking: Taking) -> None:
    first = taking.take()
    assert taking.take(SECOND, [first], full=True).kind is Kind.FULL


def test_a_parent_that_is_damaged_gives_a_full_backup_with_the_reason(taking: Taking, tmp_path: Path) -> None:
    parent = taking.take()
    key = taking.entry(parent, "backup_manifest.zst").key
    (tmp_path / "store" / key).write_bytes(b"?")
    progress = Watched()
    manifest = taking.take(SECOND, [parent], progress=progress)
    assert manifest.kind is Kind.FULL
    assert any("full instead of incremental" in note and key in note for note in manifest.notes)
    assert any("full instead of incremental" in said for said in progress.said)


def test_summaries_that_are_gone_give_a_full_backup_with_the_reason(source: PostgresServer, taking: Taking) -> None:
    parent = taking.take()
    with source.connect() as client:
        for _ in range(2):
            client.execute("select pg_switch_wal()")
            client.execute("checkpoint")
    # Until the summarizer has come so far, it may yet write what is to be gone.
    summarized = "select summarized_lsn >= redo_lsn from pg_get_wal_summarizer_state(), pg_control_checkpoint()"
    assert eventually(lambda: value(source, summarized) is True)
    for file in (source.data_directory / "pg_wal" / "summaries").glob("*.summary"):
        file.unlink(missing_ok=True)
    manifest = taking.take(SECOND, [parent])
    assert manifest.kind is Kind.FULL
    assert any("WAL summaries are required" in note for note in manifest.notes)
    assert "PG_VERSION" in taking.names(manifest, "base.tar.zst")


def test_a_slot_holds_the_wal_while_the_backup_runs_and_is_gone_after_it(
    source: PostgresServer, taking: Taking
) -> None:
    seen: list[tuple[str, bool, bool]] = []

    def look() -> None:
        with source.connect() as client:
            rows = client.execute("select slot_name, temporary, restart_lsn is not null from pg_replication_slots")
            seen.extend(rows.fetchall())

    taking.take(progress=Watched(when_moving=look))
    assert [(name.startswith(f"mainstay_{FIRST.lower()}_"), *rest) for name, *rest in seen] == [(True, True, True)]
    assert eventually(lambda: slots(source) == 0)
    assert eventually(lambda: senders(source) == 0)


def test_a_stop_in_the_middle_ends_both_sides_at_once(
    source: PostgresServer, role: Connection, bucket_here: Bucket
) -> None:
    stop, so_far = Stop(), list[tuple[int, float]]()

    def say_so() -> None:
        so_far.append((progress.bytes, time.monotonic()))
        stop.stop("a person said so")

    progress = Watched(when_moving=lambda: threading.Timer(0.3, say_so).start())
    taking = Taking(role, bucket_here, **SLOW, compression="none")
    with pytest.raises(Interrupted, match="a person said so"):
        taking.take(progress=progress, stop=stop)
    # It takes no more than what comes in a second, of a hundred; how soon a busy machine lets it end is not its doing.
    assert progress.bytes - so_far[0][0] <= SLOW_RATE
    assert time.monotonic() - so_far[0][1] < 30
    assert objects(taking) == []
    assert eventually(lambda: senders(source) == 0)
    assert slots(source) == 0


def test_a_stop_while_the_server_makes_its_checkpoint(
    source: PostgresServer, role: Connection, bucket_here: Bucket
) -> None:
    stop = Stop()
    with source.connect() as client:
        client.execute("update t set hash = hash || 'x'")
    last = "select checkpoint_lsn::text from pg_control_checkpoint()"
    before = value(source, last)

    def ask(stage: str) -> None:
        if stage == "wait for the checkpoint":
            threading.Timer(0.5, stop.stop, ["the deadline passed"]).start()

    with pytest.raises(Interrupted, match="deadline"):
        Taking(role, bucket_here, checkpoint="spread").take(progress=Watched(when_staged=ask), stop=stop)
    assert value(source, last) == before  # at once: it takes minutes, and was not waited for
    assert eventually(lambda: senders(source) == 0)


def test_a_stop_that_came_before_does_nothing(source: PostgresServer, taking: Taking) -> None:
    stop = Stop()
    stop.stop("too late")
    with pytest.raises(Interrupted):
        taking.take(stop=stop, cut=Cut(at=clock(), position="0/0"))
    assert objects(taking) == []


def test_a_killed_backup_leaves_no_manifest_and_its_retry_succeeds(
    source: PostgresServer, role: Connection, bucket_here: Bucket
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.postgres.taking"],
        env=environment(role, bucket_here.url, settings=SLOW),
        stdout=subprocess.PIPE,
        text=True,
    ) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "moving\n"
        victim.kill()
    retry = Taking(role, bucket_here)
    assert retry.catalog.backups(TARGET) == []
    assert eventually(lambda: senders(source) == 0)
    retry.catalog.commit(retry.take())
    assert [manifest.id for manifest in retry.catalog.backups(TARGET)] == [FIRST]


def test_memory_does_not_grow_with_the_database(sandbox: Sandbox, object_store: ObjectStoreServer, bucket: str) -> None:
    server = PostgresServer(sandbox, "backup-large").start()
    try:
        with server.connect() as client:  # incompressible, so that many parts are in flight
            client.execute(
                "create table noise as select g as id, sha512(g::text::bytea) || sha512((-g)::text::bytea) as bytes"
                " from generate_series(1, 1500000) g"
            )
        env = environment(connection_to(server), f"s3://{bucket}/x")
        keys = {"ACCESS": object_store.access_key, "SECRET": object_store.secret_key}
        env |= {"ENDPOINT": object_store.endpoint, **keys}
        for attempt, compress_on in enumerate(("server", "client")):
            done = subprocess.run(
                [sys.executable, "-m", "tests.integration.postgres.taking"],
                env=env | {"ID": (FIRST, SECOND)[attempt], "SETTINGS": json.dumps({"compress_on": compress_on})},
                capture_output=True,
                check=True,
            )
            said = json.loads(done.stdout.splitlines()[-1])
            assert said["bytes"] > 150 << 20
            assert said["peak_kib"] <= 160 << 10, compress_on
    finally:
        server.stop("immediate")


def test_two_runs_of_the_same_backup_at_once_do_not_meet(taking: Taking) -> None:
    cut = taking.source.freeze(FIRST, clock)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(taking.take, cut=cut) for _ in range(2)]
        manifests = [taking.catalog.commit(run.result()) for run in runs]
    assert manifests[0] == manifests[1]
    assert len({entry.key for run in runs for entry in run.result().entries}) == 4


def test_a_standby_is_backed_up_and_says_what_only_a_primary_can_give(
    source: PostgresServer, role: Connection, bucket_here: Bucket
) -> None:
    standby = StandbyServer(source, "backup-standby").start()
    try:
        here = Connection(host=standby.host, port=standby.port, login=role.login, password=role.password)
        taking = Taking(here, bucket_here)
        manifest = taking.take()
        assert "PG_VERSION" in taking.names(manifest, "base.tar.zst")
        assert any("no restore point" in note and "standby" in note for note in manifest.notes)
        assert [check.verdict for check in compare_samples(taking.open, manifest.samples)] == [Verdict.UNVERIFIED]
    finally:
        standby.stop("immediate")
        with source.connect() as client:
            active = "select count(*) from pg_replication_slots where active"
            assert eventually(lambda: client.execute(active).fetchone() == (0,))  # its sender ends a moment later
            client.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")


def test_a_server_that_restarts_in_the_middle_is_unreachable_and_the_retry_succeeds(
    source: PostgresServer, role: Connection, bucket_here: Bucket
) -> None:
    taking = Taking(role, bucket_here, **SLOW)
    with pytest.raises(Unreachable):
        taking.take(progress=Watched(when_moving=lambda: threading.Timer(0, source.restart, ["immediate"]).start()))
    assert objects(taking) == []
    source.start()
    assert Taking(role, bucket_here).take().bytes > 0


def test_wal_that_the_server_removed_in_the_middle_is_told_with_what_to_raise_and_the_retry_succeeds(
    sandbox: Sandbox, bucket_here: Bucket
) -> None:
    """The slot is there, but the server may invalidate it: ``max_slot_wal_keep_size`` is stronger than any slot."""
    limits = {"max_slot_wal_keep_size": "32MB", "summarize_wal": "off"}
    server = PostgresServer(sandbox, "forgetful", settings=limits).start()
    with server.connect() as client:
        client.execute("create table filler as select g, md5(g::text) from generate_series(1, 400000) g")
        client.execute("checkpoint")
    first_needed: list[str] = []

    def forget(stage: str) -> None:
        if stage != "copy":
            return
        first_needed.append(str(value(server, "select pg_walfile_name(redo_lsn) from pg_control_checkpoint()")))
        assert slots(server) == 1
        with server.connect() as client:
            client.execute("create table if not exists churn (n int)")
            for _ in range(6):
                client.execute("insert into churn values (1)")
                client.execute("select pg_switch_wal()")
            client.execute("checkpoint")
            left = client.execute("select count(*) from pg_ls_waldir() where name = %s", first_needed).fetchone()
        assert left == (0,)

    try:
        role = connection_to(server)
        with pytest.raises(Incomplete, match="has already been removed") as gone:
            # Uncompressed it is more than the sockets hold: the server cannot get to the end before we read.
            Taking(role, bucket_here, compression="none").take(progress=Watched(when_staged=forget))
        assert first_needed[0] in gone.value.message
        assert "max_slot_wal_keep_size" in gone.value.hint
        taking = Taking(role, bucket_here)
        assert not any("manifest" in key for key in objects(taking))
        assert slots(server) == 0
        assert taking.take(SECOND).bytes > 0
    finally:
        server.stop("immediate")


def test_a_wrong_password_is_unauthorized_and_is_not_told(role: Connection, bucket_here: Bucket) -> None:
    wrong = Connection(host=role.host, port=role.port, login=role.login, password="guessed-it")
    with pytest.raises(Unauthorized) as caught:
        Taking(wrong, bucket_here).take()
    assert "guessed-it" not in str(caught.value)
    assert "password" in caught.value.hint


def test_a_server_that_does_not_run_is_unreachable(role: Connection, bucket_here: Bucket) -> None:
    with pytest.raises(Unreachable):
        Taking(Connection(host="127.0.0.1", port=1, login="x"), bucket_here).take()


def test_a_role_that_may_not_replicate_is_told_the_statement(source: PostgresServer, bucket_here: Bucket) -> None:
    password = source.create_role("no_replication")
    taking = Taking(connection_to(source, "no_replication", password), bucket_here)
    with pytest.raises(Unauthorized, match='ALTER ROLE "no_replication" REPLICATION'):
        taking.take(cut=Cut(at=clock(), position="0/0"))


def test_a_role_that_may_only_replicate_gets_its_backup_and_is_told_what_it_lacks(
    source: PostgresServer, bucket_here: Bucket
) -> None:
    password = source.create_role("only_replication", "replication")
    taking = Taking(connection_to(source, "only_replication", password), bucket_here)
    manifest = taking.take()
    assert manifest.cut.detail["restore_point"] == ""
    assert manifest.cut.position
    assert any("pg_create_restore_point" in note for note in manifest.notes)
    assert [check.verdict for check in compare_samples(taking.open, manifest.samples)] == [Verdict.UNVERIFIED]


def test_too_few_wal_senders_is_contended(sandbox: Sandbox, bucket_here: Bucket) -> None:
    server = PostgresServer(sandbox, "backup-narrow", settings={"max_wal_senders": "1"}).start()
    try:
        with pytest.raises(Contended) as caught:
            Taking(connection_to(server), bucket_here).take()
        assert "max_wal_senders" in caught.value.hint
    finally:
        server.stop("immediate")


def test_a_damaged_page_on_the_server_ends_the_backup(sandbox: Sandbox, bucket_here: Bucket) -> None:
    server = PostgresServer(sandbox, "backup-damaged").start()
    try:
        role = connection_to(server)
        with server.connect() as client:
            client.execute("create table victim as select generate_series(1, 10000) g")
        path = value(server, "select pg_relation_filepath('victim')")
        server.stop()
        with (server.data_directory / str(path)).open("r+b") as file:
            file.seek(3 * 8192 + 4000)
            file.write(b"\xff" * 16)
        server.start()
        with pytest.raises(Corrupt, match="checksum"):
            Taking(role, bucket_here).take()
        assert not any("backup_manifest" in key for key in objects(Taking(role, bucket_here)))
    finally:
        server.stop("immediate")


def test_freezing_twice_and_releasing_twice_is_harmless(source: PostgresServer, taking: Taking) -> None:
    first, again = taking.source.freeze(THIRD, clock), taking.source.freeze(THIRD, clock)
    assert first.detail["restore_point"] == again.detail["restore_point"]
    assert first.position != again.position
    taking.source.release(THIRD)
    taking.source.release(THIRD)


def test_release_ends_what_a_dead_worker_left(source: PostgresServer, role: Connection, taking: Taking) -> None:
    with ReplicationSession(role, application=application_name(FIRST), stop=Stop()) as left:
        left.hold_wal("mainstay_left")
        taking.source.release(SECOND)
        assert slots(source) == 1
        taking.source.release(FIRST)
        assert eventually(lambda: senders(source) == 0)
        assert slots(source) == 0


def test_nothing_of_a_cluster_is_left_out(taking: Taking) -> None:
    assert list(taking.source.inventory_gaps()) == []


def test_a_backup_is_named_after_its_run_not_after_its_time(taking: Taking) -> None:
    manifest: Manifest = taking.take()
    assert backup_time(manifest.id) != manifest.started
    assert manifest.started <= manifest.finished
