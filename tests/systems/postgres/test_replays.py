"""For how long a replay has stood still, from what earlier sweeps have read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.engine.model import Reading
from include.engine.systems.postgres.replays import BEHIND, REPLAYED, stood

NOW = datetime(2026, 11, 23, 2, tzinfo=UTC)
Look = tuple[float, float, float]  # seconds ago, position, bytes behind


def past(*looks: Look, standby: str = "b") -> list[Reading]:
    return [
        Reading(metric=metric, value=value, unit="bytes", at=NOW - timedelta(seconds=ago), labels={"standby": standby})
        for ago, replayed, behind in looks
        for metric, value in ((REPLAYED, replayed), (BEHIND, behind))
    ]


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        ([], 0),
        ([(300, 7, 10), (600, 7, 5)], 600),
        ([(600, 7, 5), (300, 7, 10)], 600),
        ([(300, 7, 10), (600, 6, 5), (900, 7, 5)], 300),
        ([(300, 7, 10), (600, 7, 0), (900, 7, 5)], 300),
        ([(300, 6, 10)], 0),
        ([(-300, 6, 10), (300, 7, 10)], 300),
    ],
    ids=[
        "nobody has looked before", "since the first look", "in whatever order", "it has moved since",
        "it had nothing to do", "it moves", "a look of a clock that was ahead",
    ],
)  # fmt: skip
def test_a_replay_stands_since_it_had_something_to_do_and_did_nothing(looks: list[Look], seconds: float) -> None:
    assert stood(past(*looks), "b", 7, NOW) == seconds


def test_another_standbys_replay_is_its_own() -> None:
    assert stood(past((300, 7, 10), standby="c"), "b", 7, NOW) == 0
