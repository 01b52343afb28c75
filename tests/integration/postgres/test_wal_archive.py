"""The archive has every segment, whatever dies: the archiver, pg_receivewal, the server, the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import psycopg
import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Contended, Corrupt, MainstayError, Refused
from include.engine.model import Verdict
from include.engine.sandbox import procfs
from include.engine.sandbox.home import Sandbox
from include.engine.store import encryption
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.spool import WalSpool
from include.engine.systems.postgres.wal_archive import ArchiverStatus, read_status, run
from include.engine.systems.postgres.wal_objects import WalKind, fetch, list_wal, pack, partial_name, wal_key
from tests.estate import TARGET, Estate, eventually, new_estate

pytestmark = pytest.mark.integration
PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def estate(sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Estate]:
    estate = new_estate(sandbox, f"archive-{os.urandom(3).hex()}", tmp_path)
    estate.sql("create table traffic (n bigserial primary key, filler text)")
    yield estate
    estate.server.kill()


def switch(estate: Estate) -> str:
    """End the current segment; give its name."""
    return str(estate.sql("select pg_walfile_name(pg_switch_wal())")[0][0])


def stored(estate: Estate) -> dict[str, set[WalKind]]:
    found: dict[str, set[WalKind]] = {}
    for wal in list_wal(estate.bucket, TARGET):
        found.setdefault(wal.name, set()).add(wal.kind)
    return found


def assert_whole(estate: Estate) -> None:
    report = estate.archive.report(estate.catalog.backups(TARGET))
    assert report.missing == ()
    assert report.verdict is Verdict.PASS


@contextmanager
def traffic(estate: Estate) -> Iterator[list[int]]:
    """Insert rows all the time, over restarts of the server; give the numbers whose commits were confirmed."""
    confirmed: list[int] = []
    ended = threading.Event()

    def insert() -> None:
        while not ended.is_set():
            try:
                with estate.server.connect() as connection:
                    while not ended.is_set():
                        row = connection.execute(
                            "insert into traffic (filler) select repeat(md5(random()::text), 60) returning n"
                        ).fetchone()
                        confirmed.append(row[0] if row else 0)
                        if len(confirmed) % 50 == 0:
                            connection.execute("select pg_switch_wal()")
            except (psycopg.Error, MainstayError):
                continue  # the server is away: that is what is being tested

    thread = threading.Thread(target=insert, name="traffic")
    thread.start()
    try:
        yield confirmed
    finally:
        ended.set()
        thread.join()


def test_segments_and_the_growing_part_arrive_and_old_parts_go(estate: Estate) -> None:
    with estate.archiving():
        first = switch(estate)
        estate.archived()
        eventually(lambda: stored(estate).get(first) == {WalKind.SEGMENT}, what="only the whole segment is left")
        estate.archived()
        second = switch(estate)
        estate.archived()
        eventually(lambda: stored(estate).get(second) == {WalKind.SEGMENT}, what="the part gives way to the whole")
        status = read_status(estate.spool)
        assert status.streaming
        assert status.errors == ()
    # What is stored leaves the disk, but for the newest whole segment, behind which reception goes on.
    left = sorted(path.name for path in (estate.spool / "received").iterdir() if not path.suffix)
    assert left == [second]


def test_the_password_is_in_no_argument_no_environment_and_no_file(estate: Estate) -> None:
    with estate.archiving():
        estate.archived()
        receivers = [
            pid for pid in procfs.pids() if procfs.directory(pid) == str((estate.spool / "received").resolve())
        ]
        assert receivers
        for pid in receivers:
            for what in ("cmdline", "environ"):
                assert estate.connection.password.encode() not in Path(f"/proc/{pid}/{what}").read_bytes()
        assert not has_password(estate)


def test_an_archiver_that_is_killed_leaves_no_password(estate: Estate) -> None:
    with subprocess_archiver(estate):
        pass  # it streams, and is killed
    assert not has_password(estate)
    with estate.archiving():  # ends the pg_receivewal that was left
        estate.archived()


def has_password(estate: Estate) -> bool:
    files = [path for path in estate.spool.rglob("*") if path.is_file()]
    assert files
    return any(estate.connection.password.encode() in path.read_bytes() for path in files)


def test_nothing_is_lost_when_everything_is_killed_while_rows_flow(estate: Estate, tmp_path: Path) -> None:
    with subprocess_archiver(estate) as archiver, traffic(estate) as confirmed:
        eventually(lambda: read(estate).segments_shipped > 1, what="two segments were shipped")
        estate.backup()
        for _ in range(3):
            archiver.kill()
            flows(confirmed, "rows flow while nobody archives")
            archiver.start()
            flows(confirmed, "rows flow while it archives")
        estate.server.restart("immediate")
        flows(confirmed, "rows flow after the server came back")
        bucket = Path(estate.bucket.url.removeprefix("file://"))
        bucket.rename(bucket.with_name("away"))  # the store is away: writing below a file fails
        bucket.touch()
        flows(confirmed, "rows flow while the store is away")
        eventually(lambda: read(estate).errors, what="the archiver says that the store is away")
        bucket.unlink()
        bucket.with_name("away").rename(bucket)
    with estate.archiving():
        estate.archived()
        eventually(lambda: read(estate).errors == (), what="all is well again")
        estate.archived()
    assert_whole(estate)

    place = estate.server.sandbox.directory("restores") / "kills"
    estate.restore(place)

    with estate.serving(place, "kills") as connection:
        back = {n for (n,) in connection.execute("select n from traffic").fetchall()}
    assert set(confirmed) <= back


def flows(confirmed: list[int], when: str) -> None:
    """Wait until 60 more rows were confirmed."""
    wanted = len(confirmed) + 60
    eventually(lambda: len(confirmed) >= wanted, what=when)


def read(estate: Estate) -> ArchiverStatus:
    eventually((estate.spool / "status.json").exists)
    return read_status(estate.spool)


class SubprocessArchiver:
    """An archiver that can be killed as a whole, and its pg_receivewal left behind."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        connection = self._estate.connection
        environment = os.environ | {"PYTHONPATH": str(PROJECT), "PASSWORD": connection.password}
        arguments = [str(connection.port), self._estate.bucket.url, str(self._estate.spool), self._estate.slot]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.postgres.archiving", *arguments], env=environment, cwd=PROJECT
        )
        pid = self._process.pid
        eventually(lambda: read(self._estate).pid == pid and read(self._estate).streaming, what="it streams")

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def subprocess_archiver(estate: Estate) -> Iterator[SubprocessArchiver]:
    archiver = SubprocessArchiver(estate)
    archiver.start()
    try:
        yield archiver
    finally:
        archiver.kill()


