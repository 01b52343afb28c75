"""Bad days of a stream: a node is killed, two launch it at once, a driver that hung wakes up, the checkpoint is another's."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition

from include.engine.errors import Contended, Refused
from include.engine.sandbox.home import Sandbox
from include.engine.streaming import Life
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.spark.local import LocalEngine
from include.engine.systems.spark.stream import SparkStream
from include.engine.verbs.stream import Act, Decision, Watched, act, decide
from tests.estate import clock, eventually
from tests.integration.spark.brook import Brook
from tests.integration.spark.keeping import kept_until, require_all, traffic
from tests.integration.spark.test_stream import person

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture
def mortal(sandbox: Sandbox, kafka: KafkaCluster) -> Iterator[Brook]:
    """A job whose one node may be killed: what it acknowledges is on its disk, as it is on others' where there are three.

    By default (``commitlog_sync: periodic``) a node that is killed loses what it acknowledged in its last tenth of a second.
    """
    durable = {"auto_snapshot": False, "commitlog_sync": "batch", "commitlog_sync_period": "0ms"}
    cassandra = CassandraServer(sandbox, "mortal", settings=durable).start()
    try:
        with Brook(kafka, cassandra) as brook:
            yield brook
    finally:
        cassandra.stop()


class Eye:
    """Looks at the job's group and topic with another client than the job's watchers, and counts by itself."""

    def __init__(self, brook: Brook) -> None:
        group = brook.settings().group
        self.places = [TopicPartition(brook.users, number) for number in range(3)]
        self.of_group = Consumer({"bootstrap.servers": brook.kafka.bootstrap, "group.id": group, "log_level": 0})
        self.of_topic = Consumer({"bootstrap.servers": brook.kafka.bootstrap, "group.id": "eye", "log_level": 0})

    def close(self) -> None:
        self.of_group.close()
        self.of_topic.close()

    def committed(self) -> list[int]:
        return [one.offset for one in self.of_group.committed(self.places, timeout=10)]

    def oldest(self, committed: list[int]) -> float | None:
        """When the first record that waits was sent, in seconds since the epoch; None when none waits."""
        found = []
        for place, offset in zip(self.places, committed, strict=True):
            first = max(0, offset)
            if self.of_topic.get_watermark_offsets(place, timeout=10)[1] > first:
                self.of_topic.assign([TopicPartition(place.topic, place.partition, first)])
                message = self.of_topic.poll(10)
                assert message is not None
                assert message.error() is None
                found.append(message.timestamp()[1] / 1000)
        return min(found, default=None)


def test_a_killed_node_of_cassandra_loses_nothing_and_the_age_that_is_told_is_true(mortal: Brook) -> None:
    brook = mortal
    stream = brook.stream()
    stream.launch(reason="a test", clock=clock)
    with traffic(brook, pause=0.05) as sent:
        kept_until(stream, 100)

        errors: list[float] = []
        with closing(Eye(brook)) as eye:

            def compared() -> bool:
                before = eye.committed()
                seen = stream.look(clock)
                oldest = eye.oldest(before)
                # Only what nothing changed under can be compared: a batch may end between two questions.
                if seen.behind and oldest is not None and before == eye.committed():
                    errors.append(seen.seconds - (seen.at - oldest))
                return len(errors) >= 5

            eventually(compared, what="five looks between two batches", within=120)
        assert max(map(abs, errors)) < 1.0, errors

        brook.cassandra.kill()
        down = sent.records
        seen = brook.until(stream, lambda seen: seen.behind > 300 and seen.seconds > 5, "records wait")
        assert seen.life is Life.RUNNING
        assert seen.position <= down + 10
        brook.cassandra.start()
        kept_until(stream, sent.records)
    kept_until(stream, sent.records)
    require_all(brook, sent)
    assert stream.look(clock).generation == 1  # the job has waited: nobody had to launch it again


def test_two_launches_at_once_make_one_job_and_a_driver_that_wakes_up_writes_nothing(brook: Brook) -> None:
    streams = [brook.stream(), brook.stream()]
    made, refused = launched_at_once(streams)
    assert (len(made), len(refused)) == (1, 1)
    stream = streams[0]
    assert len(stream.journal.launches()) == 1
    brook.send(brook.users, [person(n) for n in range(100)])
    brook.caught_up(stream, 100)
    hung = brook.pid(stream)

    # It hangs, nobody can end it, and its successor does the work.
    os.kill(hung, signal.SIGSTOP)
    try:
        brook.send(brook.users, [person(n) for n in range(100, 300)])
        stream.launch(reason="the first one hangs", clock=clock)
        brook.caught_up(stream, 300)
        assert brook.count(brook.users_table) == 300
        successor = brook.pid(stream)
        # What it would write now, if it wrote: all 200 records that it had not read when it was stopped.
        with brook.cassandra.connect(timeout=60) as cql:
            cql.rows(f"TRUNCATE {brook.users_table}", timeout=60)
    finally:
        os.kill(hung, signal.SIGCONT)
    ended = partial(stream.engine.life, made[0], None)
    eventually(lambda: ended() is Life.ABSENT, what="the driver that woke up has ended", within=120)
    assert brook.count(brook.users_table) == 0
    # Spark's own log of offsets comes before our fence, where the checkpoint can create a file only once.
    assert {sign for sign in ("fenced", "CONCURRENT_STREAM_LOG_UPDATE") if sign in stream.logs()}

    # Its successor goes on, with what comes now and nothing else.
    brook.send(brook.users, [person(n) for n in range(300, 350)])
    seen = brook.caught_up(stream, 350)
    assert (seen.life, seen.generation) == (Life.RUNNING, 2)
    assert brook.pid(stream) == successor
    assert brook.count(brook.users_table) == 50

    # Who decided when the first one hung, and acts only now, neither ends its successor nor launches another.
    late = msgspec.structs.replace(seen, generation=1)
    assert "launched by somebody else" in act(stream, late, Decision(act=Act.RESTART, why="it hangs"), clock=clock)
    assert brook.pid(stream) == successor
    assert len(stream.journal.launches()) == 2

    # Its checkpoint is not another topic's, whatever the inventory says.
    stream.end()
    flows = brook.settings().model_dump(mode="json")["flows"]
    flows["users"] |= {"topic": f"{brook.prefix}_other"}
    brook.make(f"{brook.prefix}_other", f"{brook.prefix}_other.dead")
    other = brook.stream(flows=flows)
    with pytest.raises(Refused, match=f"is about the topic {brook.users}"):
        other.launch(reason="somebody renamed a topic", clock=clock)
    assert len(stream.journal.launches()) == 2  # what is refused is no launch


def test_a_topic_that_is_not_there_calls_a_person_once_and_its_job_can_be_stopped(brook: Brook) -> None:
    missing = f"{brook.prefix}_later"
    stream = brook.stream(flows={"users": {"shape": "users", "topic": missing, "table": brook.users_table}})
    seen = stream.look(clock)
    assert missing in seen.unread
    decision = decide(seen, Watched(), stream.policy)
    assert (decision.act, decision.waits(seen)) == (Act.PAGE, False)
    stream.call(seen, decision.why, clock)
    again = stream.look(clock)
    assert decide(again, Watched(), stream.policy).waits(again)  # the next run of the DAG calls nobody

    stream.say("stop", reason="its topics come next week", by="tests", clock=clock)
    assert decide(stream.look(clock), Watched(), stream.policy).act is Act.KEEP
    stream.say("run", reason="its topics are to come now", by="tests", clock=clock)
    waits = stream.look(clock)
    stream.call(waits, "it is not there", clock)
    brook.make(missing, f"{missing}.dead")
    there = stream.look(clock)
    assert (there.unread, there.paged) == ("", 0)
    assert decide(there, Watched(), stream.policy).act is Act.LAUNCH  # at once: nobody has to say that it is mended


def launched_at_once(streams: list[SparkStream]) -> tuple[list[str], list[Contended]]:
    """Launch one job by several who saw that it was never launched; give what was made, and who came too late."""
    made: list[str] = []
    refused: list[Contended] = []
    for stream in streams:
        assert isinstance(stream.engine, LocalEngine)  # opened before, so that they meet
    together = threading.Barrier(len(streams))

    def launch(stream: SparkStream) -> None:
        together.wait()
        try:
            made.append(stream.launch(after=0, reason="a test", clock=clock))
        except Contended as error:
            refused.append(error)

    threads = [threading.Thread(target=launch, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made, refused
