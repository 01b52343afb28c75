"""The life of a streaming job: what it writes, what it refuses, how it dies and comes back, and what a backup of it is worth."""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from datetime import UTC, datetime

import pytest

from include.engine.streaming import Life
from tests.integration.spark.brook import Brook, clock

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def person(number: int) -> dict[str, object]:
    return {
        "id": str(uuid.UUID(int=number + 1, version=4)),
        "first_name": f"F{number}",
        "email": f"u{number}@example.com",
    }


def event(number: int) -> dict[str, object]:
    made = uuid.UUID(int=(number << 64) | (1 << 60) | number, version=1)
    return {
        "event_id": str(made),
        "user_id": str(uuid.UUID(int=number % 7 + 1, version=4)),
        "event_type": "click",
        "created_at": datetime.fromtimestamp(1_790_000_000 + number * 60, UTC).isoformat(),
        "properties": {"page": f"/{number}"},
        "device": {"kind": "phone", "version": number % 5},
    }


def test_a_job_lives_dies_and_loses_nothing(brook: Brook) -> None:
    stream = brook.stream()
    brook.send(brook.users, [person(n) for n in range(2000)])
    brook.send(brook.users, [b"{broken", b'{"id": "7"}', None, person(1) | {"a_new_field": {"x": 1}}])
    brook.send(brook.events, [event(n) for n in range(500)])
    brook.send(brook.events, [event(1) | {"event_id": str(uuid.uuid4())}, event(2) | {"created_at": "soon"}])
    stream.launch(reason="a test", clock=clock)
    seen = brook.caught_up(stream, 2506)
    assert (brook.count(brook.users_table), brook.count(brook.events_table)) == (2000, 500)
    letters = brook.letters(brook.users)
    assert sorted(one["reason"] for one in letters) == ["bad_id", "bad_json", "no_value"]
    assert {one["source_topic"] for one in letters} == {brook.users}
    assert len({(one["source_partition"], one["source_offset"]) for one in letters}) == 3
    assert sorted(one["reason"] for one in brook.letters(brook.events)) == ["bad_id", "no_time"]
    assert {flow.name: flow.dead_letters for flow in seen.flows} == {"users": 3, "events": 2}
    assert seen.seconds == 0

    # kill -9 in the middle of traffic: nothing is lost, nothing doubled.
    dice = random.Random(7)
    for start in range(2000, 8000, 500):
        brook.send(brook.users, [person(n) for n in range(start, start + 500)])
        if start == 4000:
            os.kill(brook.pid(stream), signal.SIGKILL)
        time.sleep(dice.random() / 5)
    seen = brook.until(stream, lambda seen: seen.life is Life.ABSENT, "the driver is dead")
    assert seen.end == ""
    assert seen.behind > 0
    cut = brook.source().freeze("20261123T020000Z", clock)  # while the job is down
    assert sum(cut.offsets[brook.users].values()) < 8004
    stream.launch(reason="it died", clock=clock)
    brook.caught_up(stream, 8506)
    assert brook.count(brook.users_table) == 8000
    stream.say("stop", reason="enough of it", by="a test", clock=clock)
    seen = brook.until(stream, lambda seen: seen.life is Life.ABSENT, "it stops")
    assert seen.end == "stopped"