def test_an_empty_spool_goes_on_where_the_bucket_ends(estate: Estate) -> None:
    estate.backup()
    with estate.archiving():
        switch(estate)
        estate.archived()
    for path in (estate.spool / "received").iterdir():
        path.unlink()
    (estate.spool / "shipped.json").unlink()
    switch(estate)
    with estate.archiving():
        estate.archived()
    assert_whole(estate)


def test_a_part_may_give_way_to_a_longer_one_while_a_restore_reads_it(estate: Estate) -> None:
    with estate.archiving():
        estate.archived()
    part = next(wal for wal in reversed(list_wal(estate.bucket, TARGET)) if wal.kind is WalKind.PARTIAL)
    longer = fetch(estate.bucket, part, ()) + b"grown"
    sandbox = estate.server.sandbox
    directory = sandbox.directory(f"spool-{os.urandom(3).hex()}") / "wal"
    with WalSpool(estate.bucket, TARGET, directory, account=sandbox.account) as spool:  # it has listed the archive
        key = wal_key(TARGET, partial_name(part.name, len(longer)), encrypted=False)
        assert estate.bucket.create(key, pack(longer, ()))
        estate.bucket.delete([part.key])
        (directory / "want" / part.name).touch()
        eventually((directory / "done" / part.name).exists, what="it is served from the longer part")
        assert (directory / "done" / part.name).read_bytes()[: part.valid] == longer[: part.valid]
        assert spool.failure is None


def lose_a_segment(estate: Estate) -> None:
    """Archive something, and let the server remove what comes next."""
    with estate.archiving():
        estate.archived()
        switch(estate)
        estate.archived()
    estate.sql("select pg_drop_replication_slot(%s)", estate.slot)
    for _ in range(3):
        estate.sql("insert into traffic (filler) select 'x'")
        switch(estate)
        estate.sql("checkpoint")
    wal = estate.server.data_directory / "pg_wal"
    kept = max(path.name for path in (estate.spool / "received").glob("0*")).removesuffix(".partial")
    for segment in wal.glob("0000000*"):
        if segment.is_file() and segment.name <= kept:
            segment.unlink()


def test_a_removed_segment_is_told_loudly_and_nothing_is_skipped(estate: Estate) -> None:
    lose_a_segment(estate)
    with estate.archiving():
        eventually(lambda: any("has removed the WAL segment" in said for said in read(estate).errors), what="the gap")
        assert not read(estate).streaming


def test_who_drops_the_slot_and_empties_the_spool_makes_archiving_begin_anew(estate: Estate) -> None:
    """What the error and the runbook say: it must not wait for the lost segment for ever."""
    first = estate.backup()
    lose_a_segment(estate)
    with estate.archiving():
        eventually(lambda: any("has removed the WAL segment" in said for said in read(estate).errors), what="the gap")
    estate.sql("select pg_drop_replication_slot(%s)", estate.slot)
    for path in (estate.spool / "received").iterdir():
        path.unlink()
    (estate.spool / "shipped.json").unlink()

    with estate.archiving():
        eventually(lambda: stored(estate).get(current(estate)), what="the segment of today is archived")
        second = estate.backup()
        estate.archived()

    assert estate.archive.report([second]).missing == ()
    assert estate.archive.report([second]).verdict is Verdict.PASS
    assert estate.archive.report([first]).verdict is Verdict.FAIL


