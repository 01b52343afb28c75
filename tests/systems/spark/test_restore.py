"""A checkpoint restored where a job runs, or ran: nobody runs on it meanwhile, and afterwards it still knows its topics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Refused
from include.engine.model import DestinationKind, Moved, Position, Restored, System, Target, Verdict
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.systems.spark.backup import SparkSource, open_source
from include.engine.systems.spark.journal import Journal
from include.engine.systems.spark.restore import SparkRestore, open_engine
from include.engine.systems.spark.settings import Settings
from include.engine.verbs import backup, restore
from include.engine.verbs.pipeline import Pipeline
from tests.alone import alone
from tests.estate import Quiet
from tests.systems.spark.test_checkpoint import files

TARGET = Target(System.SPARK, "paper")
ID, UUID = "3HVnyB0eSdmMDoY0xrSJ8A", "dc7567c8-1d1e-49d9-8c0e-8634c6b489f0"
SET = "20261123T020000Z"
NOW = datetime(2026, 11, 23, 2, tzinfo=UTC)


def clock() -> datetime:
    return NOW


class Paper:
    """A job with a checkpoint in a directory, and no server; a backup of it is in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(
            checkpoint=f"file://{folder}/checkpoint",
            directory=f"{folder}/engine",
            kafka="kafka",
            cassandra="cassandra",
            flows={"users": {"shape": "users", "topic": "t", "table": "k.t"}},
        )
        self.live = Bucket.open(self.settings.checkpoint)
        for path, raw in files(7).items():
            self.live.upload(f"users/{path}", [raw])
        self.live.create("_mainstay/flows/users.json", json.dumps({"topic": "t", "id": ID}).encode())
        self.journal = Journal(self.live)
        self.catalog = Catalog(Bucket.open(f"memory://{folder.name}"))

    def get(self, name: str) -> Connection:
        raise AssertionError(name)

    def source(self, target: Target) -> SparkSource:
        return open_source(target, self.settings, self)

    def engine(self, target: Target) -> SparkRestore:
        return open_engine(target, self.catalog, connections=self, targets={TARGET: self.settings})

    def archive(self, target: Target) -> None:
        return None

    @property
    def pipeline(self) -> Pipeline:
        return alone(TARGET, self, self.catalog)

    def take(self) -> None:
        backup.freeze(self.pipeline, SET, [TARGET], clock=clock)
        backup.copy(self.pipeline, SET, TARGET, progress=Quiet(), stop=Stop(), clock=clock)

    def restored(self, path: str, confirm: str = str(TARGET), **how: Any) -> Restored:
        there: dict[str, Any] = {"destination": DestinationKind.DIRECTORY, "path": path, "confirm": confirm}
        plan = restore.plan(self.pipeline, TARGET, **there)
        who: dict[str, Any] = {"reason": "a test asks for it", "by": "tests", **how}
        return restore.restore(self.pipeline, plan, progress=Quiet(), stop=Stop(), clock=clock, **who)


@pytest.fixture
def paper(tmp_path: Path) -> Iterator[Paper]:
    paper = Paper(tmp_path)
    paper.take()
    yield paper
    _driver(paper).stop()


def _driver(paper: Paper) -> ServerProcess:
    """A process that counts as launch 1 of the job."""
    (paper.folder / "engine").mkdir(mode=0o700, exist_ok=True)
    name = f"mainstay-{TARGET.name}-1"
    state, log = paper.folder / "engine" / f"{name}.json", paper.folder / "engine" / "mainstay-paper.log"
    return ServerProcess(name, state=state, log=log, account=ourselves())


def test_the_cut_tells_which_topic_the_checkpoint_is_about_and_the_restored_one_still_knows(paper: Paper) -> None:
    manifest = paper.catalog.backup(TARGET, SET)
    assert manifest.cut.identities == {"t": UUID}
    there = paper.folder / "restored"
    paper.restored(str(there))
    assert json.loads((there / "_mainstay" / "flows" / "users.json").read_text()) == {"topic": "t", "id": ID}


def test_a_checkpoint_that_has_read_nothing_is_about_no_topic(tmp_path: Path) -> None:
    """On the first day of a pipeline no position tells that its log is a restored one: the job would refuse it."""
    paper = Paper(tmp_path)
    paper.live.delete([one.key for one in paper.live.list("users") if one.key != "users/metadata"])
    paper.take()
    there = paper.folder / "restored"
    assert paper.restored(str(there)).verdict is Verdict.PASS
    assert sorted(str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()) == ["users/metadata"]


def test_beside_a_restored_topic_the_checkpoint_is_about_that_one(paper: Paper) -> None:
    there = paper.folder / "restored"
    moved = [
        Moved(
            before=Position(topic="t", partition=partition, offset=70 + partition),
            after=Position(topic="t", partition=partition, offset=partition),
        )
        for partition in (0, 1)
    ]
    paper.restored(str(there), moved=moved)
    assert not (there / "_mainstay").exists()


