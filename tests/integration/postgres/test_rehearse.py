"""A drill's restore proves the rows of the backup, and measures what came back beyond it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from include.engine.contracts import Rehearsal
from include.engine.model import DestinationKind, Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.systems.postgres import heartbeat
from include.engine.systems.postgres.reached import statements
from tests.estate import HEARTBEAT, TARGET, Estate, Quiet, eventually, new_estate

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def estate(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    estate = new_estate(sandbox, "rehearse", tmp_path_factory.mktemp("rehearse"))
    estate.sql("create table orders (n int primary key, amount numeric)")
    estate.sql("insert into orders select n, n * 1.5 from generate_series(1, 20000) n")
    estate.sql("create database second")
    with estate.server.connect() as connection:
        heartbeat.ensure(connection, HEARTBEAT)
    with estate.archiving():
        estate.backup()
        yield estate


def verdicts(rehearsal: Rehearsal) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in rehearsal.checks}


def test_a_drill_compares_rows_at_their_point_and_goes_on_to_the_newest(estate: Estate) -> None:
    estate.sql("delete from orders where n > 10000")  # after the samples: no difference, as they are compared before
    with estate.server.connect() as connection:
        beaten = heartbeat.beat(connection, HEARTBEAT)
    estate.archived()
    plan = estate.plan(None, kind=DestinationKind.SANDBOX)

    with estate.engine.rehearse(estate.job(plan)) as rehearsal:
        directory = Path(rehearsal.restored.detail["directory"])
        assert (directory / "postmaster.pid").exists()

    assert not directory.parent.exists()
    assert verdicts(rehearsal) == {
        "pg_verifybackup": Verdict.PASS,
        "rows of postgres": Verdict.PASS,
        "rows of second": Verdict.PASS,
        "promoted": Verdict.PASS,
        "amcheck": Verdict.PASS,
        "heartbeat": Verdict.PASS,
    }
    assert rehearsal.newest_record == beaten
    stages = {stage.name: stage.counts for stage in rehearsal.restored.stages}
    assert stages == {
        "fetch and unpack": True,
        "verify": True,
        "flush to disk": True,
        "recover": True,
        "checks": False,
        "restart for the checks": False,
        "ready": True,
    }


def test_what_is_archived_while_a_drill_runs_does_not_come_back(estate: Estate) -> None:
    with estate.server.connect() as connection:
        before = heartbeat.beat(connection, HEARTBEAT)
    estate.archived()

    class BeatsMeanwhile(Quiet):
        def stage(self, name: str, total_bytes: int | None = None) -> None:
            if not self.stages:
                with estate.server.connect() as connection:
                    heartbeat.beat(connection, HEARTBEAT)
                estate.archived()
            super().stage(name, total_bytes)

    job = estate.job(estate.plan(None, kind=DestinationKind.SANDBOX))
    with estate.engine.rehearse(msgspec.structs.replace(job, progress=BeatsMeanwhile())) as rehearsal:
        pass

    assert rehearsal.newest_record == before
    assert rehearsal.newest_at_source is not None
    assert before < rehearsal.newest_at_source < estate.now()


def test_rows_that_differ_fail_the_drill(estate: Estate) -> None:
    backup = estate.catalog.backups(estate.engine.target)[-1]
    plan = estate.plan(None, kind=DestinationKind.SANDBOX)
    job = estate.job(plan)
    lies = [{**sample, "digest": "1"} if sample.get("table") == "orders" else sample for sample in backup.samples]
    job = msgspec.structs.replace(job, chain=[msgspec.structs.replace(backup, samples=tuple(lies))])

    with estate.engine.rehearse(job) as rehearsal:
        failed = [check for check in rehearsal.checks if check.verdict is Verdict.FAIL]

    assert [check.name for check in failed] == ["rows of postgres"]
    assert "orders has other rows" in failed[0].detail


def test_samples_that_lie_behind_the_point_are_unverified_not_green(estate: Estate) -> None:
    plan = estate.plan(None, "backup", kind=DestinationKind.SANDBOX)
    with estate.engine.rehearse(estate.job(plan)) as rehearsal:
        found = verdicts(rehearsal)
    assert found["rows"] is Verdict.UNVERIFIED
    assert found["promoted"] is Verdict.PASS


def test_without_an_archive_the_rows_are_unverified_and_the_backup_still_comes_up(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    estate = new_estate(sandbox, "unarchived", tmp_path)
    try:
        estate.sql("create table t (n int)")
        estate.backup()
        plan = estate.plan(None, kind=DestinationKind.SANDBOX)
        with estate.engine.rehearse(estate.job(plan)) as rehearsal:
            found = verdicts(rehearsal)
        assert "nothing of the log was archived" in plan.warnings[0]
        assert found["rows"] is Verdict.UNVERIFIED
        assert found["heartbeat"] is Verdict.UNVERIFIED
        assert found["promoted"] is Verdict.PASS
    finally:
        estate.server.stop("immediate")


def test_without_a_heartbeat_what_the_archiver_has_stated_measures_the_rpo(sandbox: Sandbox, tmp_path: Path) -> None:
    estate = new_estate(sandbox, "stated", tmp_path)
    try:
        with estate.archiving(reached_seconds=0.2):
            estate.backup()
            idle = estate.now()
            eventually(lambda: any(one.at > idle for one in statements(estate.bucket, TARGET)), what="it was stated")
            with estate.engine.rehearse(estate.job(estate.plan(None, kind=DestinationKind.SANDBOX))) as rehearsal:
                pass
    finally:
        estate.server.stop("immediate")
    (check,) = [check for check in rehearsal.checks if check.name == "heartbeat"]
    assert check.verdict is Verdict.PASS
    assert "no database has a row in mainstay.heartbeat; the archiver has stated" in check.detail
    assert rehearsal.newest_record is not None
    assert rehearsal.newest_at_source is not None
    assert idle - timedelta(seconds=1) < rehearsal.newest_record <= rehearsal.newest_at_source


def test_the_difference_of_the_clocks_is_taken_out_of_the_age(estate: Estate) -> None:
    with estate.server.connect() as connection:
        ahead = connection.execute(
            "insert into mainstay.heartbeat (at) values (clock_timestamp() + interval '300 s') returning at"
        ).fetchone()
    estate.archived()
    job = estate.job(estate.plan(None, kind=DestinationKind.SANDBOX))
    backup = job.chain[-1]
    told = msgspec.structs.replace(backup, detail={**backup.detail, "clock_ahead_seconds": 300.0})
    with estate.engine.rehearse(msgspec.structs.replace(job, chain=[told])) as rehearsal:
        pass
    estate.sql("delete from mainstay.heartbeat where at > clock_timestamp() + interval '100 s'")
    assert ahead is not None
    assert rehearsal.newest_record == ahead[0] - timedelta(seconds=300)


def test_a_drill_removes_what_one_that_was_killed_has_left(estate: Estate) -> None:
    dead = estate.server.sandbox.home.sandbox(f"drill-main-{os.urandom(4).hex()}")
    dead.claim()
    owner = dead.root / "owner.json"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"started": 1}))  # the number is another process's now
    assert dead.abandoned
    first = estate.catalog.backups(TARGET)[0].id
    with estate.engine.rehearse(estate.job(estate.plan(None, "backup", backup=first, rehearsal=True))):
        assert not dead.root.exists()


def test_a_drill_that_fails_leaves_nothing(estate: Estate) -> None:
    directories: list[Path] = []

    def fail() -> None:
        with estate.engine.rehearse(estate.job(estate.plan(None, kind=DestinationKind.SANDBOX))) as rehearsal:
            directories.append(Path(rehearsal.restored.detail["directory"]))
            assert directories[0].exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not directories[0].parent.exists()
