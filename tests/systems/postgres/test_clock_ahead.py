"""How far the server's clock is ahead is told apart from how long the question took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.engine.systems.postgres.backup import clock_ahead

ASKED = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "took", "ahead"),
    [
        (0.1, 0.2, 0.0),
        (1.0, 0.2, 0.0),  # within a second
        (300.1, 0.2, 300.0),
        (-299.9, 0.2, -300.0),
        (9.0, 20.0, 0.0),  # a slow answer may have been given at any time of it
        (300.0, 20.0, 290.0),
    ],
)
def test_a_difference_counts_beyond_what_the_question_explains(said: float, took: float, ahead: float) -> None:
    at, answered = (ASKED + timedelta(seconds=seconds) for seconds in (said, took))
    assert clock_ahead(at, ASKED, answered) == ahead