def test_a_checkpoint_is_not_written_under_a_job_that_runs(paper: Paper) -> None:
    paper.journal.claim(1, f"mainstay-{TARGET.name}-1", reason="a test", clock=clock)
    driver = _driver(paper)
    driver.start(ServerSpec(command=["sleep", "600"], directory=paper.folder / "engine"))
    before = sorted(one.key for one in paper.live.list())
    with pytest.raises(Refused, match="mainstay-paper-1 is running"):
        paper.restored(f"{paper.folder}/checkpoint")
    assert sorted(one.key for one in paper.live.list()) == before
    driver.stop()
    paper.restored(f"{paper.folder}/checkpoint")


def test_a_restore_in_place_keeps_what_was_said_and_who_launched_and_lets_nobody_launch_meanwhile(paper: Paper) -> None:
    paper.journal.claim(1, f"mainstay-{TARGET.name}-1", reason="a test", clock=clock)
    paper.restored(f"{paper.folder}/checkpoint")
    wish, newest = paper.journal.wish(), paper.journal.newest()
    assert (wish.action, wish.by) == ("stop", "a restore")
    assert newest is not None
    assert newest.generation == 1  # the next launch is the second: a driver that was taken for dead is fenced

    paper.journal.say("run", reason="all is well again", by="tests", clock=clock)
    paper.journal.say("drain", reason="a new cluster tonight", by="tests", clock=clock)
    paper.restored(f"{paper.folder}/checkpoint")
    assert (paper.journal.wish().action, paper.journal.wish().by) == ("drain", "tests")


def killed_while_it_writes(paper: Paper, monkeypatch: pytest.MonkeyPatch, path: str, **how: Any) -> None:
    """Restore, and die when a part of the checkpoint is there."""
    upload = Bucket.upload

    def dying(bucket: Bucket, key: str, chunks: Any) -> Any:
        if "/offsets/" in key:
            raise KeyboardInterrupt
        return upload(bucket, key, chunks)

    with monkeypatch.context() as once:
        once.setattr(Bucket, "upload", dying)
        with pytest.raises(KeyboardInterrupt):
            paper.restored(path, **how)


def test_a_restore_that_was_killed_while_it_wrote_is_done_again_without_leave(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = paper.folder / "restored"
    killed_while_it_writes(paper, monkeypatch, str(there))
    left = {path.name for path in there.iterdir()}
    assert left == {"users", "_mainstay"}
    plan = restore.plan(paper.pipeline, TARGET, destination=DestinationKind.DIRECTORY, path=str(there))
    assert plan.would_overwrite == ()
    (there / "precious").touch()
    with pytest.raises(Refused, match="it holds precious"):
        restore.plan(paper.pipeline, TARGET, destination=DestinationKind.DIRECTORY, path=str(there))
    (there / "precious").unlink()
    assert paper.restored(str(there), confirm="").verdict is Verdict.PASS
    assert not (there / "_mainstay" / "restoring.json").exists()
    with pytest.raises(Refused, match="is not empty"):  # it is whole now
        restore.plan(paper.pipeline, TARGET, destination=DestinationKind.DIRECTORY, path=str(there))


def test_what_a_killed_restore_has_left_is_nobodys_to_throw_away_once_a_job_has_run_on_it(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{paper.folder}/checkpoint"
    killed_while_it_writes(paper, monkeypatch, path)
    there: dict[str, Any] = {"destination": DestinationKind.DIRECTORY, "path": path}
    assert restore.plan(paper.pipeline, TARGET, **there).would_overwrite == ()
    paper.journal.claim(1, f"mainstay-{TARGET.name}-1", reason="a test", clock=clock)
    with pytest.raises(Refused, match="is not empty"):
        restore.plan(paper.pipeline, TARGET, **there)


def test_a_restore_that_is_refused_because_the_job_runs_leaves_no_leave_to_overwrite(paper: Paper) -> None:
    plan = restore.plan(
        paper.pipeline,
        TARGET,
        destination=DestinationKind.DIRECTORY,
        path=f"{paper.folder}/checkpoint",
        confirm=str(TARGET),
    )
    paper.journal.claim(1, f"mainstay-{TARGET.name}-1", reason="a test", clock=clock)
    driver = _driver(paper)
    driver.start(ServerSpec(command=["sleep", "600"], directory=paper.folder / "engine"))
    who: dict[str, Any] = {"reason": "a test asks for it", "by": "tests"}
    with pytest.raises(Refused, match="is running"):
        restore.restore(paper.pipeline, plan, progress=Quiet(), stop=Stop(), clock=clock, **who)
    driver.stop()
    with pytest.raises(Refused, match="is not empty"):
        restore.plan(paper.pipeline, TARGET, destination=DestinationKind.DIRECTORY, path=f"{paper.folder}/checkpoint")


def test_a_job_that_was_lost_with_its_checkpoint_rests_until_somebody_says_run(paper: Paper) -> None:
    paper.live.delete([one.key for one in paper.live.list()])
    paper.restored(f"{paper.folder}/checkpoint")
    assert paper.journal.wish().action == "stop"
    assert paper.journal.topic("users") is not None
