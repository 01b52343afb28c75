"""Distributions of latencies: counted sparsely while the load runs, then an HdrHistogram, which merges without loss."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate

from hdrh.histogram import HdrHistogram

from include.engine.errors import Corrupt
from include.engine.model.loads import Spread

LONGEST = 3600 * 1_000_000  # microseconds: what takes longer counts as this long
_RANKS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
_BITS = 11  # by which an HdrHistogram of three digits tells values apart
DIGITS = 3  # significant ones: a value is told with an error of at most 0.1 %


def histogram(counted: Mapping[int, int] | Iterable[int] = ()) -> HdrHistogram:
    """Make a histogram of latencies in microseconds, given as counts by value or as the values."""
    made = HdrHistogram(1, LONGEST, DIGITS)
    # What it does not tell apart is joined first: to record is the slow part.
    joined: dict[int, int] = {}
    for value, count in Counter(counted).items():
        unit = max(0, value.bit_length() - _BITS)
        kept = value >> unit << unit
        joined[kept] = joined.get(kept, 0) + count
    for value, count in joined.items():
        made.record_value(min(max(value, 1), LONGEST), count)
    return made


def spread(found: HdrHistogram) -> Spread:
    """Give a histogram in short, in milliseconds."""
    count = int(found.get_total_count())
    if count == 0:
        return Spread()
    at = found.get_percentile_to_value_dict([50, 90, 99, 99.9])
    return Spread(
        count=count,
        mean=_ms(found.get_mean_value()),
        p50=_ms(at[50]),
        p90=_ms(at[90]),
        p99=_ms(at[99]),
        p999=_ms(at[99.9]),
        max=_ms(found.get_max_value()),
    )


def spread_of(counts: Mapping[int, int]) -> Spread:
    """Give counts by microseconds in short, exactly: for the many small distributions of a series."""
    total = sum(counts.values())
    values = sorted(counts)
    seen = list(accumulate(counts[value] for value in values))
    found = {name: _ms(values[bisect_left(seen, math.ceil(total * share))]) for name, share in _RANKS.items()}
    mean = sum(value * count for value, count in counts.items()) / total
    return Spread(count=total, mean=_ms(mean), max=_ms(max(counts)), **found)


def merged(histograms: Iterable[HdrHistogram]) -> HdrHistogram:
    """Add histograms up.  The result is that of recording every value in one."""
    total = histogram()
    for one in histograms:
        total.add(one)
    return total


def encoded(found: HdrHistogram) -> str:
    """Write a histogram in HdrHistogram's own compressed format, which its libraries in all languages read."""
    return bytes(found.encode()).decode("ascii")


def decoded(text: str) -> HdrHistogram:
    """Read a histogram back.

    :raises Corrupt: when it is none
    """
    try:
        found = HdrHistogram.decode(text.encode("ascii"))
    except Exception as error:
        raise Corrupt(
            f"the histogram cannot be read: {type(error).__name__}", hint="run the load test again"
        ) from error
    if found is None:
        raise Corrupt("the histogram cannot be read", hint="run the load test again")
    return found


def buckets(found: HdrHistogram, *, most: int = 60) -> list[tuple[float, float, int]]:
    """Give (from ms, to ms, count) in at most *most* buckets that grow by a constant factor: for a plot with a log axis."""
    if not found.get_total_count():
        return []
    low, high = max(1, int(found.get_min_value())), max(2, int(found.get_max_value()) + 1)
    factor = max(1.02, (high / low) ** (1 / most))
    counts: Counter[int] = Counter()
    for item in found.get_recorded_iterator():
        value = max(low, int(item.value_iterated_to))
        index = 0
        while low * factor ** (index + 1) <= value and index < most * 2:
            index += 1
        counts[index] += int(item.count_added_in_this_iter_step)
    top = max(counts)
    return [(_ms(low * factor**i), _ms(low * factor ** (i + 1)), counts[i]) for i in range(top + 1)]


def _ms(microseconds: float) -> float:
    return round(microseconds / 1000, 3)
