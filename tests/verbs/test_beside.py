"""Parts of a set are worked on side by side: what one takes, says and fails at is its own, and a wave is as long as its slowest."""

from __future__ import annotations

import threading

import pytest

from include.engine.contracts import Progress
from include.engine.errors import PermanentError
from include.engine.model import Stage, Target
from include.engine.verbs.beside import beside_each_other
from include.engine.verbs.drill import to_be_back

KAFKA, ROWS, SQL, STREAM = (Target.parse(f"{name}/main") for name in ("kafka", "cassandra", "postgres", "spark"))


class Heard:
    """A progress that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.done = 0

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self.told.append(f"== {name} {total_bytes}")

    def advance(self, bytes_: int) -> None:
        self.done += bytes_

    def say(self, text: str) -> None:
        self.told.append(text)


def test_all_are_at_work_at_the_same_time_and_each_gives_its_own() -> None:
    heard, meeting = Heard(), threading.Barrier(2, timeout=30)

    def work(target: Target, progress: Progress) -> str:
        meeting.wait()  # breaks when the other one has not begun
        progress.stage("load records", 7)
        progress.advance(7)
        progress.say(f"{target} is loaded")
        return target.name + target.system

    found = beside_each_other({KAFKA: 7, ROWS: 5}, work, what="restore", progress=heard)
    assert found == {KAFKA: "mainkafka", ROWS: "maincassandra"}
    assert heard.told[0] == "== restore kafka/main, cassandra/main 12"
    assert heard.done == 14
    assert sorted(heard.told[1:]) == [
        "cassandra/main is loaded",
        "cassandra/main: load records",
        "kafka/main is loaded",
        "kafka/main: load records",
    ]


def test_one_alone_tells_its_own_stages() -> None:
    heard = Heard()
    beside_each_other({KAFKA: 7}, lambda _, progress: progress.stage("load", 7), what="restore", progress=heard)
    assert heard.told == ["== load 7"]
    assert beside_each_other({}, lambda _, progress: progress.stage("load"), what="restore", progress=heard) == {}
    assert heard.told == ["== load 7"]


def test_an_error_comes_when_the_others_have_ended() -> None:
    failed, ended = threading.Event(), threading.Event()

    def work(target: Target, progress: Progress) -> None:
        if target == KAFKA:
            failed.set()
            raise PermanentError("the log is gone", hint="look")
        assert failed.wait(30)
        ended.set()

    with pytest.raises(PermanentError, match="the log is gone"):
        beside_each_other({KAFKA: 1, ROWS: 1}, work, what="restore", progress=Heard())
    assert ended.is_set()


def stages(*seconds: float, besides: float = 0.0) -> tuple[Stage, ...]:
    counted = tuple(Stage(name=str(n), seconds=took) for n, took in enumerate(seconds))
    return (*counted, Stage(name="checks", seconds=besides, counts=False))


@pytest.mark.parametrize(
    ("took", "seconds"),
    [
        ({KAFKA: stages(1, 2)}, 3),
        ({KAFKA: stages(1, 2), ROWS: stages(10, 1), SQL: stages(4)}, 11),
        ({KAFKA: stages(1, 2), ROWS: stages(10, 1), STREAM: stages(20, 2)}, 33),
        ({ROWS: stages(2, besides=100), SQL: stages(4)}, 4),
        ({STREAM: stages(5)}, 5),
        ({}, 0),
    ],
    ids=["one", "the slowest of a wave", "a stream after them", "checks do not count", "a stream alone", "none"],
)
def test_the_pipeline_is_back_when_the_slowest_of_each_wave_is(
    took: dict[Target, tuple[Stage, ...]], seconds: float
) -> None:
    assert to_be_back(took) == seconds
