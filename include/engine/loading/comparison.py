"""Is one load test different from another, beyond noise?  By a stated test, which may be wrong in a stated share of cases.

The test is Mann and Whitney's over the values of the intervals after the warm-up: it asks whether intervals of one run tend to
have larger values than those of the other, and assumes no shape of the distribution.  A change counts when it is both unlikely
to be chance (p < 0.01, two-sided) and large enough to matter (5 % of the median).  Neighbouring intervals are alike, which makes
the test too ready to see a difference; therefore intervals are joined to blocks of at least two seconds, and what two earlier runs
of the same profile differ by among themselves counts as noise as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import msgspec
from msgspec import Struct

from include.engine.loading.contracts import LOAD_BEFORE
from include.engine.model import LoadInterval, LoadResult, LoadStep, Verdict

P_LIMIT = 0.01
MATTERS = 0.05
LEAST = 8  # blocks of each run: with fewer, this test cannot say much at this level
_BLOCK = 2.0  # seconds

_METRICS: Mapping[str, tuple[str, Callable[[Sequence[LoadInterval]], float]]] = {
    "p50 from intended": ("ms", lambda block: median(one.from_intended.p50 for one in block)),
    "p99 from intended": ("ms", lambda block: max(one.from_intended.p99 for one in block)),
    "p99 from sent": ("ms", lambda block: max(one.from_sent.p99 for one in block)),
    "throughput": ("1/s", lambda block: sum(one.completed for one in block) / sum(one.seconds for one in block)),
}


class Change(Struct, frozen=True, kw_only=True):
    """One metric of two runs.

    :param ratio: median of the second over median of the first
    :param p: how likely a difference like this is by chance, when there is none; None when there are too few intervals
    :param noise: ratio by which earlier runs differed among themselves; 1 when none were given
    :param verdict: PASS for no change beyond noise, FAIL for a change for the worse or the better, UNVERIFIED when nobody can say
    """

    metric: str
    unit: str
    before: float
    after: float
    ratio: float
    p: float | None
    noise: float
    verdict: Verdict
    says: str


class Comparison(Struct, frozen=True, kw_only=True):
    """Two runs side by side."""

    before: str
    after: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything has changed beyond noise."""
        return any(change.verdict is Verdict.FAIL for change in self.changes)


def compare(before: LoadResult, after: LoadResult, *, earlier: Sequence[LoadResult] = ()) -> Comparison:
    """Compare two runs.

    :param earlier: other runs of the same profile and target, which show how much runs differ when nothing has changed
    """
    notes = [
        f"the {what} differs: {one!r} and {other!r}"
        for what, one, other in (
            ("profile", before.profile, after.profile),
            ("target", before.target, after.target),
            *_declared(before, after),
        )
        if one != other
    ]
    notes += [
        f"{key} differs: {before.environment.get(key, 'unknown')} and {after.environment.get(key, 'unknown')}"
        for key in sorted(set(before.environment) | set(after.environment))
        if key != LOAD_BEFORE and before.environment.get(key) != after.environment.get(key)
    ]
    first, second = before.step, after.step
    if first is None or second is None:
        notes.append("one of them has no step that a verdict is about")
        return Comparison(before=before.id, after=after.id, changes=(), notes=tuple(notes))
    # What a test at another rate shows is no noise: it would hide every change.
    others = [
        one.step for one in earlier if one.step is not None and one.id != after.id and _same_rate(one.step, first)
    ]
    changes = tuple(_change(metric, first, second, others) for metric in _METRICS)
    if not _same_rate(first, second):
        rates = f"{first.target_rate:,.6g} and {second.target_rate:,.6g} operations a second were asked for"
        notes.append(f"{rates}: what differs may be that")
        says = "the rates differ: neither is measured against the other"
        changes = tuple(msgspec.structs.replace(change, verdict=Verdict.UNVERIFIED, says=says) for change in changes)
    return Comparison(before=before.id, after=after.id, changes=changes, notes=tuple(notes))


def _declared(before: LoadResult, after: LoadResult) -> Sequence[tuple[str, object, object]]:
    """Give what both have declared, key by key."""
    one, other = before.declared, after.declared
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [("declared load", one, other)]
    return [(f"declared {key}", one.get(key), other.get(key)) for key in sorted({*one, *other})]


def _same_rate(one: LoadStep, other: LoadStep) -> bool:
    """Say whether two tests have asked for the same rate, give or take what drawing their times at random makes of it."""
    low, high = sorted((one.target_rate, other.target_rate))
    drawn = sum(1 / max(1.0, step.target_rate * step.seconds) for step in (one, other))
    return high <= low * (1 + MATTERS + 3 * math.sqrt(drawn))


def _change(metric: str, first: LoadStep, second: LoadStep, others: Sequence[LoadStep]) -> Change:
    unit, of = _METRICS[metric]
    a, b = _values(first, of), _values(second, of)
    before, after = median(a) if a else 0.0, median(b) if b else 0.0
    ratio = after / before if before else (1.0 if not after else math.inf)
    medians = [median(values) for values in [a, *(_values(one, of) for one in others)] if values]
    noise = max(medians) / min(medians) if medians and min(medians) > 0 else 1.0
    p = mann_whitney(a, b) if min(len(a), len(b)) >= LEAST else None
    size = max(ratio, 1 / ratio) if ratio else math.inf
    if p is None:
        verdict, says = (
            Verdict.UNVERIFIED,
            f"{len(a)} and {len(b)} blocks of {_BLOCK:g} s are too few, {LEAST} are needed",
        )
    elif p >= P_LIMIT:
        verdict, says = Verdict.PASS, "no difference beyond chance"
    elif size <= 1 + MATTERS:
        verdict, says = Verdict.PASS, f"a difference, but below {MATTERS:.0%}"
    elif size <= noise:
        verdict, says = Verdict.PASS, "a difference that earlier runs show among themselves"
    else:
        worse = (ratio > 1) == (unit == "ms")
        verdict, says = Verdict.FAIL, f"{'worse' if worse else 'better'} by {abs(ratio - 1):.0%}, beyond noise"
    return Change(
        metric=metric, unit=unit, before=before, after=after, ratio=ratio, p=p, noise=noise, verdict=verdict, says=says
    )


def _values(step: LoadStep, of: Callable[[Sequence[LoadInterval]], float]) -> list[float]:
    blocks: list[list[LoadInterval]] = [[]]
    for interval in step.series:
        if interval.warm_up or not interval.from_intended.count:
            continue
        blocks[-1].append(interval)
        if sum(one.seconds for one in blocks[-1]) >= _BLOCK - 1e-9:
            blocks.append([])
    return [of(block) for block in blocks if block and sum(one.seconds for one in block) >= _BLOCK - 1e-9]


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Give the two-sided p of the Mann-Whitney U test, by the normal approximation with correction for ties and continuity.

    Mann and Whitney, On a test of whether one of two random variables is stochastically larger than the other, 1947.
    """
    values = sorted([*a, *b])
    ranks: dict[float, float] = {}
    ties = 0.0
    position = 0
    while position < len(values):
        end = position
        while end < len(values) and values[end] == values[position]:
            end += 1
        ranks[values[position]] = (position + 1 + end) / 2
        ties += (end - position) ** 3 - (end - position)
        position = end
    n, m = len(a), len(b)
    total = n + m
    u = sum(ranks[value] for value in a) - n * (n + 1) / 2
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    z = max(0.0, abs(u - n * m / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))
