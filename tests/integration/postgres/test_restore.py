"""A cluster comes back from the bucket alone, with exactly the rows it had at the wanted point."""

from __future__ import annotations

from tests import airflow_env  # isort: skip  # before the first import of Airflow

import dataclasses
import re
import shutil
import socket
import subprocess
import threading
import unittest.mock
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from include.engine.contracts import PlanRequest, RestoreEngine, Stop
from include.engine.errors import Contended, Interrupted, MainstayError, NotFound, Refused, Unauthorized, Unsupported
from include.engine.model import DestinationKind, Encryption, Manifest, RestorePlan, Target, Verdict
from include.engine.sandbox import procfs
from include.engine.sandbox.accounts import own_tree
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.store.vault import VaultReader
from include.engine.systems.postgres import guards
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.restore import PostgresRestore
from include.engine.systems.postgres.restored import RestoredServer
from include.engine.systems.postgres.wal_objects import WalObject, fetch
from mainstay.hooks.mainstay import MainstayHook
from mainstay.operators.restore import PlanOperator, RestoreOperator
from tests.cli import paper
from tests.cli.paper import Paper, PaperLookup
from tests.estate import TARGET, Estate, eventually, new_estate
from tests.plugins.test_operators import RESTORE

assert airflow_env.HOME.is_dir()
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def place(sandbox: Sandbox) -> Path:
    """A directory that the servers' account may enter."""
    return sandbox.directory("restores")


