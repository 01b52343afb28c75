"""A disk fills up while the log is received, while it is fetched and while it is replayed: told as that, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from include.engine.errors import Incomplete
from include.engine.model import Verdict
from include.engine.sandbox.home import Sandbox
from tests.estate import TARGET, Estate, Quiet, eventually, new_estate

pytestmark = [
    pytest.mark.sabotage,
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]
MIB = 1 << 20


class SmallDisk:
    """A file system of its own that can be filled and emptied."""

    def __init__(self, path: Path) -> None:
        self.path, self._ballast = path, path / "ballast"

    def fill(self, *, leave: int = 0) -> None:
        """Take all room but *leave* bytes."""
        with self._ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(self.path).free - leave)

    def clear(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(sandbox: Sandbox, size: str) -> Iterator[SmallDisk]:
    path = sandbox.directory(f"small-{os.urandom(3).hex()}")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "none", str(path)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="module")
def estate(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """A backup, and behind it log that makes the tables grow by far more than it is long itself."""
    estate = new_estate(sandbox, "fulldisks", tmp_path_factory.mktemp("fulldisks"))
    # One row fills a page to a tenth, and the log has the row alone.
    estate.sql("create table sparse (filler text) with (fillfactor = 10)")
    with estate.archiving():
        estate.backup()
        estate.sql("insert into sparse select repeat('x', 500) from generate_series(1, 10000)")
        estate.sql("select pg_switch_wal()")
        estate.archived()
    yield estate
    estate.server.stop("immediate")


class Filling(Quiet):
    """A progress that fills the disk when a stage begins."""

    def __init__(self, when: str, then: Callable[[], None]) -> None:
        super().__init__()
        self._when, self._then = when, then

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        super().stage(name, total_bytes)
        if name == self._when:
            self._then()


@pytest.mark.parametrize(
    ("leave", "told"),
    [
        (10 * MIB, r"the WAL spool .* cannot be written: No space left on device"),
        (72 * MIB, r"the disk of .* is full .*No space left on device"),
    ],
    ids=["while the log is fetched", "while it is replayed"],
)
def test_a_disk_that_fills_up_in_recovery_is_told_as_that_and_with_room_the_restore_succeeds(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, leave: int, told: str
) -> None:
    # The plan asks for more room than this disk has: it cannot know that somebody else will take it.
    monkeypatch.setattr("include.engine.systems.postgres.room.require_space", lambda *_: None)
    with small_disk(estate.server.sandbox, "280m") as disk:
        plan = estate.plan(disk.path / "data")
        job = estate.job(plan)
        full = msgspec.structs.replace(job, progress=Filling("recover", lambda: disk.fill(leave=leave)))
        with pytest.raises(Incomplete, match=told) as caught:
            estate.engine.restore(full)
        assert "run the restore again" in caught.value.hint
        disk.clear()
        assert estate.restore(disk.path / "data").verdict is Verdict.PASS


def test_an_archiver_whose_spool_is_full_says_so_and_goes_on_when_there_is_room(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    estate = new_estate(sandbox, "fullspool", tmp_path)
    estate.sql("create table traffic (n bigserial primary key, filler text)")
    heard = Quiet()
    with small_disk(sandbox, "64m") as disk:
        estate.spool = disk.path / "spool"
        with estate.archiving(progress=heard):
            estate.backup()
            estate.archived()
            disk.fill()
            estate.sql("insert into traffic (filler) select repeat('x', 1000) from generate_series(1, 1000)")
            eventually(
                lambda: any(f"{disk.path}" in said and "is full" in said for said in heard.said),
                what="it says that the disk is full",
            )
            for _ in range(2):
                estate.sql("select pg_switch_wal()")
                estate.sql("insert into traffic (filler) select repeat('x', 1000) from generate_series(1, 500)")
            disk.clear()
            estate.archived()
        report = estate.archive.report(estate.catalog.backups(TARGET))
        assert (report.missing, report.verdict) == ((), Verdict.PASS)
        restored = estate.restore(sandbox.directory("fullspool") / "data")
    estate.server.stop("immediate")
    assert restored.verdict is Verdict.PASS
    with estate.serving(sandbox.directory("fullspool") / "data", "fullspool") as connection:
        assert connection.execute("select count(*) from traffic").fetchone() == (2000,)
