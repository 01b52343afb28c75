"""The sandbox's servers are real: they keep data, die, come back, replicate, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from botocore.exceptions import ClientError
from psycopg import sql

from include.engine.errors import NotFound, Refused, Unreachable
from include.engine.sandbox import procfs
from include.engine.sandbox.home import Home, Sandbox
from include.engine.sandbox.record import Record, marked
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.restored import RestoredServer
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.standby import StandbyServer

pytestmark = pytest.mark.integration


@pytest.fixture
def primary(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A running primary that the test may break."""
    server = PostgresServer(sandbox, f"own-{abs(hash(request.node.nodeid)):x}").start()
    yield server
    server.stop()


@pytest.fixture
def own_store(sandbox: Sandbox) -> Iterator[ObjectStoreServer]:
    """An S3 server that the test may break."""
    server = ObjectStoreServer(sandbox, "own").start()
    yield server
    server.stop()


def members(sandbox: Sandbox, label: str) -> set[int]:
    record = Record.load(sandbox.root / "run" / f"{label}.json")
    return record.members() if record else marked(sandbox.root / "run" / f"{label}.json")


def one(server: PostgresServer, query: sql.SQL, dbname: str = "postgres") -> object:
    with server.connect(dbname) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def copy_of(server: PostgresServer, sandbox: Sandbox, name: str) -> Path:
    """A physical copy of *server* that belongs to us, as a restore leaves it."""
    data = sandbox.directory(name) / "data"
    address = ["--host", server.host, "--port", str(server.port), "--username", "postgres"]
    server.run("pg_basebackup", "-D", data, *address, "--checkpoint=fast", environment={"PGPASSWORD": server.password})
    for parent, directories, files in os.walk(data):
        for entry in (parent, *(os.path.join(parent, name) for name in (*directories, *files))):  # noqa: PTH118
            os.chown(entry, os.geteuid(), os.getegid())
    return data


@pytest.mark.parametrize("major", [15, 16, 18])
def test_every_supported_version_starts_and_says_which_it_is(sandbox: Sandbox, major: int) -> None:
    server = PostgresServer(sandbox, f"v{major}", major=major).start()
    try:
        assert str(one(server, sql.SQL("select version()"))).startswith(f"PostgreSQL {major}.")
        assert one(server, sql.SQL("show data_checksums")) == "on"
    finally:
        server.stop()


def test_a_version_that_nobody_has_is_not_found(sandbox: Sandbox) -> None:
    with pytest.raises(NotFound, match="PostgreSQL 9 is not on this machine"):
        PostgresServer(sandbox, "v9", major=9).start()


def test_postgres_is_ready_for_backups(postgres: PostgresServer) -> None:
    for setting, value in {"wal_level": "replica", "summarize_wal": "on", "max_wal_senders": "10"}.items():
        assert one(postgres, sql.SQL(f"show {setting}")) == value


def test_postgres_trusts_nobody(postgres: PostgresServer) -> None:
    for host in (postgres.host, str(postgres.socket_directory)):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"host={host} port={postgres.port} user=postgres password=wrong dbname=postgres")


def test_postgres_listens_on_loopback_only(postgres: PostgresServer) -> None:
    addresses = one(postgres, sql.SQL("show listen_addresses"))
    assert addresses == "127.0.0.1"


def test_secrets_are_in_no_command_line(
    sandbox: Sandbox, postgres: PostgresServer, object_store: ObjectStoreServer
) -> None:
    secrets = [postgres.password, object_store.access_key, object_store.secret_key]
    for label in (postgres.label, object_store.label):
        lines: list[bytes] = []
        for pid in members(sandbox, label):
            with contextlib.suppress(OSError):  # a worker of autovacuum comes and goes
                lines.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        assert any(lines)
        assert not [secret for secret in secrets if any(secret.encode() in line for line in lines)]


def test_a_server_that_runs_is_reused(sandbox: Sandbox, postgres: PostgresServer) -> None:
    started = one(postgres, sql.SQL("select pg_postmaster_start_time()"))
    again = PostgresServer(sandbox, postgres.name).start()
    assert one(again, sql.SQL("select pg_postmaster_start_time()")) == started


def test_a_killed_postgres_keeps_what_was_committed(primary: PostgresServer) -> None:
    with primary.connect() as connection:
        connection.execute("create table t as select generate_series(1, 1000) as n")
    primary.kill()
    assert members(primary.sandbox, primary.label) == set()
    primary.start()
    assert one(primary, sql.SQL("select count(*) from t")) == 1000


