"""Traffic with broken records in it, a job that is kept running meanwhile, and the count when both are over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from include.engine.errors import TransientError
from include.engine.systems.spark.stream import SparkStream
from include.engine.verbs.stream import Act, Watched, act, decide
from tests.estate import clock
from tests.integration.spark.brook import Brook
from tests.integration.spark.test_stream import person

PATIENCE = 600.0  # seconds


@dataclass
class Sent:
    """What was sent so far: users, and records that no job can read."""

    users: int = 0
    broken: int = 0

    @property
    def records(self) -> int:
        """Of both kinds."""
        return self.users + self.broken


@contextmanager
def traffic(brook: Brook, *, pause: float = 0.2, first: int = 0) -> Iterator[Sent]:
    """Send users until the context ends, with a broken record after every ten of them.

    :param first: number of the first user
    """
    over, sent, failed = threading.Event(), Sent(), list[BaseException]()

    def flow() -> None:
        try:
            while not over.wait(pause):
                brook.send(brook.users, [person(first + n) for n in range(sent.users, sent.users + 10)])
                sent.users += 10
                brook.send(brook.users, [b"{broken"])
                sent.broken += 1
        except BaseException as error:  # noqa: BLE001 - raised where the test is
            failed.append(error)

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()
    if failed:
        raise failed[0]


def kept_until(stream: SparkStream, records: int) -> None:
    """Keep the job as its DAG does, until it has done *records*: under traffic there are always some that wait."""
    watched, deadline = Watched(), time.monotonic() + PATIENCE
    while True:
        try:
            seen = stream.look(clock)
            watched = watched.after(seen)
            decision = decide(seen, watched, stream.policy)
            assert decision.act is not Act.PAGE, decision.why
            act(stream, seen, decision, clock=clock)
            if seen.position >= records:
                return
        except TransientError:
            pass  # nobody knows how it is: look again
        assert time.monotonic() < deadline, stream.logs()
        time.sleep(1)


def require_all(brook: Brook, sent: Sent) -> None:
    """Require that every user that was sent is one row, and every broken record a dead letter: none lost, none invented."""
    rows = brook.count(brook.users_table)
    assert rows == sent.users, f"{rows} rows of {sent.users} users"
    letters = brook.letters(brook.users)
    # A batch that is done again sends its letters again: they are told apart by where they came from.
    places = {(one["source_partition"], one["source_offset"]) for one in letters}
    assert len(places) == sent.broken, f"{len(places)} dead letters of {sent.broken} broken records"
    assert {one["reason"] for one in letters} == {"bad_json"}
