"""Two processes take the same backup at once: both succeed, one of them counts, and neither ends what the other is at."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from include.engine.connection_forms import as_variable
from include.engine.contracts import Connection
from include.engine.model import Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.lease import live_leases
from include.engine.store.proven import LastWords
from include.engine.systems.postgres.client import application_name
from include.engine.systems.postgres.roles import BACKUP_ROLE
from include.engine.systems.postgres.server import PostgresServer
from tests.estate import TARGET, clock, eventually
from tests.integration.test_bucket_only import PROJECT, _environment

pytestmark = pytest.mark.integration
SET = "20261123T020000Z"
_COPYING = "select count(*) from pg_stat_progress_basebackup where phase = 'streaming database files'"
_SENDERS = "select count(*) from pg_stat_activity where application_name = %s and backend_type = 'walsender'"
_LEFT = (
    "select (select count(*) from pg_stat_activity where application_name = %s)"
    " + (select count(*) from pg_replication_slots where slot_name like 'mainstay%%')"
)


class Runs:
    """``./mainstay backup`` as processes of one machine."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.store = Bucket.open((folder / "bucket").as_uri())
        role = Connection(
            host=server.host,
            port=server.port,
            login=BACKUP_ROLE,
            password=server.create_backup_role(),
            schema="postgres",
        )
        self.variables = {"AIRFLOW_CONN_POSTGRES_MAIN": as_variable("postgres_main", role)}

    def start(self, name: str, **settings: object) -> subprocess.Popen[str]:
        inventory = self.folder / f"{name}.json"  # which YAML can read
        main = {"connection": "postgres_main", **settings}
        inventory.write_text(
            json.dumps({"pipeline": "shop", "store": {"url": self.store.url}, "postgres": {"main": main}})
        )
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "include.engine.cli",
                "backup",
                "--id",
                SET,
                "--inventory",
                str(inventory),
                "--json",
            ],
            cwd=PROJECT,
            env=_environment(self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def number(self, query: str, *values: str) -> int:
        with self.server.connect() as connection:
            row = connection.execute(query.encode(), values or None).fetchone()
        return int(row[0]) if row else 0


@pytest.fixture
def runs(sandbox: Sandbox, tmp_path: Path) -> Runs:
    server = PostgresServer(sandbox, "tworuns").start()
    with server.connect() as connection:
        connection.execute("create table noise as select md5(i::text) from generate_series(1, 200000) i")
    return Runs(server, tmp_path)


def test_the_release_of_the_first_run_leaves_the_second_ones_wal_sender_alone(runs: Runs) -> None:
    slow = runs.start("slow", max_rate=8 << 20)
    try:
        eventually(lambda: runs.number(_COPYING) or slow.poll() is not None, what="the slow run copies")
        slow.send_signal(signal.SIGSTOP)  # so that no machine is slow enough for the quick one to be the second
        senders = runs.number(
            _SENDERS, application_name(SET)
        )  # blocked, or idle when all had been sent before the stop
        assert senders >= 1
        quick = runs.start("quick")
        said, told = quick.communicate(timeout=120)
        assert quick.returncode == 0, told
        assert "another run of the set" in told
        eventually(lambda: runs.number(_SENDERS, application_name(SET)) == senders, what="its senders are there still")
        slow.send_signal(signal.SIGCONT)
        _, why = slow.communicate(timeout=120)
        assert slow.returncode == 0, why
    finally:
        slow.kill()
        slow.communicate()
    catalog = Catalog(runs.store)
    (sealed,) = catalog.sets()
    assert json.loads(said)["set"]["parts"][0]["manifest_sha256"] == sealed.parts[0].manifest_sha256
    (counts,) = catalog.backups(TARGET)
    found = LastWords(catalog).noted(TARGET, counts.id)
    assert [one.verdict for one in found] == [Verdict.PASS, Verdict.PASS]
    assert live_leases(runs.store, TARGET, clock()) == {}
    eventually(lambda: runs.number(_LEFT, application_name(SET)) == 0, what="nothing is left on the server")
    runs.server.stop("immediate")
