"""On a bare machine: the command line restores from the bucket and a key alone, with no inventory and no Airflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from include.engine.connection_forms import as_variable
from include.engine.contracts import Connection
from include.engine.model import Target
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.lsn import parse_lsn
from include.engine.systems.postgres.reached import statements
from include.engine.systems.postgres.restored import RestoredServer
from include.engine.systems.postgres.roles import BACKUP_ROLE
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.wal_archive import read_status
from tests.estate import eventually

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[2]

# Every import of Airflow, and of the plugins that need it, fails in this process.
_WITHOUT_AIRFLOW = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("airflow", "mainstay"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
from include.engine.cli.app import app
app(prog_name="./mainstay")
"""


@dataclass
class Site:
    """Where the pipeline runs: a server, a store, an inventory with encryption, and the variables that name them."""

    server: PostgresServer
    store: ObjectStoreServer
    bucket: str
    folder: Path

    def __post_init__(self) -> None:
        self.key = self.folder / "backup.key"
        self.spool = self.folder / "spool"
        self.inventory = self.folder / "inventory.yaml"
        made = self.run("key", "new", str(self.key), "--json")
        recipient = json.loads(made.stdout)["recipient"]
        self.inventory.write_text(
            f"pipeline: shop\nstore: {{url: '{self.url}', connection: store}}\n"
            f"encryption: {{recipients: [{recipient}]}}\npostgres: {{main: {{connection: postgres_main}}}}\n"
        )

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/shop"

    @property
    def variables(self) -> dict[str, str]:
        store = Connection(
            login=self.store.access_key,
            password=self.store.secret_key,
            extra={"endpoint_url": self.store.endpoint, "region_name": self.store.region},
        )
        main = Connection(
            host=self.server.host,
            port=self.server.port,
            login=BACKUP_ROLE,
            password=self.server.create_backup_role(),
            schema="postgres",
        )
        return {
            "AIRFLOW_CONN_STORE": as_variable("store", store),
            "AIRFLOW_CONN_POSTGRES_MAIN": as_variable("postgres_main", main),
            "MAINSTAY_INVENTORY": str(self.inventory),
        }

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb where the pipeline runs."""
        return command(["-m", "include.engine.cli", *arguments], self.variables, code)

    def elsewhere(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb on a bare machine, which has the bucket's credentials."""
        bare = {"AWS_ACCESS_KEY_ID": self.store.access_key, "AWS_SECRET_ACCESS_KEY": self.store.secret_key}
        bucket = ("--bucket", self.url, "--endpoint", self.store.endpoint, "--region", self.store.region)
        return command(["-c", _WITHOUT_AIRFLOW, *arguments, *bucket], bare, code)

    def sql(self, statement: str) -> Any:
        with self.server.connect() as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall()[0][0] if cursor.description else None

    def archived(self) -> None:
        """Wait until the log up to now is in the bucket."""
        wanted = parse_lsn(self.sql("select pg_current_wal_flush_lsn()::text"))
        self.sql("select pg_logical_emit_message(true, 'test', 'the log goes on')")
        eventually(lambda: parse_lsn(read_status(self.spool).last_shipped_lsn or "0/0") >= wanted, what="it is shipped")


def command(arguments: list[str], variables: Mapping[str, str], code: int) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=_environment(variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "MAINSTAY_HOME", "MAINSTAY_CACHE") if name in os.environ
    }
    return {**kept, **variables}


@pytest.fixture(scope="module")
def site(sandbox: Sandbox, object_store: ObjectStoreServer, tmp_path_factory: pytest.TempPathFactory) -> Site:
    server = PostgresServer(sandbox, "bare").start()
    return Site(server, object_store, object_store.create_bucket("bucket-only"), tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def archiving(site: Site) -> Iterator[None]:
    """``./mainstay wal-archive`` runs, and ends with 0 when it is asked to."""
    arguments = ["-m", "include.engine.cli", "wal-archive", "postgres/main", "--spool", str(site.spool)]
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=PROJECT, env=_environment(site.variables), stderr=subprocess.PIPE, text=True
    ) as archiver:
        slot = "select coalesce(bool_or(active), false) from pg_replication_slots where slot_name = 'mainstay_wal'"
        eventually(lambda: site.sql(slot), what="the archiver reads its slot")
        yield
        archiver.send_signal(signal.SIGTERM)
        _, said = archiver.communicate(timeout=30)
        assert archiver.returncode == 0, said


@pytest.fixture(scope="module")
def wanted(site: Site, archiving: None) -> datetime:
    """A time after the backup, between two rows."""
    site.sql('create table history (n int primary key, "Größe & »x«" text)')
    site.sql("insert into history select n, repeat('x', 100) from generate_series(1, 1000) n")
    site.run("backup", "--json")
    site.sql("insert into history values (1001, 'before')")
    at: datetime = site.sql("select clock_timestamp()")
    site.sql("insert into history values (1002, 'after')")
    site.archived()
    return at


