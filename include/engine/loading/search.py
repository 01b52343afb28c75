"""The highest rate that keeps the gates: step up until one does not, then halve the distance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from include.engine.model import LoadStep, Verdict


class SearchPlan(Struct, frozen=True, kw_only=True):
    """How to look for the highest rate.

    :param begin: the first rate, operations per second
    :param end: the highest rate that is tried
    :param factor: from one rate to the next, as long as all pass
    :param tolerance: of the result: the search ends when the lowest rate that failed is this share above the highest that passed
    :param step_seconds: how long each rate is held, after *warm_up* seconds that do not count
    :param limit: seconds within which every step must end
    :param least: operations that a step must have for its gates to say anything: a low rate is held for longer
    """

    begin: float
    end: float
    factor: float = 2.0
    tolerance: float = 0.1
    step_seconds: float = 10.0
    warm_up: float = 2.0
    limit: float = 600.0
    least: int = 0

    def seconds_at(self, rate: float) -> float:
        """Say how long *rate* is held, after the warm-up."""
        return max(self.step_seconds, math.ceil(self.least / rate))


class Found(Struct, frozen=True, kw_only=True):
    """How a search ended: at which of its steps, if any passed, and why it stopped there."""

    index: int | None
    why: str


def next_rate(plan: SearchPlan, steps: Sequence[LoadStep], elapsed: float) -> float | None:
    """Give the rate to try next, or nothing when the search is over.

    A rate that was not reached counts as not kept: whoever's fault it was, nothing was proved at it.

    :param elapsed: seconds since the search began
    """
    rate = _next(plan, steps) if steps else plan.begin
    if rate is None or elapsed + plan.seconds_at(rate) + plan.warm_up > plan.limit:
        return None
    return rate


def _next(plan: SearchPlan, steps: Sequence[LoadStep]) -> float | None:
    low, high = bounds(steps)
    if high is None:
        top = max(rate for rate in (step.target_rate for step in steps))
        return min(plan.end, top * plan.factor) if top < plan.end * 0.999 else None
    if low is None:
        lower = high / plan.factor
        return lower if lower >= plan.begin / 16 else None
    if high / low <= 1 + plan.tolerance:
        return None
    return math.sqrt(low * high)  # halfway on the scale on which rates are compared


def bounds(steps: Sequence[LoadStep]) -> tuple[float | None, float | None]:
    """Give the highest rate that passed below every rate that did not, and the lowest that did not."""
    high = min((step.target_rate for step in steps if step.verdict is not Verdict.PASS), default=None)
    passed = [step.target_rate for step in steps if step.verdict is Verdict.PASS]
    low = max((rate for rate in passed if high is None or rate < high), default=None)
    return low, high


def found(plan: SearchPlan, steps: Sequence[LoadStep], elapsed: float) -> Found:
    """Say what a search that is over has found."""
    low, high = bounds(steps)
    if low is None:
        return Found(
            index=None, why=f"no rate kept the gates, down to {high:,.6g} a second" if high else "no rate was tried"
        )
    index = max(i for i, step in enumerate(steps) if step.target_rate == low and step.verdict is Verdict.PASS)
    if high is None:
        return Found(
            index=index, why=f"every rate up to {low:,.6g} a second kept the gates; the profile asks for no more"
        )
    failed = next(step for step in steps if step.target_rate == high and step.verdict is not Verdict.PASS)
    cause = "; ".join(f"{check.name}: {check.detail}" for check in failed.checks if check.verdict is not Verdict.PASS)
    ended = "the time was up" if high / low > 1 + plan.tolerance else f"within {plan.tolerance:.0%}"
    return Found(
        index=index,
        why=f"{low:,.6g} a second kept the gates, {high:,.6g} did not ({cause}); {ended} after {elapsed:,.0f} s",
    )