def test_a_postmaster_that_died_alone_is_started_again(primary: PostgresServer) -> None:
    record = Record.load(primary.sandbox.root / "run" / f"{primary.label}.json")
    assert record is not None
    os.kill(record.identity.pid, 9)
    assert eventually(lambda: not primary.running)
    primary.start()
    assert one(primary, sql.SQL("select 1")) == 1


def test_a_stopped_postgres_leaves_no_process(primary: PostgresServer) -> None:
    with primary.connect():  # a session that is open does not keep it from stopping
        label, sandbox = primary.label, primary.sandbox
        before = members(sandbox, label)
        assert len(before) > 3
        primary.stop()
    assert all(procfs.identity(pid) is None for pid in before)
    assert members(sandbox, label) == set()


def test_a_postgres_that_is_destroyed_with_its_sandbox_leaves_no_shared_memory(sandbox: Sandbox) -> None:
    with sandbox.home.sandbox(f"{sandbox.name}-shm") as other:
        server = PostgresServer(other, "main").start()
        record = Record.load(other.root / "run" / f"{server.label}.json")
        assert record is not None
        maps = Path(f"/proc/{record.identity.pid}/maps").read_text()
        shared = {Path(line.split()[-1]) for line in maps.splitlines() if "/dev/shm/PostgreSQL." in line}
        assert shared
        assert all(one.exists() for one in shared)
    assert not any(one.exists() for one in shared)


def test_an_immediate_stop_leaves_recovery_to_the_next_start(primary: PostgresServer) -> None:
    primary.restart("immediate")
    assert "was not properly shut down" in primary.log.read_text()


def test_the_log_of_a_postgres_that_cannot_start_is_in_the_error(sandbox: Sandbox) -> None:
    server = PostgresServer(sandbox, "broken", settings={"wal_level": "wishful"})
    with pytest.raises(Unreachable, match="ended while it was starting") as caught:
        server.start()
    assert "wishful" in caught.value.hint


def test_a_data_directory_is_complete_or_absent(sandbox: Sandbox) -> None:
    server = PostgresServer(sandbox, "torn")
    draft = server.directory / "draft"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("17\n")  # initdb was killed here
    server.start()
    server.stop()
    assert not draft.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands servers to another account")
def test_postgres_does_not_run_as_root(sandbox: Sandbox, postgres: PostgresServer) -> None:
    owners: set[int] = set()
    for pid in members(sandbox, postgres.label):
        with contextlib.suppress(OSError):  # a worker of autovacuum comes and goes
            owners.add(Path(f"/proc/{pid}").stat().st_uid)
    assert owners == {sandbox.account.uid}
    assert sandbox.account.uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands servers to another account")
def test_postgres_runs_for_a_project_that_its_account_cannot_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAINSTAY_HOME", raising=False)
    tmp_path.chmod(0o700)
    home = Home.of(tmp_path)
    assert not home.root.is_relative_to(tmp_path)
    try:
        with home.sandbox("test") as sandbox:
            server = PostgresServer(sandbox).start()
            assert one(server, sql.SQL("select 1")) == 1
    finally:
        shutil.rmtree(home.root)


def test_the_backup_role_may_read_and_replicate_but_not_write(postgres: PostgresServer, database: str) -> None:
    password = postgres.create_backup_role()
    assert postgres.create_backup_role() == password
    with postgres.connect(database) as connection:
        connection.execute("create table t as select 1 as n")
    with psycopg.connect(postgres.conninfo(database, user="mainstay", password=password), autocommit=True) as role:
        assert role.execute("select n from t").fetchone() == (1,)
        role.execute("select pg_ls_waldir()")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            role.execute("insert into t values (2)")
    with psycopg.connect(postgres.conninfo(user="mainstay", password=password), autocommit=True) as role:
        role.execute("select pg_create_restore_point('here')")
    replication = postgres.conninfo(user="mainstay", password=password) + " replication=true"
    with psycopg.connect(replication, autocommit=True) as walsender:
        row = walsender.execute("IDENTIFY_SYSTEM").fetchone()
    assert row is not None
    assert row[0].decode() == postgres.system_identifier()


def test_a_standby_streams_and_takes_over(primary: PostgresServer) -> None:
    standby = StandbyServer(primary, f"{primary.name}-standby").start()
    try:
        standby.wait_until_streaming()
        with primary.connect() as connection:
            connection.execute("create table t as select 42 as n")
        assert eventually(lambda: one(standby, sql.SQL("select to_regclass('t') is not null")) is True)
        assert standby.system_identifier() == primary.system_identifier()
        primary.kill()
        standby.promote()
        with standby.connect() as connection:
            connection.execute("update t set n = n + 1")
        assert one(standby, sql.SQL("select n from t")) == 43
    finally:
        standby.stop()