def test_rows_stop_at_the_wanted_time(site: Site, wanted: datetime, sandbox: Sandbox) -> None:
    into = sandbox.directory("bare-restore") / "data"
    arguments = ("restore", "postgres/main", "--at", wanted.isoformat(), "--to", str(into), "--yes", "--json")

    done = site.elsewhere(*arguments, "--identity-file", str(site.key))

    restored = json.loads(done.stdout)
    assert restored["target"] == {"system": "postgres", "name": "main"}
    assert {check["verdict"] for check in restored["checks"]} == {"PASS"}
    server = RestoredServer(sandbox, "bare-restored", data_directory=into).start()
    try:
        with server.connect() as connection:
            assert connection.execute("select max(n), count(*) from history").fetchone() == (1001, 1001)
    finally:
        server.stop()


def test_the_plan_needs_no_key_and_changes_nothing(site: Site, wanted: datetime, sandbox: Sandbox) -> None:
    into = sandbox.directory("bare-plan") / "data"
    done = site.elsewhere("restore", "postgres/main", "--to", str(into), "--dry-run", "--json")
    assert json.loads(done.stdout)["bytes_to_fetch"] > 0
    assert not into.exists()


def test_without_the_key_the_error_names_the_one_that_is_needed(site: Site, wanted: datetime, sandbox: Sandbox) -> None:
    into = sandbox.directory("bare-locked") / "data"
    recipient = json.loads(site.run("key", "show", str(site.key), "--json").stdout)["recipients"][0]
    done = site.elsewhere("restore", "postgres/main", "--to", str(into), "--yes", code=1)
    assert recipient in done.stderr


def test_a_full_directory_is_refused(site: Site, wanted: datetime, sandbox: Sandbox) -> None:
    into = sandbox.directory("bare-full")
    (into / "precious").write_text("x")
    arguments = ("restore", "postgres/main", "--to", str(into), "--yes", "--identity-file", str(site.key))
    done = site.elsewhere(*arguments, code=1)
    assert "hint:" in done.stderr
    assert (into / "precious").read_text() == "x"


def test_the_catalog_and_the_proofs_need_the_bucket_only(site: Site, wanted: datetime) -> None:
    (backup,) = json.loads(site.elsewhere("catalog", "--json").stdout)["backups"]
    assert backup["encrypted"] is True
    blind = json.loads(site.elsewhere("verify", "--json").stdout)
    assert blind["verdict"] == "PASS"
    assert "was not read: it is encrypted" in blind["checks"][-1]["detail"]
    seeing = json.loads(site.elsewhere("verify", "--json", "--identity-file", str(site.key)).stdout)
    assert {check["name"]: check["verdict"] for check in seeing["checks"]} == {
        "postgres/main": "PASS",
        "postgres/main: log": "PASS",
        "postgres/main: log from there on": "PASS",
    }


def test_a_drill_needs_the_bucket_and_the_key(site: Site, wanted: datetime) -> None:
    """Nobody writes a heartbeat here: what the archiver has stated measures the RPO."""
    keys = Connection(
        login=site.store.access_key,
        password=site.store.secret_key,
        extra={"endpoint_url": site.store.endpoint, "region_name": site.store.region},
    )
    bucket = Bucket.open(site.url, keys)
    eventually(lambda: statements(bucket, Target.parse("postgres/main")), what="the archiver has stated something")
    arguments = ["-c", _WITHOUT_AIRFLOW, "drill", "--json", "--identity-file", str(site.key), "--bucket", site.url]
    bare = {"AWS_ACCESS_KEY_ID": site.store.access_key, "AWS_SECRET_ACCESS_KEY": site.store.secret_key}
    report = json.loads(
        command([*arguments, "--endpoint", site.store.endpoint, "--region", site.store.region], bare, 0).stdout
    )
    verdicts = {check["name"]: check["verdict"] for check in report["checks"]}
    assert set(verdicts.values()) == {"PASS"}
    assert {"rpo", "postgres/main: rows of postgres"} <= set(verdicts)


def test_a_wrong_key_pair_is_one_clear_error(site: Site) -> None:
    bucket = ("--bucket", site.url, "--endpoint", site.store.endpoint)
    wrong = {"AWS_ACCESS_KEY_ID": site.store.access_key, "AWS_SECRET_ACCESS_KEY": "not-the-secret-of-anybody"}
    done = command(["-c", _WITHOUT_AIRFLOW, "catalog", *bucket], wrong, 1)
    assert "refused" in done.stderr
    assert "not-the-secret-of-anybody" not in done.stderr


def test_no_secret_is_on_a_command_line(site: Site, archiving: None) -> None:
    """What ``ps`` shows to every user of the machine."""
    secrets = {
        site.store.secret_key,
        site.server.password,
        json.loads(site.variables["AIRFLOW_CONN_STORE"])["password"],
    }
    secrets.add(json.loads(site.variables["AIRFLOW_CONN_POSTGRES_MAIN"])["password"])
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    assert any("wal-archive" in line for line in lines)
    assert not [line for line in lines if any(secret in line for secret in secrets)]


def test_what_is_stored_is_encrypted(site: Site, wanted: datetime) -> None:
    connection = Connection(
        login=site.store.access_key,
        password=site.store.secret_key,
        extra={"endpoint_url": site.store.endpoint, "region_name": site.store.region},
    )
    bucket = Bucket.open(site.url, connection)
    stored = [found.key for found in bucket.list("postgres/main/backups") if found.key.endswith(".age")]
    assert stored
    assert all(bucket.read(key).startswith(b"age-encryption.org/v1") for key in stored)
