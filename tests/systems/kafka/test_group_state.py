"""Burrow's rules: what a group does is told by how its position moves, not by how large its lag is."""

from __future__ import annotations

import pytest

from include.engine.systems.kafka.group_state import GroupState, Sample, judge


def seen(*pairs: tuple[int, int], low: int = 0) -> list[Sample]:
    return [Sample(at=float(i), committed=committed, end=end, low=low) for i, (committed, end) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("samples", "state"),
    [
        ([], GroupState.UNKNOWN),
        (seen((5, 10)), GroupState.UNKNOWN),
        (seen((10, 10), (10, 20), (10, 30)), GroupState.OK),
        (seen((5, 10), (7, 12), (9, 13)), GroupState.OK),
        (seen((5, 10), (6, 12), (7, 14)), GroupState.WARNING),
        (seen((5, 10), (5, 10), (5, 10)), GroupState.STALLED),
        (seen((5, 10), (5, 20), (5, 30)), GroupState.STOPPED),
        (seen((5, 10), (3, 12), (6, 13)), GroupState.REWOUND),
        (seen((10, 10), (3, 12), (6, 13)), GroupState.REWOUND),
        (seen((5, 10), low=7), GroupState.LOSS),
    ],
)
def test_a_group_is_judged_by_how_it_moves(samples: list[Sample], state: GroupState) -> None:
    assert judge(samples) is state