def test_a_standby_of_a_stopped_primary_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(Refused, match="does not run"):
        StandbyServer(PostgresServer(sandbox, "asleep"), "orphan").start()


def test_a_restored_copy_runs_beside_its_original_and_cut_off_from_it(
    sandbox: Sandbox, primary: PostgresServer
) -> None:
    with primary.connect() as connection:
        connection.execute("create table t as select 7 as n")
        connection.execute("alter system set archive_command = '/bin/false'")
        connection.execute("alter system set primary_conninfo = 'host=production.example.com'")
    data = copy_of(primary, sandbox, "copy")
    copy = RestoredServer(sandbox, "copy", data_directory=data, settings={"work_mem": "8MB"}).start()
    try:
        assert one(copy, sql.SQL("select n from t")) == 7
        assert copy.system_identifier() == primary.system_identifier()
        assert one(copy, sql.SQL("show primary_conninfo")) == ""
        assert one(copy, sql.SQL("show archive_mode")) == "off"
        assert one(copy, sql.SQL("show work_mem")) == "8MB"
        assert one(primary, sql.SQL("select n from t")) == 7
    finally:
        copy.stop()


def test_a_copy_without_its_configuration_starts_with_what_its_original_had(
    sandbox: Sandbox, primary: PostgresServer
) -> None:
    data = copy_of(primary, sandbox, "unconfigured")
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        (data / name).unlink()  # Debian keeps them in /etc, where no base backup looks
    (data / "recovery.signal").touch()
    copy = RestoredServer(sandbox, "unconfigured", data_directory=data, settings={"restore_command": "false"}).start()
    try:
        copy.wait_until_primary()
        assert one(copy, sql.SQL("show max_connections")) == one(primary, sql.SQL("show max_connections"))
    finally:
        copy.stop()


def test_an_empty_directory_holds_no_cluster(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no PostgreSQL cluster"):
        RestoredServer(sandbox, data_directory=tmp_path)


def test_a_killed_object_store_keeps_what_was_put(own_store: ObjectStoreServer) -> None:
    own_store.create_bucket("kept")
    own_store.client().put_object(Bucket="kept", Key="a/b", Body=b"content")
    own_store.kill()
    assert members(own_store.sandbox, own_store.label) == set()
    own_store.start()
    assert own_store.client().get_object(Bucket="kept", Key="a/b")["Body"].read() == b"content"


def test_a_stopped_object_store_leaves_no_process(own_store: ObjectStoreServer) -> None:
    own_store.stop()
    assert not own_store.running
    assert members(own_store.sandbox, own_store.label) == set()


def test_an_object_is_created_once(object_store: ObjectStoreServer, bucket: str) -> None:
    client = object_store.client()
    client.put_object(Bucket=bucket, Key="manifest.json", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="manifest.json", Body=b"second", IfNoneMatch="*")


def test_a_locked_object_cannot_be_deleted(object_store: ObjectStoreServer) -> None:
    from datetime import UTC, datetime, timedelta

    client = object_store.client()
    locked = object_store.create_bucket("locked", object_lock=True)
    assert object_store.create_bucket("locked", object_lock=True) == locked
    until = datetime.now(UTC) + timedelta(hours=1)
    version = client.put_object(
        Bucket=locked, Key="k", Body=b"v", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=locked, Key="k", VersionId=version)


def test_a_wrong_secret_is_refused(object_store: ObjectStoreServer, bucket: str) -> None:
    import boto3

    stranger = boto3.client(
        "s3",
        endpoint_url=object_store.endpoint,
        region_name=object_store.region,
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key="wrong",
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.list_objects_v2(Bucket=bucket)


def test_seaweedfs_serves_where_there_is_no_go(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTAY_OBJECT_STORE", "seaweedfs")
    server = ObjectStoreServer(sandbox, "weed").start()
    try:
        monkeypatch.delenv("MAINSTAY_OBJECT_STORE")
        assert ObjectStoreServer(sandbox, "weed").implementation == "seaweedfs"
        bucket = server.create_bucket("kept")
        server.client().put_object(Bucket=bucket, Key="k", Body=b"v", IfNoneMatch="*")
        assert server.client().get_object(Bucket=bucket, Key="k")["Body"].read() == b"v"
    finally:
        server.kill()
