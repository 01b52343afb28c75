"""Where a number is going: its slope with an interval, and when it meets its limit.  Pure.

The slope is the median of the slopes between all pairs of points, and its interval comes from the ranks of those slopes
(H. Theil, 1950; P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63, 1968, sections 3 and 4):
a few wild points move neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, median

from msgspec import Struct

MOST_POINTS = 200  # pairs grow with the square; more points are joined to medians first
FEWEST_POINTS = 6  # with fewer, any slope lies within the interval

Point = tuple[float, float]  # seconds since an epoch, value


class Trend(Struct, frozen=True, kw_only=True):
    """A slope in units per second.

    :param low: lower end of the interval that holds the true slope with the asked confidence
    :param at: the newest time, in seconds
    :param value: what the line says for then
    """

    slope: float
    low: float
    high: float
    at: float
    value: float
    points: int

    @property
    def rises(self) -> bool:
        """Whether it surely rises."""
        return self.low > 0

    @property
    def falls(self) -> bool:
        """Whether it surely falls."""
        return self.high < 0


class Breach(Struct, frozen=True, kw_only=True):
    """When a limit is met, in seconds from the newest point; ``latest`` is infinite when it may never be."""

    seconds: float
    earliest: float
    latest: float


def trend(points: Sequence[Point], *, confidence: float = 0.95) -> Trend | None:
    """Fit a line; nothing when there are too few points, or all are of the same time.

    :param points: in any order
    :param confidence: of the interval, between 0 and 1
    """
    chosen = thinned(sorted(points), MOST_POINTS)
    slopes = sorted(
        (after[1] - before[1]) / (after[0] - before[0])
        for index, before in enumerate(chosen)
        for after in chosen[index + 1 :]
        if after[0] > before[0]
    )
    if len(chosen) < FEWEST_POINTS or not slopes:
        return None
    slope = median(slopes)
    low, high = _interval(slopes, len(chosen), [value for _, value in chosen], confidence)
    at = chosen[-1][0]
    value = slope * at + median(y - slope * x for x, y in chosen)
    return Trend(slope=slope, low=low, high=high, at=at, value=value, points=len(points))


def time_to(found: Trend, limit: float, *, above: bool) -> Breach | None:
    """Say when the line meets *limit*; nothing when it surely does not move towards it.

    :param above: whether values beyond the limit are above it
    """
    distance = limit - found.value
    if (distance <= 0) if above else (distance >= 0):
        return Breach(seconds=0.0, earliest=0.0, latest=0.0)
    towards, slowest, fastest = (
        (found.slope, found.low, found.high) if above else (-found.slope, -found.high, -found.low)
    )
    if slowest <= 0 or towards <= 0:
        return None
    far = abs(distance)
    return Breach(seconds=far / towards, earliest=far / fastest, latest=far / slowest)


def soon(breach: Breach | None) -> str:
    """Say when a limit is met, and between which times surely: ``in 10.0 h (9.1 to 11.2 h)``; empty when it is not in sight."""
    if breach is None:
        return ""
    if breach.seconds == 0:
        return "now"
    earliest, middle, latest = (seconds / 3600 for seconds in (breach.earliest, breach.seconds, breach.latest))
    return f"in {middle:.1f} h ({earliest:.1f} to {latest:.1f} h)"


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Join neighbours to their medians until there are at most *most* points."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(median(x for x, _ in group), median(y for _, y in group)) for group in groups]


def _interval(slopes: Sequence[float], count: int, values: Sequence[float], confidence: float) -> tuple[float, float]:
    # Variance of Kendall's score with ties among the values (Sen 1968, section 4; Kendall 1955, eq. 4.3).
    ties: dict[float, int] = {}
    for value in values:
        ties[value] = ties.get(value, 0) + 1
    tied = sum(n * (n - 1) * (2 * n + 5) for n in ties.values())
    variance = (count * (count - 1) * (2 * count + 5) - tied) / 18
    width = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(max(variance, 0.0))
    middle = len(slopes) / 2
    lower = max(math.floor(middle - width / 2) - 1, 0)
    upper = min(math.ceil(middle + width / 2), len(slopes) - 1)
    return slopes[lower], slopes[upper]