@pytest.fixture(scope="module")
def estate(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    estate = new_estate(sandbox, "restore", tmp_path_factory.mktemp("restore"))
    estate.sql("create table history (n int primary key, note text)")
    estate.sql("insert into history select n, repeat('x', 200) from generate_series(1, 1000) n")
    with estate.archiving():
        yield estate


@pytest.fixture(scope="module")
def first(estate: Estate) -> Manifest:
    return estate.backup()


def rows(estate: Estate, path: Path, name: str) -> list[int]:
    with estate.serving(path, name) as connection:
        return [n for (n,) in connection.execute("select n from history where n > 1000 order by n").fetchall()]


def test_a_restore_to_a_time_stops_at_that_time(estate: Estate, first: Manifest, place: Path) -> None:
    estate.sql("insert into history values (1001, 'kept')")
    wanted = estate.now()
    estate.sql("insert into history values (1002, 'too late')")
    estate.sql("delete from history where n = 1001")
    estate.archived()

    restored = estate.restore(place / "time", wanted.isoformat())

    assert rows(estate, place / "time", "time") == [1001]
    assert restored.verdict is Verdict.PASS
    assert restored.recovered_to is not None
    assert restored.recovered_to <= wanted
    assert [stage.name for stage in restored.stages] == [
        "fetch and unpack",
        "verify",
        "flush to disk",
        "recover",
        "ready",
    ]


def test_a_restore_to_a_position_or_a_name_stops_there(estate: Estate, first: Manifest, place: Path) -> None:
    estate.sql("delete from history where n > 1000")
    estate.sql("insert into history values (1010, 'before')")
    lsn = estate.sql("select pg_create_restore_point('before the release')::text")[0][0]
    estate.sql("insert into history values (1011, 'after')")
    estate.archived()

    estate.restore(place / "lsn", f"position:{lsn}")
    estate.restore(place / "name", "name:before the release")

    assert rows(estate, place / "lsn", "lsn") == [1010]
    assert rows(estate, place / "name", "name") == [1010]


def test_a_restore_to_the_newest_point_loses_nothing_that_was_archived(
    estate: Estate, first: Manifest, place: Path
) -> None:
    estate.sql("insert into history values (1020, 'the newest')")
    estate.archived()

    restored = estate.restore(place / "latest")

    assert 1020 in rows(estate, place / "latest", "latest")
    assert restored.address == ""
    assert "pg_ctl" in restored.detail["start"]


def test_the_backup_itself_is_a_point(estate: Estate, first: Manifest, place: Path) -> None:
    estate.sql("insert into history values (1030, 'after the backup')")
    estate.archived()

    estate.restore(place / "backup", "backup", backup=first.id)

    assert 1030 not in rows(estate, place / "backup", "backup")


def test_what_is_left_in_the_directory_starts_as_a_stock_server(estate: Estate, first: Manifest, place: Path) -> None:
    estate.archived()
    estate.restore(place / "stock")

    names = {entry.name for entry in (place / "stock").iterdir()}
    assert not {name for name in names if "mainstay" in name}
    assert not names & {"recovery.signal", "standby.signal", "postmaster.pid"}
    automatic = (place / "stock" / "postgresql.auto.conf").read_text()
    assert "archive_mode = 'off'" in automatic
    assert "recovery_target_time = ''" in automatic
    server = estate.server
    sockets = place / "sockets"
    sockets.mkdir()
    shutil.chown(sockets, server.sandbox.account.uid, server.sandbox.account.gid)
    options = f"-c port=5433 -c listen_addresses='' -c unix_socket_directories={sockets}"
    server.run("pg_ctl", "-D", place / "stock", "-l", sockets / "log", "-w", "-o", options, "start")
    try:
        state = server.run("pg_controldata", place / "stock")
        assert "in production" in state
    finally:
        server.run("pg_ctl", "-D", place / "stock", "-w", "-m", "fast", "stop")


def test_a_chain_with_a_tablespace_and_strange_names_comes_back(estate: Estate, place: Path) -> None:
    elsewhere = place / "else wh=ere"
    elsewhere.mkdir()
    shutil.chown(elsewhere, estate.server.sandbox.account.uid, estate.server.sandbox.account.gid)
    with estate.server.connect() as connection:
        connection.execute(f"create tablespace \"o'ther\" location '{elsewhere}'")
    estate.sql('create table "Zürich"" ta\'ble" (n int) tablespace "o\'ther"')
    estate.sql('insert into "Zürich"" ta\'ble" select generate_series(1, 5000)')
    full = estate.backup(full=True)
    estate.sql('insert into "Zürich"" ta\'ble" select generate_series(5001, 6000)')
    estate.sql("checkpoint")
    incremental = estate.backup()
    assert incremental.parent == full.id
    estate.sql('insert into "Zürich"" ta\'ble" values (7000)')
    estate.archived()

    plan = estate.plan(place / "ch=ain and")
    restored = estate.engine.restore(estate.job(plan))

    assert plan.chain == (full.id, incremental.id)
    assert "combine" in [stage.name for stage in restored.stages]
    with estate.serving(place / "ch=ain and", "chain") as connection:
        assert connection.execute('select count(*) from "Zürich"" ta\'ble"').fetchone() == (6001,)
        location = connection.execute("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'o''ther'")
        assert str(location.fetchone()).count("ch=ain and") == 1
    estate.sql('drop table "Zürich"" ta\'ble"')
    estate.sql('drop tablespace "o\'ther"')


def follow(estate: Estate, manifest: Manifest, folder: Path) -> Path:
    """Do what the text of a backup says, with stock tools alone; give the data directory, shut down."""
    account, binaries = estate.server.sandbox.account, estate.server.binaries
    shutil.copytree(estate.bucket.url.removeprefix("file://"), folder / "bucket")
    own_tree(folder, account)
    script = "\n".join(re.findall(r"```sh\n(.*?)```", estate.engine.by_hand(manifest), re.DOTALL))
    environment = {
        "PATH": f"{binaries.directory}:/usr/bin:/bin",
        "HOME": str(folder),
        "BUCKET": str(folder / "bucket"),
        "DATA": str(folder / "data"),
        "PORT": str(estate.server.sandbox.port(f"byhand-{folder.name}")),
        **binaries.environment,
    }
    done = subprocess.run(
        ["sh", "-c", script], env=environment, cwd=folder, capture_output=True, text=True, check=False, **account.popen
    )
    assert done.returncode == 0, done.stdout + done.stderr
    estate.server.run("pg_ctl", "-D", folder / "data", "-w", "-m", "fast", "stop")
    return folder / "data"


def test_the_text_restores_with_stock_tools_alone(estate: Estate, first: Manifest, place: Path) -> None:
    estate.sql("insert into history values (1040, 'by hand')")
    estate.archived()
    data = follow(estate, first, place / "byhand")
    assert 1040 in rows(estate, data, "byhand")


def test_a_directory_with_something_in_it_is_refused_unless_it_is_named(
    estate: Estate, first: Manifest, place: Path
) -> None:
    precious = place / "precious"
    precious.mkdir()
    (precious / "photos").write_text("of the children")

    with pytest.raises(Refused, match="holds 1 files"):
        estate.plan(precious)
    plan = estate.plan(precious, "backup", confirm=str(precious))
    estate.engine.restore(estate.job(plan))

    assert plan.would_overwrite == (f"{precious}: moved aside",)
    assert (precious / "PG_VERSION").exists()
    aside = next(place.glob("precious.before-*"))
    assert (aside / "photos").read_text() == "of the children"


@dataclass
class Engines(PaperLookup):
    """Finds the real engine, and nothing else that is real."""

    estate: Estate

    def engine(self, target: Target) -> RestoreEngine:
        return self.estate.engine


def killed(estate: Estate, plan: RestorePlan) -> None:
    """Let a restore die after it has taken its place."""
    stop = Stop()
    stop.stop("the test says so")
    with pytest.raises(Interrupted):
        estate.engine.restore(estate.job(plan, stop=stop))
    assert guards.look(Path(plan.destination.path)).kind == "unfinished"


def test_the_retry_of_an_approved_restore_goes_on_and_another_plan_does_not(
    estate: Estate, first: Manifest, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_paper = paper.pipeline(Paper())
    made = dataclasses.replace(on_paper, catalog=estate.catalog, lookup=Engines(Paper(), estate))
    monkeypatch.setattr(MainstayHook, "pipeline", lambda _: made)
    run: Any = {"params": RESTORE | {"point": "backup", "backup": first.id, "path": str(place / "approved")}}
    planned = PlanOperator(task_id="plan").execute(run)
    assert planned["would_overwrite"] == []
    (part,) = planned["first"]

    def task() -> RestoreOperator:
        return RestoreOperator(task_id="restore", part=part, approval={"responded_by_user": {"name": "ada"}})

    killed(estate, estate.plan(place / "approved", "latest"))  # what lies there now is of another plan: nobody saw it
    with pytest.raises(Refused, match=r"not the one that was approved.*an unfinished restore"):
        task().execute(run)
    shutil.rmtree(place / "approved")

    dies = task()
    dies.stop.stop("the worker is gone")
    with pytest.raises(Interrupted):
        dies.execute(run)
    assert guards.look(place / "approved").kind == "unfinished"
    assert task().execute(run)["verdict"] == "PASS"


def test_what_a_dead_attempt_left_is_told_and_only_the_same_restore_takes_it_unasked(
    estate: Estate, first: Manifest, place: Path
) -> None:
    data = place / "twice"
    data.mkdir()
    (data / "photos").write_text("of the children")
    early = estate.plan(data, "backup", confirm=str(data))
    killed(estate, early)

    again = estate.plan(data, "backup")  # the photos were moved aside: there is nothing left to confirm
    assert again.would_overwrite == ()
    assert again.steps[0] == f"throw away what an attempt of this restore has left in {data}"
    other = estate.plan(data, "latest")
    assert other.would_overwrite == (f"{data}: an unfinished restore, which is thrown away",)
    unaware = msgspec.structs.replace(other, would_overwrite=())
    with pytest.raises(Refused, match="not as it was planned"):
        estate.engine.restore(estate.job(unaware))
    assert estate.engine.restore(estate.job(again)).verdict is Verdict.PASS
    with pytest.raises(Refused, match=r"holds another PostgreSQL cluster|is the source itself"):
        estate.plan(data, "backup")  # it is done: what lies there is no remains


def test_the_source_and_a_running_server_are_never_overwritten(estate: Estate, first: Manifest, place: Path) -> None:
    data = estate.server.data_directory

    with pytest.raises(Refused, match=r"a PostgreSQL server \(process \d+\) runs on"):
        estate.plan(data, confirm=str(data))

    copy = place / "source"
    (copy / "global").mkdir(parents=True)
    (copy / "PG_VERSION").write_text("17\n")
    shutil.copy(data / "global" / "pg_control", copy / "global" / "pg_control")
    with pytest.raises(Refused, match="is the source itself, or a copy of it"):
        estate.plan(copy)


def test_a_point_before_the_first_backup_cannot_be_reached(estate: Estate, first: Manifest, place: Path) -> None:
    with pytest.raises(NotFound, match="no backup was finished before") as refused:
        estate.plan(place / "never", "2020-01-01T00:00:00Z")
    assert first.id in refused.value.hint


def test_a_point_in_the_future_says_how_far_the_log_reaches(estate: Estate, first: Manifest, place: Path) -> None:
    estate.archived()
    with pytest.raises(NotFound, match=r"the archived log ends before .*: the last transaction in the log is of"):
        estate.restore(place / "future", "2099-01-01T00:00:00Z")
    # What is left is marked as ours, and the next restore may throw it away.
    assert estate.restore(place / "future", "backup").verdict is Verdict.PASS


def test_a_disk_that_is_too_small_is_refused_before_anything_is_fetched(
    estate: Estate, first: Manifest, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(Refused, match=r"the restore needs \d+ bytes .* 1000 "):
        estate.plan(place / "small")


@pytest.mark.parametrize("obstacle", ["no PostgreSQL", "no key", "a full disk"])
def test_what_refuses_an_approved_restore_does_so_before_anything_is_moved_aside(
    estate: Estate, first: Manifest, place: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    """A plan may wait a day for its approval, and be carried out by another machine than the one that made it."""
    data = place / f"waits-{obstacle[-4:].strip()}"
    data.mkdir()
    (data / "photos").write_text("of the children")
    job = estate.job(estate.plan(data, "backup", backup=first.id, confirm=str(data)))
    usage = shutil.disk_usage(place)
    if obstacle == "no PostgreSQL":
        gone = NotFound("there is no PostgreSQL 17", hint="install it")
        monkeypatch.setattr(PostgresBinaries, "find", unittest.mock.Mock(side_effect=gone))
    elif obstacle == "no key":
        entries = tuple(msgspec.structs.replace(entry, key=f"{entry.key}.age") for entry in first.entries)
        sealed = msgspec.structs.replace(first, entries=entries, encryption=Encryption(scheme="age", key_ids=("age1",)))
        job = msgspec.structs.replace(job, chain=[sealed], reader=VaultReader(estate.bucket, manifests=[sealed]))
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))

    with pytest.raises((Unsupported, Unauthorized, Refused)):
        estate.engine.restore(job)

    assert [path.name for path in data.iterdir()] == ["photos"]


def test_a_busy_port_refuses_a_restore_onto_a_server_before_anything_is_moved_aside(
    estate: Estate, first: Manifest, place: Path
) -> None:
    data = place / "spare"
    data.mkdir()
    (data / "photos").write_text("of the children")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        spare = SimpleNamespace(data_dir=data, port=busy.getsockname()[1])
        engine = PostgresRestore(TARGET, estate.catalog, estate.server.sandbox.home, servers={"spare": spare})
        plan = engine.plan(
            PlanRequest(
                manifests=[first],
                backup=first.id,
                destination_kind=DestinationKind.SERVER,
                path="",
                server="spare",
                point="backup",
                confirm="spare",
            )
        )
        with pytest.raises(Contended, match=str(spare.port)):
            engine.restore(estate.job(plan))
    assert [path.name for path in data.iterdir()] == ["photos"]


def test_the_same_restore_begun_twice_at_once_is_done_once(
    estate: Estate, first: Manifest, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen that the place is free; the second one must not take the first one's sandbox with it."""
    plan = estate.plan(place / "twins", "backup", backup=first.id)
    both, occupy, ended = threading.Barrier(2), guards.occupy, list[str]()

    def together(*arguments: Any) -> Path | None:
        both.wait(60)
        return occupy(*arguments)

    def work() -> None:
        try:
            ended.append(str(estate.engine.restore(estate.job(plan)).verdict))
        except MainstayError as error:
            ended.append(type(error).__name__)

    monkeypatch.setattr(guards, "occupy", together)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ended) == ["Contended", "PASS"]
    assert rows(estate, place / "twins", "twins") == []


def test_a_sandbox_is_left_serving_and_keeps_nobody_from_drills(estate: Estate, first: Manifest) -> None:
    estate.archived()
    plan = estate.plan(None)

    restored = estate.engine.restore(estate.job(plan))

    sandbox = estate.server.sandbox.home.sandbox(plan.destination.name)
    try:
        copy = RestoredServer(sandbox, data_directory=Path(plan.destination.path))
        assert copy.running
        assert restored.address == f"127.0.0.1:{copy.port}"
        with copy.connect() as connection:
            connection.execute("insert into history values (5000, 'writable')")
        with pytest.raises(Refused, match="runs on"):
            estate.plan(None)
        with estate.engine.rehearse(estate.job(estate.plan(None, rehearsal=True))) as rehearsal:
            assert rehearsal.checks
            assert not [check for check in rehearsal.checks if check.verdict is Verdict.FAIL]
        with copy.connect() as connection:
            assert connection.execute("select count(*) from history where n = 5000").fetchone() == (1,)
    finally:
        sandbox.destroy()


def test_a_stop_ends_a_restore_and_leaves_no_process(
    estate: Estate, first: Manifest, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server waits for its log when the stop comes."""
    data, stop, seen = place / "stopped", Stop(), threading.Event()

    def fetched(bucket: Bucket, wal: WalObject, identities: Sequence[str]) -> bytes:
        if servers_on(data):
            seen.set()
            stop.stop("the test says so")
        eventually(lambda: stop.stopped)
        return fetch(bucket, wal, identities)

    with monkeypatch.context() as patched:
        patched.setattr("include.engine.systems.postgres.spool.fetch", fetched)
        with pytest.raises(Interrupted):
            estate.engine.restore(estate.job(estate.plan(data), stop=stop))
    assert seen.is_set()
    assert servers_on(data) == []
    assert estate.restore(data).verdict is Verdict.PASS


def servers_on(data: Path) -> list[int]:
    """The processes that work in a data directory: a server's all do."""
    return [pid for pid in procfs.pids() if procfs.directory(pid) == str(data)]


def test_a_restore_looks_at_all_that_came_back_and_leaves_nothing_of_its_own(estate: Estate, place: Path) -> None:
    estate.sql("create table compared (n int)")
    estate.sql("insert into compared select generate_series(1, 500)")
    backup = estate.backup(full=True)
    estate.sql("insert into compared values (501)")
    estate.archived()
    plan = estate.plan(place / "looked")

    restored = estate.engine.restore(estate.job(plan, checks=True))

    assert {check.name: check.verdict for check in restored.checks} == dict.fromkeys(
        ("pg_verifybackup", "rows of postgres", "promoted", "amcheck"), Verdict.PASS
    )
    with estate.serving(place / "looked", "looked") as connection:
        assert connection.execute("select count(*) from compared").fetchone() == (501,)
        assert connection.execute("select 1 from pg_extension where extname = 'amcheck'").fetchone() is None
    # To the backup's own end nothing can be compared: it is said, and every row is read.
    earlier = estate.engine.restore(estate.job(estate.plan(place / "read", "backup"), checks=True))
    assert {check.name for check in earlier.checks} == {"pg_verifybackup", "promoted", "amcheck", "tables of postgres"}
    assert "rows were not compared" in str(earlier.detail["notes"])
    lies = [{**sample, "digest": "1"} if sample.get("table") == "compared" else sample for sample in backup.samples]
    job = estate.job(estate.plan(place / "lied"), checks=True)
    told = msgspec.structs.replace(job, chain=[msgspec.structs.replace(backup, samples=tuple(lies))])
    assert estate.engine.restore(told).verdict is Verdict.FAIL
    estate.sql("drop table compared")


def test_a_locale_that_is_not_here_ends_a_restore_and_is_named(estate: Estate, first: Manifest, place: Path) -> None:
    """Connections are refused while recovery ends, too: this one would be waited for to the end of days."""
    change = "update pg_database set datcollate = %s, datctype = %s where datname = 'postgres'"
    with estate.server.connect("template1") as connection:
        connection.execute(change, ("xx_YY.utf8",) * 2)
        connection.execute("select pg_create_restore_point('elsewhere')")
        connection.execute(change, ("C.UTF-8",) * 2)
    estate.archived()
    with pytest.raises(Unsupported, match=r"the cluster needs the locale xx_YY\.utf8"):
        estate.restore(place / "locale", "name:elsewhere")
