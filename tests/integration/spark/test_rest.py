"""How a job comes to rest: by a wish, which is heard whatever it does, and by itself when its patience with Cassandra is over."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from include.engine.streaming import Life, StreamSeen
from include.engine.systems.spark.stream import SparkStream
from tests.estate import clock
from tests.faults import Gate
from tests.integration.spark.brook import Brook
from tests.integration.spark.test_stream import person

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
PATIENCE = 12


class Source:
    """Sends users, each another."""

    def __init__(self, brook: Brook) -> None:
        self._brook = brook
        self._numbers = itertools.count()
        self.sent = 0

    def send(self, count: int) -> None:
        self._brook.send(self._brook.users, [person(next(self._numbers)) for _ in range(count)])
        self.sent += count

    @contextmanager
    def flowing(self) -> Iterator[None]:
        over = threading.Event()

        def flow() -> None:
            while not over.wait(0.1):
                self.send(5)

        thread = threading.Thread(target=flow)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def wish(stream: SparkStream, action: str) -> None:
    stream.say(action, reason="a test of how it rests", by="tests", clock=clock)


def rests(brook: Brook, stream: SparkStream) -> StreamSeen:
    return brook.until(stream, lambda seen: seen.life is Life.ABSENT, "it rests")


def test_a_drain_ends_under_traffic_and_a_wish_is_heard_while_it_waits_for_cassandra(brook: Brook) -> None:
    source = Source(brook)
    direct = brook.cassandra.connection()
    with Gate(direct.host, direct.port or 9042) as gate:
        brook.connections.known["cassandra"] = replace(direct, host="127.0.0.1", port=gate.port)
        stream = brook.stream(patience=f"{PATIENCE}s", stalled_after="90s")

        def launched() -> None:
            gate.open()
            wish(stream, "run")
            stream.launch(reason="a test", clock=clock)
            brook.until(stream, lambda seen: seen.begun or seen.end, "it begins")
            brook.caught_up(stream, source.sent)

        source.send(300)
        launched()
        with source.flowing():
            brook.until(stream, lambda seen: seen.position > 350, "it is in the middle of it")
            before = source.sent
            wish(stream, "drain")
            seen = rests(brook, stream)
            assert seen.end == "drained", seen.end_reason
        assert before <= seen.position
        assert brook.count(brook.users_table) >= before

        # Cassandra is away, so nothing can be drained: another wish does not wait for it.
        launched()
        gate.shut()
        source.send(50)
        wish(stream, "drain")
        brook.until(stream, lambda seen: seen.behind, "records wait")
        time.sleep(3)  # longer than the job takes to see a wish
        assert stream.look(clock).life is Life.RUNNING
        wish(stream, "stop")
        seen = rests(brook, stream)
        assert (seen.end, seen.paged) == ("stopped", 0)
        stream.call(seen, "a person is called", clock)
        assert stream.look(clock).paged > 0  # until somebody says something, or it is launched

        # Nobody wishes anything more: the batch waits for its patience, once and not in each of Spark's attempts.
        launched()
        assert stream.look(clock).paged == 0
        gate.shut()
        source.send(50)
        began = time.monotonic()
        seen = rests(brook, stream)
        assert PATIENCE <= time.monotonic() - began < 3 * PATIENCE
        assert (seen.end, seen.wish) == ("failed", "run")
        assert "Cassandra" in seen.end_reason or "AllNodesFailed" in seen.end_reason
        launched()
        assert brook.count(brook.users_table) == source.sent
