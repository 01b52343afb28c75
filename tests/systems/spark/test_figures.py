"""What is told of a flow's batches: of one that rests, not what its last batch was like."""

from __future__ import annotations

from include.engine.streaming import FlowSeen
from include.engine.systems.spark.probes import figures

NOW = 100_000.0


def flow(*, behind: int = 0, since: float = 30.0) -> FlowSeen:
    return FlowSeen(
        name="users",
        topic="t",
        position=500,
        behind=behind,
        seconds=0.0,
        batch=7,
        batch_seconds=45.0,
        input_rate=100.0,
        processed_rate=50.0,
        dead_letters=3,
        at=NOW - since,
    )


def told(seen: FlowSeen) -> list[float | None]:
    found = figures(seen, NOW)
    names = ("batch_duration", "input_rate", "processed_rate", "dead_letters")
    return [found[f"spark.flow.{name}"][0] for name in names]


def test_a_batch_that_ended_just_now_is_told() -> None:
    assert told(flow()) == [45.0, 100.0, 50.0, 3]


def test_one_slow_batch_before_a_quiet_night_is_not_told_until_the_morning() -> None:
    assert told(flow(since=700)) == [0.0, 0.0, 0.0, 3]


def test_a_batch_that_takes_long_is_told_while_records_wait() -> None:
    assert told(flow(behind=9, since=700)) == [45.0, 100.0, 50.0, 3]
    assert told(FlowSeen(name="users", topic="t", position=0, behind=0, seconds=0.0))[0] is None
