"""A checkpoint restored as a part of a set: whatever can refuse does so before anything is overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from include.engine.contracts import Clock, Connection, RestoreJob, Stop
from include.engine.errors import Corrupt, Incomplete, MainstayError, Refused, Unreachable
from include.engine.model import Cut, DestinationKind, Moved, Position, Restored, SetPlan, SetRestored, System, Target
from include.engine.sandbox.process import ServerSpec
from include.engine.systems.spark.backup import open_source
from include.engine.systems.spark.settings import Settings
from include.engine.verbs import backup, restore, restore_set
from include.engine.verbs.pipeline import Terms
from include.engine.verbs.wishes import Wishes
from tests.cli.paper import Paper as OnPaper
from tests.estate import Quiet
from tests.store.making import overwrite
from tests.systems.spark.test_checkpoint import files
from tests.systems.spark.test_restore import SET, TARGET, Paper, _driver, clock

LOG = Target(System.KAFKA, "main")


def contents(paper: Paper) -> dict[str, bytes]:
    """What a job finds when it is started on the checkpoint."""
    return {one.key: paper.live.read(one.key) for one in paper.live.list() if "/wishes/" not in one.key}


def test_positions_that_nobody_told_leave_the_checkpoint_that_is_there_as_it_was(tmp_path: Path) -> None:
    paper = Paper(tmp_path)
    paper.take()
    there = contents(paper)
    before, after = Position(topic="t", partition=0, offset=70), Position(topic="t", partition=0, offset=0)
    with pytest.raises(Incomplete, match="t-1 at 71"):  # of partition 1, nobody told
        paper.restored(f"{tmp_path}/checkpoint", moved=[Moved(before=before, after=after)])
    assert contents(paper) == there
    with pytest.raises(Refused, match="is not empty"):  # nor does it count as what a restore has left that died
        restore.plan(paper.pipeline, TARGET, path=f"{tmp_path}/checkpoint")


def test_a_damaged_backup_leaves_the_checkpoint_that_is_there_as_it_was(tmp_path: Path) -> None:
    paper = Paper(tmp_path)
    paper.live.upload("users/state/0/0/1.delta", [b"what an operator keeps"])
    paper.take()
    there = contents(paper)
    (entry,) = [one for one in paper.catalog.backup(TARGET, SET).entries if one.name.endswith(".delta")]
    overwrite(paper.catalog.bucket, entry.key, b"something else")
    with pytest.raises(Corrupt):
        paper.restored(f"{tmp_path}/checkpoint")
    assert contents(paper) == there


# beside the log that it reads ----------------------------------------------------------------------------------------


class Log(OnPaper):
    """A log, whose restore is one of the first of its set's."""

    def __init__(self, paper: Paper, topics: dict[str, int]) -> None:
        super().__init__(target=LOG)
        self.paper, self.topics = paper, topics
        self.wished: list[str] = []

    def freeze(self, backup: str, clock: Clock) -> Cut:
        offsets = {name: {0: end, 1: end} for name, end in self.topics.items()}
        return msgspec.structs.replace(super().freeze(backup, clock), offsets=offsets)

    def restore(self, job: RestoreJob) -> Restored:
        self.wished.append(self.paper.journal.wish().action)
        return super().restore(job)


class TwoFlows(Paper):
    """A job that reads two topics."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        flows = {
            "users": {"shape": "users", "topic": "t", "table": "k.t"},
            "events": {"shape": "events", "topic": "u", "table": "k.u"},
        }
        self.settings = Settings.model_validate(self.settings.model_dump() | {"flows": flows})
        for path, raw in files(7, topic="u").items():
            self.live.upload(f"events/{path}", [raw])


class Both:
    """A set of the job and of the log that it reads, to go where the job runs and beside it."""

    def __init__(self, paper: Paper, **topics: int) -> None:
        self.paper, self.log = paper, Log(paper, topics)
        terms = {TARGET: Terms(), LOG: Terms()}
        self.pipeline = replace(paper.pipeline, lookup=self, terms=terms)
        backup.freeze(self.pipeline, SET, [TARGET, LOG], clock=clock)
        for target in (TARGET, LOG):
            backup.copy(self.pipeline, SET, target, progress=Quiet(), stop=Stop(), clock=clock)
        backup.seal(self.pipeline, SET, clock=clock)

    def source(self, target: Target) -> Any:
        return self.log if target == LOG else open_source(target, self.paper.settings, self)

    def get(self, name: str) -> Connection:
        raise Unreachable(f"{name} is on paper", hint="nothing of it is looked at")

    def engine(self, target: Target) -> Any:
        return self.log if target == LOG else self.paper.engine(target)

    def archive(self, target: Target) -> None:
        return None

    def planned(self, *only: str) -> SetPlan:
        wishes = Wishes(
            destination=DestinationKind.DIRECTORY,
            path=f"{self.paper.folder}/all",
            servers=[f"{TARGET}:{self.paper.settings.checkpoint}"],
            confirm=[str(TARGET)],
            only=only,
        )
        return restore_set.plan(self.pipeline, self.pipeline.catalog.set(SET), wishes, clock=clock)

    def restored(self, plan: SetPlan) -> SetRestored:
        who: dict[str, Any] = {"reason": "a test asks for it", "by": "tests"}
        return restore_set.restore_set(self.pipeline, plan, progress=Quiet(), stop=Stop(), clock=clock, **who)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    paper = Paper(tmp_path)
    yield Both(paper, t=200)
    _driver(paper).stop()


def test_nothing_of_a_set_is_overwritten_under_a_job_that_was_launched_after_the_plan(both: Both) -> None:
    """Whoever keeps jobs running launches one that has crashed, and people take a day to agree to a plan."""
    plan = both.planned()
    both.paper.journal.claim(1, f"mainstay-{TARGET.name}-1", reason="a test", clock=clock)
    _driver(both.paper).start(ServerSpec(command=["sleep", "600"], directory=both.paper.folder / "engine"))
    with pytest.raises(Refused, match="mainstay-paper-1 is running"):
        both.restored(plan)
    assert both.log.jobs == []


def test_a_job_rests_before_the_first_part_of_its_set_is_overwritten(both: Both) -> None:
    with suppress(MainstayError):  # the log on paper tells no positions
        both.restored(both.planned())
    assert both.log.wished == ["stop"]


def test_a_stream_that_would_find_only_some_of_its_topics_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    both = Both(TwoFlows(tmp_path), t=200, u=200)
    with pytest.raises(Refused, match="u would not be restored with the others"):
        both.planned(f"{LOG}:t", str(TARGET))
    assert len(both.planned().parts) == 2
    assert len(both.planned(str(TARGET)).parts) == 1  # the log stays as it is
