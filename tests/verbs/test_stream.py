"""When a job is kept, launched, restarted, or a person is called.  Each case is a story with a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from include.engine.contracts import Stop
from include.engine.errors import Contended, Corrupt, Misconfigured, PermanentError, Unreachable
from include.engine.streaming import FlowSeen, Life, StreamPolicy, StreamSeen
from include.engine.verbs import stream
from include.engine.verbs.stream import Act, Stood, Watched, decide

POLICY = StreamPolicy(stalled_after=120, restarts=5)
NOW = 100_000.0


def clock() -> datetime:
    return datetime.fromtimestamp(NOW, UTC)


def flow(behind: int = 0, position: int = 500, seconds: float = 0.0, name: str = "users") -> FlowSeen:
    return FlowSeen(name=name, topic="t", position=position, behind=behind, seconds=seconds)


def seen(*, behind: int = 0, **told: Any) -> StreamSeen:
    given: dict[str, Any] = {
        "job": "spark/main",
        "at": NOW,
        "generation": 1,
        "life": Life.RUNNING,
        "begun": True,
        "launched": NOW - 1000,
        "launches": (NOW - 1000,),
        "flows": (flow(behind),),
    }
    return StreamSeen(**(given | told))


def gone(**told: Any) -> StreamSeen:
    return seen(**({"life": Life.ABSENT} | told))


def stood(seconds: float, **others: float) -> Watched:
    """What is remembered of the flow ``users``, and of *others*: for how many seconds each has stood."""
    flows = {"users": seconds, **others}
    return Watched(flows={name: Stood(position=500, moved=NOW - since) for name, since in flows.items()})


TWO = (flow(10), flow(10, name="events"))


CASES = {
    "what moves is kept": (seen(behind=10), stood(5), Act.KEEP),
    "what has nothing to do is kept, however long": (seen(), stood(9000), Act.KEEP),
    "a hung driver says RUNNING and is restarted all the same": (seen(behind=10), stood(121), Act.RESTART),
    "a flow that hangs is not hidden by another that moves": (seen(flows=TWO), stood(121, events=1), Act.RESTART),
    "in whatever order they are": (seen(flows=TWO[::-1]), stood(1, events=121), Act.RESTART),
    "flows that move are kept": (seen(flows=TWO), stood(60, events=1), Act.KEEP),
    "a flow that was declared just now has time": (seen(flows=TWO), stood(60), Act.KEEP),
    "a driver that was just launched has time": (
        seen(behind=10, launched=NOW - 30, launches=(NOW - 30,)),
        stood(900),
        Act.KEEP,
    ),
    "one that starts is let start": (
        seen(begun=False, launched=NOW - 200, launches=(NOW - 200,)),
        stood(900),
        Act.KEEP,
    ),
    "one that never begins is restarted": (
        seen(begun=False, launched=NOW - 400, launches=(NOW - 400,)),
        stood(0),
        Act.RESTART,
    ),
    "what was never launched is": (gone(generation=0, launches=(), launched=None), stood(0), Act.LAUNCH),
    "what died is launched again": (gone(), stood(0), Act.LAUNCH),
    "the second launch waits 10 s": (gone(launches=(NOW - 4,)), stood(0), Act.KEEP),
    "the third 30 s": (gone(launches=(NOW - 60, NOW - 29)), stood(0), Act.KEEP),
    "and then it comes": (gone(launches=(NOW - 60, NOW - 31)), stood(0), Act.LAUNCH),
    "a crash loop calls a person": (
        gone(launches=tuple(NOW - n for n in (3000, 2000, 1500, 900, 700, 650))),
        stood(0),
        Act.PAGE,
    ),
    "launches of another hour are forgiven": (
        gone(launches=(NOW - 7000, NOW - 6000, NOW - 5000, NOW - 4000, NOW - 3700, NOW - 700)),
        stood(0),
        Act.LAUNCH,
    ),
    "a hung one that hangs again and again calls a person": (
        seen(behind=1, launches=tuple(NOW - n for n in (3000, 2500, 2000, 1500, 1200, 1000))),
        stood(500),
        Act.PAGE,
    ),
    "a topic made anew is a person's business": (gone(end="recreated", ended=NOW - 5), stood(0), Act.PAGE),
    "so are records that retention took": (gone(end="lost", ended=NOW - 5), stood(0), Act.PAGE),
    "a topic that is not there is one, too": (gone(flows=(), unread="Kafka has no topic t"), stood(0), Act.PAGE),
    "also of a job that runs": (seen(flows=(), unread="Kafka has no topic t"), stood(0), Act.PAGE),
    "but not of one that is to rest": (gone(wish="stop", flows=(), unread="Kafka has no topic t"), stood(0), Act.KEEP),
    "until the person says that it is mended": (
        gone(end="lost", ended=NOW - 500, wish_at=NOW - 5),
        stood(0),
        Act.LAUNCH,
    ),
    "that also forgives the launches": (
        gone(launches=tuple(NOW - n for n in (3000, 2000, 1500, 900, 700, 650)), wish_at=NOW - 5),
        stood(0),
        Act.LAUNCH,
    ),
    "what failed by itself is launched again": (gone(end="failed", ended=NOW - 5), stood(0), Act.LAUNCH),
    "what a person stopped rests": (gone(wish="stop", wish_at=NOW - 9000, end="stopped"), stood(0), Act.KEEP),
    "what is to stop is given time": (seen(wish="stop", wish_at=NOW - 60), stood(0), Act.KEEP),
    "and is ended when it does not listen": (seen(wish="stop", wish_at=NOW - 130), stood(0), Act.END),
    "what drains is not hurried": (seen(wish="drain", wish_at=NOW - 5000, behind=10), stood(0), Act.KEEP),
}


@pytest.mark.parametrize("name", CASES)
def test_decision(name: str) -> None:
    what, watched, act = CASES[name]
    decision = decide(what, watched, POLICY)
    assert decision.act is act, decision.why
    assert decision.why


LOST = gone(end="lost", ended=NOW - 900)


@pytest.mark.parametrize(
    ("what", "waits"),
    [
        (seen(), True),
        (LOST, False),
        (msgspec.structs.replace(LOST, paged=NOW - 800), True),
        (gone(), False),
        (gone(paged=NOW - 599), True),
        (gone(paged=NOW - 601), False),
    ],
    ids=[
        "what is kept", "what needs a person", "who was called already", "what can be launched",
        "and could not be a moment ago", "is tried again after ten minutes",
    ],
)  # fmt: skip
def test_there_is_nothing_to_do_but_to_look_again(what: StreamSeen, waits: bool) -> None:
    assert decide(what, stood(0), POLICY).waits(what) is waits


def test_having_nothing_to_do_counts_as_moving() -> None:
    first = Watched().after(seen(behind=10))
    assert first == stood(0)
    later = msgspec.structs.replace(seen(behind=10), at=NOW + 50)
    assert first.after(later) == first
    assert first.after(msgspec.structs.replace(later, flows=(flow(),))) == stood(-50)
    moved = first.after(msgspec.structs.replace(later, flows=(flow(10, position=501), TWO[1])))
    assert moved.flows["users"] == Stood(position=501, moved=NOW + 50)
    assert moved.after(msgspec.structs.replace(later, flows=TWO)).flows["events"].moved == NOW + 50


class Scripted:
    """A job that tells what a test wrote down, and notes what is done to it."""

    name = "spark/main"
    policy = POLICY

    def __init__(self, *looks: StreamSeen | Exception) -> None:
        self.looks = list(looks)
        self.done: list[str] = []
        self.taken = False
        self.broken = False

    def look(self, clock: Any) -> StreamSeen:
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(found, Exception):
            raise found
        return found

    def launch(self, *, after: int | None = None, reason: str, clock: Any) -> str:
        if self.taken:
            raise Contended("somebody else launches it", hint="look again")
        if self.broken:
            raise Corrupt("the checkpoint is damaged", hint="restore it")
        self.done.append(f"launch after {after}")
        return "app"

    def end(self, *, launch: int | None = None, kill: bool = False) -> None:
        self.done.append(f"end {launch}")

    def say(self, action: str, *, reason: str, by: str, clock: Any) -> None:
        self.done.append(f"{action}: {reason}")

    def call(self, seen: StreamSeen, why: str, clock: Any) -> None:
        self.done.append("call")

    def logs(self) -> str:
        return ""


class Quiet:
    def stage(self, name: str, total_bytes: int | None = None) -> None: ...

    def advance(self, bytes_: int) -> None: ...

    def say(self, text: str) -> None: ...


def keep(job: Scripted) -> StreamSeen:
    return stream.keep(
        job,
        progress=Quiet(),
        stop=Stop(),
        clock=clock,
        until=lambda s: s.at > NOW + 1,
        sleep=lambda _: None,
    )


def test_keeping_launches_what_died_and_does_nothing_while_nobody_knows() -> None:
    away = Unreachable("Kafka does not answer", hint="wait")
    job = Scripted(away, gone(), away, seen(at=NOW + 5))
    assert keep(job).life is Life.RUNNING
    assert job.done == ["launch after 1"]


def test_a_hung_job_is_ended_before_it_is_launched_again() -> None:
    job = Scripted(seen(behind=9, at=NOW - 500), seen(behind=9), seen(at=NOW + 5))
    keep(job)
    assert job.done == ["end 1", "launch after 1"]


def test_two_who_launch_at_once_are_one_launch() -> None:
    job = Scripted(gone(), seen(at=NOW + 5))
    job.taken = True
    assert keep(job).at == NOW + 5


def test_what_needs_a_person_is_raised_with_the_runbook() -> None:
    with pytest.raises(PermanentError, match="made again") as raised:
        keep(Scripted(gone(end="recreated", ended=NOW)))
    assert "stream-failed" in raised.value.hint


def test_a_wish_needs_a_reason_and_a_known_word() -> None:
    job = Scripted(seen())
    with pytest.raises(Misconfigured):
        stream.wish(job, "pause", reason="because I said so", by="me", clock=clock)
    with pytest.raises(Misconfigured):
        stream.wish(job, "stop", reason="because", by="me", clock=clock)
    stream.wish(job, "stop", reason="new cluster tonight", by="me", clock=clock)
    assert job.done == ["stop: new cluster tonight"]
