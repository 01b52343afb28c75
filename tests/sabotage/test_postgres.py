"""Damage to a PostgreSQL backup or its log is found, named, and never restored over in silence."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.engine.contracts import Stop
from include.engine.errors import Corrupt, Incomplete, NotFound, Refused, Unauthorized
from include.engine.model import DestinationKind, Manifest, Verdict
from include.engine.sandbox.home import Home, Sandbox
from include.engine.store import encryption
from include.engine.systems.postgres.guards import MARKER
from include.engine.systems.postgres.standby import StandbyServer
from include.engine.systems.postgres.wal_objects import WalKind, WalObject, list_wal
from tests.estate import TARGET, Estate, eventually, new_estate

pytestmark = [pytest.mark.sabotage, pytest.mark.integration]
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pristine(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """A backup, five whole segments behind it, and an end that grows no more."""
    estate = new_estate(sandbox, "sabotage", tmp_path_factory.mktemp("sabotage"))
    estate.sql("create table history (n int primary key, filler text)")
    estate.sql("insert into history select n, md5(n::text) from generate_series(1, 5000) n")
    with estate.archiving():
        estate.backup()
        for n in range(5001, 5006):
            estate.sql("insert into history values (%s, 'later')", n)
            estate.sql("select pg_switch_wal()")
        estate.sql("insert into history values (6000, 'the last')")
        estate.archived()
    yield estate
    estate.server.stop("immediate")


@pytest.fixture
def estate(pristine: Estate, tmp_path: Path) -> Estate:
    """A copy of the pristine bucket, to be damaged."""
    folder = tmp_path / "bucket"
    shutil.copytree(pristine.bucket.url.removeprefix("file://"), folder)
    copy = object.__new__(Estate)
    copy.__dict__.update(pristine.__dict__)
    copy.bucket = type(pristine.bucket).open(f"file://{folder}")
    copy.catalog = type(pristine.catalog)(copy.bucket)
    return copy


@pytest.fixture
def place(sandbox: Sandbox) -> Iterator[Path]:
    place = sandbox.directory(f"place-{os.urandom(3).hex()}")
    yield place
    shutil.rmtree(place)


def manifest(estate: Estate) -> Manifest:
    return estate.catalog.backups(TARGET)[-1]


def whole(estate: Estate) -> list[WalObject]:
    """The whole segments behind the backup."""
    start = manifest(estate).detail["stop_wal"]
    return [wal for wal in list_wal(estate.bucket, TARGET) if wal.kind is WalKind.SEGMENT and wal.name > start]


def file_of(estate: Estate, key: str) -> Path:
    return Path(estate.bucket.url.removeprefix("file://")) / key


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


DAMAGES: list[Callable[[Path], None]] = [flip, truncate, grow, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES, ids=["flipped", "truncated", "grown", "missing"])
@pytest.mark.parametrize("name", ["base.tar.zst", "backup_manifest.zst"])
def test_a_damaged_object_of_the_backup_is_named(
    estate: Estate, place: Path, name: str, damage: Callable[[Path], None]
) -> None:
    entry = next(entry for entry in manifest(estate).entries if entry.name == name)
    damage(file_of(estate, entry.key))
    with pytest.raises(Corrupt, match=re.escape(entry.key)):
        estate.restore(place / "data")
    assert not (place / "data" / "postmaster.pid").exists()


def test_a_flipped_bit_in_the_archived_log_that_a_backup_needs_is_found_by_its_verification_and_by_its_restore(
    estate: Estate, place: Path
) -> None:
    """Recovery asks the archive first, whatever the backup itself holds."""
    taken = manifest(estate)
    (wal,) = [one for one in list_wal(estate.bucket, TARGET) if one.name == taken.detail["start_wal"]]
    whole_log = estate.archive.read_log_of(taken, (), Stop().check)
    assert [check.verdict for check in whole_log] == [Verdict.PASS, Verdict.PASS]
    flip(file_of(estate, wal.key))
    damaged, onward = estate.archive.read_log_of(taken, (), Stop().check)
    assert (damaged.verdict, onward.verdict) == (Verdict.FAIL, Verdict.PASS)
    assert wal.key in damaged.detail
    with pytest.raises(Corrupt, match=re.escape(wal.key)):
        estate.restore(place / "data")


def test_swapped_objects_are_named(estate: Estate, place: Path) -> None:
    base, postgres_manifest = (file_of(estate, entry.key) for entry in manifest(estate).entries)
    swapped = base.read_bytes()
    base.write_bytes(postgres_manifest.read_bytes())
    postgres_manifest.write_bytes(swapped)
    with pytest.raises(Corrupt, match=r"base\.tar\.zst|backup_manifest\.zst"):
        estate.restore(place / "data")


@pytest.mark.parametrize("damage", [flip, truncate], ids=["flipped", "truncated"])
def test_a_damaged_segment_stops_recovery_and_is_named(
    estate: Estate, place: Path, damage: Callable[[Path], None]
) -> None:
    victim = whole(estate)[2]
    damage(file_of(estate, victim.key))
    with pytest.raises(Corrupt, match=re.escape(victim.key)):
        estate.restore(place / "data")
    assert (place / "data" / MARKER).exists()  # nobody takes it for a restored cluster


def test_swapped_segments_are_named(estate: Estate, place: Path) -> None:
    one, other = (file_of(estate, wal.key) for wal in whole(estate)[1:3])
    swapped = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(swapped)
    with pytest.raises(Corrupt, match="objects were swapped") as found:
        estate.restore(place / "data")
    assert one.name in found.value.message


def test_a_missing_segment_is_named_by_the_audit_and_nothing_behind_it_is_restored(estate: Estate, place: Path) -> None:
    victim = whole(estate)[2]
    file_of(estate, victim.key).unlink()

    report = estate.archive.report([manifest(estate)])
    assert report.missing == (victim.name,)
    (check, *_) = estate.archive.audit([manifest(estate)], lambda: victim.modified)
    assert check.verdict is Verdict.FAIL
    assert victim.name in check.detail
    for point in ("latest", victim.modified.replace(year=2099).isoformat(), "position:1/0", "name:unknown"):
        with pytest.raises(NotFound, match=victim.name):
            estate.plan(place / "data", point)
    restored = estate.restore(place / "data", f"position:{_start(victim)}")
    assert restored.verdict is Verdict.PASS
    with estate.serving(place / "data", "gap") as connection:
        rows = connection.execute("select n from history where n > 5000 order by n").fetchall()
    assert rows
    assert (6000,) not in rows


def _start(wal: WalObject) -> str:
    """The position of the last byte before a segment of 16 MiB."""
    end = (int(wal.name[8:16], 16) << 32 | int(wal.name[16:], 16) << 24) - 1
    return f"{end >> 32:X}/{end & 0xFFFFFFFF:X}"


def test_without_the_right_key_the_error_names_the_one_that_opens_it(sandbox: Sandbox, tmp_path: Path) -> None:
    right, wrong = encryption.generate_identity(), encryption.generate_identity()
    estate = new_estate(sandbox, "keys", tmp_path, recipients=[right.recipient], identities=[right.identity])
    try:
        with estate.archiving():
            estate.backup()
            estate.archived()
    finally:
        estate.server.stop("immediate")
    place = sandbox.directory("keys")
    for identities in ((), (wrong.identity,)):
        estate.identities = identities
        with pytest.raises(Unauthorized, match=right.recipient):
            estate.restore(place / "data")
        with (
            pytest.raises(Unauthorized, match=right.recipient),
            estate.engine.rehearse(estate.job(estate.plan(None, kind=DestinationKind.SANDBOX))),
        ):
            pass
    estate.identities = (wrong.identity, right.identity)
    assert estate.restore(place / "data").verdict is Verdict.PASS


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_fills_up_is_a_clear_error(estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = estate.server.sandbox.directory("small")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=0755", "none", str(place)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        with pytest.raises(Refused, match=r"the restore needs \d+ bytes"):
            estate.plan(place / "data")
        monkeypatch.setattr("include.engine.systems.postgres.room.require_space", lambda *_: None)
        with pytest.raises(Incomplete, match="is full") as full:
            estate.restore(place / "data")
        assert "run the restore again" in full.value.hint
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_restore_that_is_killed_can_be_run_again(estate: Estate, place: Path, home: Home) -> None:
    """Killed as a whole in the middle of recovery; what it left behind is known as ours and thrown away."""
    data = place / "data"
    done = subprocess.run(
        [sys.executable, "-m", "tests.sabotage.restoring", estate.bucket.url, str(data)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (data / "postmaster.pid").exists()
    assert (data / MARKER).exists()
    sandbox = home.sandbox(json.loads((data / MARKER).read_text())["sandbox"])
    assert (sandbox.unfinished, sandbox.used) == (True, False)

    restored = estate.restore(data)

    assert restored.verdict is Verdict.PASS
    assert not sandbox.root.exists()
    with estate.serving(data, "again") as connection:
        assert connection.execute("select count(*) from history").fetchone() == (5006,)


def test_foreign_content_beside_a_dead_restore_is_not_ours(estate: Estate, place: Path) -> None:
    (place / "data").mkdir()
    (place / "data" / "precious").touch()
    with pytest.raises(Refused, match="holds 1"):
        estate.restore(place / "data")
    assert (place / "data" / "precious").exists()


def test_rows_come_back_over_a_promotion(sandbox: Sandbox, tmp_path: Path) -> None:
    """The archive follows a promoted standby onto its new timeline, and a restore follows the archive."""
    estate = new_estate(sandbox, "before", tmp_path)
    standby = StandbyServer(estate.server, "after").start()
    standby.wait_until_streaming()
    estate.sql("create table history (n int)")
    with estate.archiving():
        estate.backup()
        estate.sql("insert into history values (1)")
        position = estate.archived()
        with standby.connect() as connection:
            eventually(
                lambda: (
                    connection.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,)).fetchone()
                    == (True,)
                )
            )
    estate.server.kill()
    standby.promote()
    moved = Estate(standby, estate.bucket, estate.spool)
    with moved.archiving():
        moved.sql("insert into history values (2)")
        moved.sql("select pg_switch_wal()")
        moved.sql("insert into history values (3)")
        moved.archived()
    standby.stop("immediate")

    report = moved.archive.report(moved.catalog.backups(TARGET))
    place = sandbox.directory("promotion")
    restored = moved.restore(place / "data")

    assert report.missing == ()
    assert {window.timeline for window in report.windows} == {1, 2}
    assert restored.detail["timeline"] == 3
    with moved.serving(place / "data", "promoted") as connection:
        assert connection.execute("select n from history order by n").fetchall() == [(1,), (2,), (3,)]


def test_an_archive_that_was_ahead_of_the_promoted_standby_goes_on(sandbox: Sandbox, tmp_path: Path) -> None:
    """The archiver had more of the old timeline than the standby: it must step back to the fork, and lose nothing."""
    estate = new_estate(sandbox, "ahead", tmp_path)
    standby = StandbyServer(estate.server, "behind").start()
    standby.wait_until_streaming()
    estate.sql("create table history (n int)")
    with estate.archiving():
        estate.backup()
        estate.sql("insert into history values (1)")
        position = estate.archived()
        with standby.connect() as connection:
            eventually(
                lambda: (
                    connection.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,)).fetchone()
                    == (True,)
                )
            )
        standby.stop("immediate")
        for n in (100, 101, 102):
            estate.sql("insert into history values (%s)", n)  # lost by the promotion, and by it alone
            estate.sql("select pg_switch_wal()")
        estate.archived()
    estate.server.kill()
    standby.start()
    standby.promote()
    moved = Estate(standby, estate.bucket, estate.spool)
    with moved.archiving():
        moved.sql("insert into history values (2)")
        moved.archived()
    standby.stop("immediate")

    assert moved.archive.report(moved.catalog.backups(TARGET)).missing == ()
    place = sandbox.directory("ahead")
    moved.restore(place / "data")
    with moved.serving(place / "data", "ahead") as connection:
        assert connection.execute("select n from history order by n").fetchall() == [(1,), (2,)]
