"""The life of a streaming job: what it writes, what it refuses, how it dies and comes back, and what a backup of it is worth."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition as Place
from kafka.errors import NoError

from include.engine import lookout
from include.engine.contracts import Connection, Stop
from include.engine.errors import Corrupt, Refused
from include.engine.model import DestinationKind, Verdict
from include.engine.streaming import Life
from include.engine.systems.kafka.client import open_admin
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.spark.stream import SparkStream
from include.engine.verbs import restore
from include.engine.verbs.stream import Act, Watched, decide
from tests.estate import Quiet, clock, eventually
from tests.integration.spark.brook import TARGET, Brook
from tests.integration.sweeping import Sweeping

SET = "20261123T020000Z"
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
        "user_id": str(uuid.UUID(int=number // 5 + 1, version=4)),  # of few rows, as samples of partitions are
        "event_type": "click",
        "created_at": datetime.fromtimestamp(1_790_000_000 + number * 60, UTC).isoformat(),
        "properties": {"page": f"/{number}"},
        "device": {"kind": "phone", "version": number % 5},
    }


def test_a_job_lives_dies_and_loses_nothing(
    brook: Brook, object_store: ObjectStoreServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    sweeping = brook.sweeping(tmp_path)
    sweeping.tolerate("spark-late", 0.5)
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
    sweeping.until(lambda rules: not rules, "spark")  # a healthy stream has no finding
    sweeping.tolerate("spark-dead-letters", 2)
    (letters_found,) = sweeping.awaited("spark-dead-letters", "spark")
    assert (letters_found.labels["flow"], letters_found.value) == ("users", 3)
    sweeping.tolerate("spark-dead-letters", 3)
    sweeping.gone("spark-dead-letters", "spark")

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
    brook.freeze(SET)  # while the job is down
    sweeping.until(lambda rules: {"spark-late", "spark-stopped"} <= rules, "spark")
    stream.launch(reason="it died", clock=clock)
    brook.caught_up(stream, 8506)
    sweeping.until(lambda rules: not rules & {"spark-late", "spark-stopped"}, "spark")
    assert brook.count(brook.users_table) == 8000
    stream.say("stop", reason="enough of it", by="a test", clock=clock)
    seen = brook.until(stream, lambda seen: seen.life is Life.ABSENT, "it stops")
    assert seen.end == "stopped"
    assert "spark-stopped" not in sweeping.rules("spark")  # somebody wished it
    what_only_a_checkpoint_shows(brook, sweeping)

    # The backup, taken in the middle, restored into an object store: the job replays from it, and the rows are the same.
    manifest = brook.copy(SET)
    assert sum(manifest.cut.offsets[brook.users].values()) < 8004
    assert [flow.idempotent for flow in manifest.cut.flows] == [True, True]
    before = brook.rows(brook.users_table), brook.rows(brook.events_table)
    place = f"s3://{bucket}/restored"
    brook.connections.known["store"] = Connection(
        login=object_store.access_key,
        password=object_store.secret_key,
        extra={"endpoint_url": object_store.endpoint},
    )
    there: Any = {"destination": DestinationKind.SERVER, "server": f"store={place}"}
    plan = restore.plan(brook.pipeline, TARGET, **there)
    restored = restore.restore(
        brook.pipeline,
        plan,
        reason="a replay is to be the same",
        by="tests",
        progress=Quiet(),
        stop=Stop(),
        clock=clock,
    )
    assert restored.verdict is Verdict.PASS, restored.checks
    with pytest.raises(Refused, match="not empty"):
        restore.plan(brook.pipeline, TARGET, **there)
    again = brook.stream(checkpoint=place, connection="store")
    assert again.journal.topic("users") == stream.journal.topic("users") is not None
    states = again.inspect()
    assert {topic: sum(p.values()) for state in states.values() for topic, p in state.offsets.items()} == {
        topic: sum(p.values()) for topic, p in manifest.cut.offsets.items()
    }
    again.launch(reason="a replay", clock=clock)
    brook.send(brook.users, [person(8000)])
    brook.until(again, lambda seen: seen.begun or seen.end, "it begins")
    brook.caught_up(again, 8507)
    assert set(before[0]) < set(brook.rows(brook.users_table))
    assert brook.rows(brook.events_table) == before[1]
    assert brook.count(brook.users_table) == 8001

    # Cassandra hangs for longer than a request may take: the batch waits, and nothing is lost.
    node = brook.cassandra.nodes[0].process.pid
    assert node is not None
    os.kill(node, signal.SIGSTOP)
    try:
        began = time.time()
        brook.send(brook.users, [person(n) for n in range(8001, 8301)])
        brook.send(brook.events, [event(500)])  # alone in its batch
        sent = time.time()
        seen = brook.until(again, lambda seen: seen.behind and seen.seconds > 12, "records wait")
        assert seen.life is Life.RUNNING
        assert began - 1 < seen.at - seen.seconds < sent + 1  # when the first that waits was sent, to the second
    finally:
        os.kill(node, signal.SIGCONT)
    brook.caught_up(again, 8808)
    assert brook.count(brook.users_table) == 8301
    sweeping.declare("expect", spark={"batch_seconds": 5})
    (slow,) = sweeping.awaited("spark-batch", "spark", flow="events")
    assert slow.value is not None
    assert slow.value > 5
    numbers = itertools.count(501)

    def quick_again() -> bool:
        """Whether a batch of one event is: on a busy machine it need not be the first."""
        number = next(numbers)
        brook.send(brook.events, [event(number)])
        brook.caught_up(again, 8308 + number)
        return not sweeping.found("spark-batch", "spark", flow="events")

    eventually(quick_again, within=240, what="a batch takes less than five seconds")
    forgotten_by_kafka(brook, again)

    # The topic is made anew under the job: it ends at once, and says why, rather than reading on.
    brook.remake(brook.users)
    brook.send(brook.users, [person(n) for n in range(9000, 9100)])
    seen = brook.until(again, lambda seen: seen.life is Life.ABSENT and seen.end, "it refuses")
    assert seen.end == "recreated", seen.end_reason
    assert decide(seen, Watched(), again.policy).act is Act.PAGE
    assert brook.count(brook.users_table) == 8301


def forgotten_by_kafka(brook: Brook, stream: SparkStream) -> None:
    """A group without members is forgotten a week after its last commit: the idle job says it again, and has no backlog."""
    group = brook.settings().group_of(TARGET.name)
    with open_admin(brook.kafka.connection()) as admin:
        places = [Place(*tp) for tp in admin.committed([group])[group]]
        assert set(admin.client.delete_group_offsets(group, places).values()) == {NoError}
    seen = brook.until(stream, lambda seen: not seen.behind, "the job has committed what it had committed")
    assert (seen.seconds, seen.generation) == (0, 1)
    assert {flow.batch is not None for flow in seen.flows} == {True}


def what_only_a_checkpoint_shows(brook: Brook, sweeping: Sweeping) -> None:
    """A group that does not follow it makes the lag a lie; a part of it that no flow has is in no backup."""
    group = brook.settings().group_of(TARGET.name)
    with open_admin(brook.kafka.connection()) as admin:
        at = admin.committed([group])[group]
        behind = next(tp for tp in at if tp.topic == brook.users and at[tp][0] > 0)
        admin.commit(group, {behind: (0, at[behind][1])})
        (found,) = sweeping.awaited("spark-audit", "spark")
        assert (found.labels["flow"], found.value) == ("users", at[behind][0])
        admin.commit(group, {behind: at[behind]})
    sweeping.gone("spark-audit", "spark")
    assert sweeping.found("coverage", "backups") == []
    forgotten = brook.directory / "checkpoint" / "forgotten"
    forgotten.mkdir()
    (forgotten / "metadata").write_text("{}")
    (gap,) = sweeping.awaited("coverage", "backups")
    assert "the checkpoint of forgotten" in gap.labels["what"]
    shutil.rmtree(forgotten)
    sweeping.gone("coverage", "backups")


def test_what_no_restart_mends_is_refused_before_anything_is_written(brook: Brook) -> None:
    flows = brook.settings().model_dump()["flows"]
    flows["users"]["replaced"] = {"id": "uuid()"}
    flows["events"]["replaced"] = {"event_type": "cast(current_timestamp() as string)"}
    stream = brook.stream(flows=flows)
    brook.send(brook.users, [person(1)])
    stream.launch(reason="a test", clock=clock)
    seen = brook.until(stream, lambda seen: seen.life is Life.ABSENT and seen.end, "it refuses")
    assert seen.end == "unrepeatable"
    assert "uuid" in seen.end_reason
    assert brook.count(brook.users_table) == 0

    place = brook.directory / "checkpoint" / "users"
    (place / "commits").mkdir(parents=True, exist_ok=True)
    (place / "commits" / "4").write_text('v1\n{"nextBatchWatermarkMs":0}')
    with pytest.raises(Corrupt, match="checkpoint of users"):
        stream.launch(reason="it is damaged", clock=clock)
    newest = stream.journal.newest()
    assert newest is not None
    assert newest.generation == 1  # what is refused is no launch
