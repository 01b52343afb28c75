"""Work on many nodes at the same time ends together."""

from __future__ import annotations

import time

import pytest

from include.engine.contracts import Stop
from include.engine.errors import Interrupted, Unreachable
from include.engine.systems.cassandra.threads import linked, side_by_side


def patient(stop: Stop, name: str) -> str:
    """Work for a minute, unless it is told to stop."""
    if name == "dead":
        raise Unreachable("dead does not answer", hint="look at it")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stop.check()
        time.sleep(0.01)
    return name


def test_the_first_error_ends_the_work_of_the_others_and_is_the_one_that_is_told() -> None:
    outer = Stop()
    together = linked(outer)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="dead does not answer"):
        side_by_side(lambda name: patient(together, name), ["a", "b", "dead"], stop=together)
    assert time.monotonic() - began < 10
    assert together.reason == "another one failed: dead does not answer"
    assert not outer.stopped  # whoever asked may try again


def test_a_wish_to_stop_reaches_all_of_them() -> None:
    outer = Stop()
    together = linked(outer)
    outer.stop("killed")
    with pytest.raises(Interrupted, match="killed"):
        side_by_side(lambda name: patient(together, name), ["a", "b"], stop=together)


def test_what_has_not_begun_when_one_fails_does_not_begin() -> None:
    begun: list[int] = []

    def one(n: int) -> None:
        begun.append(n)
        if n == 0:
            raise Unreachable("no", hint="look")
        time.sleep(0.2)

    with pytest.raises(Unreachable):
        side_by_side(one, list(range(50)), at_once=2)
    assert len(begun) < 10
