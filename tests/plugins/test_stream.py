"""The stream's operators and triggers on a scripted job: what is done, what is waited for, what is left to a person."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.plugins.conftest import context  # isort: skip  # sets Airflow up

from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import TriggerEvent

from include.engine.errors import Incomplete, PermanentError, Unreachable
from include.engine.streaming import Life, StreamSeen
from mainstay.hooks.mainstay import MainstayHook
from mainstay.operators.stream import KeepStreamOperator, WishStreamOperator
from mainstay.triggers.stream import AtRestTrigger, StreamTrigger
from tests.verbs.test_stream import NOW, Scripted, gone, seen

JOB = "spark/main"


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted(seen())
    monkeypatch.setattr(MainstayHook, "stream", lambda self, name: scripted)
    return scripted


def deferred(operator: Any, **params: Any) -> Any:
    with pytest.raises(TaskDeferred) as told:
        operator.execute(context(**params))
    return told.value.trigger


async def fired(trigger: Any) -> Any:
    async for event in trigger.run():
        assert isinstance(event, TriggerEvent)
        return event.payload
    raise AssertionError


def keeper() -> KeepStreamOperator:
    return KeepStreamOperator(task_id="keep", job=JOB)


def test_a_job_that_is_not_there_is_launched_and_waited_for_without_a_worker(job: Scripted) -> None:
    job.looks = [gone(generation=0, launches=(), launched=None)]
    trigger = deferred(keeper())
    assert job.done == ["launch after 0"]
    assert isinstance(trigger, StreamTrigger)


def test_a_job_that_runs_is_found_and_left_alone(job: Scripted) -> None:
    deferred(keeper())
    assert job.done == []


def test_a_keeper_ends_its_shift_and_says_how_the_job_was(job: Scripted) -> None:
    event = {"watched": {"flows": {"users": {"position": 500, "moved": NOW}}}, "until": time.time() - 1}
    told = keeper().execute_complete(context(), event)
    assert told == {"job": JOB, "launch": 1, "behind": 0, "seconds": 0.0}


def test_what_no_restart_mends_fails_for_good(job: Scripted) -> None:
    job.looks = [gone(end="recreated", ended=NOW)]
    with pytest.raises(PermanentError, match="made again"):
        keeper().execute(context())
    assert job.done == ["call"]


async def test_a_person_is_called_once_and_again_when_the_shift_is_over(job: Scripted) -> None:
    lost = gone(end="lost", ended=NOW, paged=NOW)
    job.looks = [lost]
    trigger = deferred(keeper())  # the run after the one that called
    assert job.done == []
    trigger.until = time.time() + 0.2
    trigger.poll_interval = 0.05
    event = await fired(trigger)
    assert len(job.looks) == 1
    assert time.time() >= trigger.until  # it looked, and nothing had changed
    with pytest.raises(PermanentError, match="retention"):
        keeper().execute_complete(context(), event)
    assert job.done == ["call"]

    # What a person says ends the waiting at once.
    mended = gone(end="lost", ended=NOW, wish_at=NOW + 1)
    job.looks = [lost, mended]
    event = await fired(StreamTrigger(job=JOB, watched={}, until=time.time() + 60, poll_interval=0))
    with pytest.raises(TaskDeferred):
        keeper().execute_complete(context(), event)
    assert job.done == ["call", "launch after 1"]


def test_a_launch_that_no_retry_mends_calls_a_person_once_as_well(job: Scripted) -> None:
    job.broken = True
    job.looks = [gone()]
    with pytest.raises(PermanentError, match="damaged"):
        keeper().execute(context())
    job.looks = [gone(paged=NOW - 30)]
    deferred(keeper())
    job.looks = [gone(paged=NOW - 700)]  # tried again after a while, for nobody else can tell that it is mended
    deferred(keeper())
    assert job.done == ["call", "call"]


async def test_a_trigger_fires_on_progress_and_not_on_silence(job: Scripted) -> None:
    away = Unreachable("Kafka does not answer", hint="wait")
    job.looks = [seen(behind=9, at=NOW - 500), away, seen(behind=9, at=NOW - 490), seen(behind=9)]
    trigger = StreamTrigger(job=JOB, watched={}, until=time.time() + 60, poll_interval=0)
    event = await fired(trigger)
    assert event["watched"] == {"flows": {"users": {"position": 500, "moved": NOW - 500}}}
    assert job.done == []  # it only looks: two triggerers would act twice


async def test_a_trigger_fires_when_the_shift_is_over(job: Scripted) -> None:
    event = await fired(StreamTrigger(job=JOB, watched={}, until=time.time() - 1, poll_interval=0))
    assert event["until"] < time.time()


@pytest.mark.parametrize(
    "trigger",
    [
        StreamTrigger(
            job=JOB, watched={"flows": {"users": {"position": 3, "moved": 1.0}}}, until=5.0, poll_interval=2.0
        ),
        AtRestTrigger(job=JOB, until=5.0),
    ],
    ids=["stream", "at rest"],
)
def test_a_trigger_survives_its_triggerer(trigger: Any) -> None:
    path, kwargs = trigger.serialize()
    assert path == f"mainstay.triggers.stream.{type(trigger).__name__}"
    assert type(trigger)(**kwargs).serialize() == (path, kwargs)


async def test_a_wish_is_said_once_and_rest_is_awaited(job: Scripted) -> None:
    params = {"action": "drain", "reason": "a new cluster tonight"}
    operator = WishStreamOperator(task_id="wish", job=JOB)
    trigger = deferred(operator, **params)
    assert job.done == ["drain: a new cluster tonight"]
    said: dict[str, Any] = {"wish": "drain", "wish_reason": params["reason"]}
    job.looks = [seen(**said, wish_by="the DAG stream_control, run 20261123T020000Z")]
    deferred(operator, **params)  # a retry
    assert len(job.done) == 1
    job.looks = [seen(**said, wish_by="the DAG stream_control, run 20261116T020000Z")]
    deferred(operator, **params)  # the same form as last week is another wish
    assert job.done == ["drain: a new cluster tonight"] * 2
    rest: list[StreamSeen | Exception] = [seen(wish="drain"), gone(wish="drain", end="drained")]
    job.looks = rest
    trigger.poll_interval = 0
    event = await fired(trigger)
    assert event == {"rests": True, "behind": 0, "end": "drained"}
    assert operator.execute_complete(context(**params), event)["end"] == "drained"
    with pytest.raises(Unreachable, match="did not come to rest"):
        operator.execute_complete(context(**params), event | {"rests": False})
    with pytest.raises(Incomplete, match="has not drained: it failed"):
        operator.execute_complete(context(**params), event | {"end": "failed"})
    assert operator.execute_complete(context(action="stop"), event | {"end": "failed"})["end"] == "failed"


def test_a_wish_to_run_waits_for_nobody(job: Scripted) -> None:
    told = WishStreamOperator(task_id="wish", job=JOB).execute(context(action="run", reason="the table is there now"))
    assert told == {"job": JOB, "wish": "run"}
    assert job.looks[0].life is Life.RUNNING  # type: ignore[union-attr]