def current(estate: Estate) -> str:
    return str(estate.sql("select pg_walfile_name(pg_current_wal_lsn())")[0][0])


def test_an_idle_server_is_known_to_be_archived_from_the_bucket_alone(estate: Estate) -> None:
    with estate.archiving(reached_seconds=0.1):
        kept = [estate.backup()]
        estate.archived()

        def ends() -> datetime:
            return max(window.to_time for window in estate.archive.reach(kept).windows)

        idle_since = eventually(lambda: quiet(estate), what="nothing is archived any more")
        eventually(lambda: ends() > idle_since + timedelta(seconds=3), what="the window grows though nothing happens")
        found = estate.archive.reach(kept)
        assert found.verdict is Verdict.PASS
        assert found.complete_at == ends()
        assert found.newest is not None
        assert found.newest <= idle_since
        eventually(lambda: len(list(estate.bucket.list(f"{TARGET}/wal/reached"))) == 1, what="one statement is left")
    # The end of the archive disappears: no arithmetic over what is left can tell, the statement can.
    last = max(
        (wal for wal in list_wal(estate.bucket, TARGET) if wal.kind is not WalKind.HISTORY), key=lambda w: w.name
    )
    estate.bucket.delete([last.key])
    found = estate.archive.reach(kept)
    assert (found.verdict, found.missing) == (Verdict.FAIL, (last.name,))
    assert max(window.to_time for window in found.windows) < idle_since


def quiet(estate: Estate) -> datetime | None:
    """When the newest object was stored, once that is 2 s ago."""
    newest = max(wal.modified for wal in list_wal(estate.bucket, TARGET))
    return newest if estate.now() - newest > timedelta(seconds=2) else None


def test_two_archivers_exclude_each_other(estate: Estate) -> None:
    with estate.archiving():
        estate.archived()
        with pytest.raises(Contended, match="another archiver"):
            run(estate.archiver(), Stop())


def test_another_cluster_never_mixes_in(estate: Estate, sandbox: Sandbox, tmp_path: Path) -> None:
    with estate.archiving():
        estate.archived()
    other = PostgresServer(sandbox, f"other-{os.urandom(3).hex()}").start()
    try:
        intruder = Estate(other, estate.bucket, tmp_path / "other")
        with pytest.raises(Refused, match="belongs to the cluster"):
            run(intruder.archiver(), Stop())
    finally:
        other.kill()


def test_other_content_under_a_segments_name_is_corrupt(estate: Estate, tmp_path: Path) -> None:
    with estate.archiving():
        estate.archived()
        shipped = switch(estate)
        estate.archived()
        eventually(lambda: WalKind.SEGMENT in stored(estate).get(shipped, ()))
    wal = next(w for w in list_wal(estate.bucket, TARGET) if w.name == shipped and w.kind is WalKind.SEGMENT)
    content = fetch(estate.bucket, wal, ())[:-1] + b"!"
    estate.bucket.delete([wal.key])
    assert estate.bucket.create(wal.key, pack(content, ()))
    (estate.spool / "shipped.json").unlink()
    with pytest.raises(Corrupt, match=shipped):
        run(estate.archiver(), Stop())


def test_an_encrypted_archive_opens_with_the_key_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    key = encryption.generate_identity()
    estate = new_estate(sandbox, "encrypted", tmp_path, recipients=[key.recipient], identities=[key.identity])
    estate.sql("create table secrets (n int)")
    with estate.archiving():
        estate.backup()
        estate.sql("insert into secrets values (42)")
        estate.archived()
    # A second life with nothing remembered ships what it still has again, and finds it to be the same.
    (estate.spool / "shipped.json").unlink()
    with estate.archiving():
        estate.archived()
    assert_whole(estate)
    assert all(wal.key.endswith(".age") for wal in list_wal(estate.bucket, TARGET))
    place = sandbox.directory("restores") / "encrypted"
    estate.restore(place)
    with estate.serving(place, "encrypted") as connection:
        assert connection.execute("select n from secrets").fetchall() == [(42,)]
    estate.server.kill()


def test_a_server_that_is_away_is_waited_for(estate: Estate) -> None:
    away = msgspec.structs.replace(estate.connection, port=1)
    assert isinstance(away, Connection)
    with estate.archiving(connection=away):
        eventually(lambda: read(estate).errors, what="it says that the server is away")
        assert not read(estate).streaming
