"""From what was measured to what is said of the whole test.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from include.engine.loading.search import Found
from include.engine.model import Check, CrossCheck, GeneratorLimit, LoadResult, LoadStep, Verdict, worst

_NEAR = 1.25  # the generator's limit must be this many times the rate, or the result says that it is close


def concluded(result: LoadResult, guards: Check, *, stopped: str, lost: str, left: str) -> LoadResult:
    """Give *result* with all its checks and its verdict.

    :param guards: what they have seen
    :param stopped: why it was ended early, if it was
    :param lost: how the target was lost, if it was
    :param left: why something is still there that the test had created, or nothing
    """
    step = result.step
    checks = list(step.checks) if step else []
    if step is None and not result.stopped:
        # A rate that could not be measured is no rate that the target does not take.
        failed = any(one.verdict is Verdict.FAIL for one in result.steps)
        verdict = Verdict.FAIL if failed else Verdict.UNVERIFIED
        detail = result.notes[0] if result.notes else "found nothing"
        checks.append(Check(name="search", verdict=verdict, detail=detail))
    if stopped:
        checks.append(Check(name="finished", verdict=Verdict.UNVERIFIED, detail=f"it was stopped: {stopped}"))
    if lost:
        checks.append(Check(name="finished", verdict=Verdict.FAIL, detail=f"the target was lost: {lost}"))
    checks.append(guards)
    if result.cross_check is not None and result.cross_check.failed:
        detail = f"{result.cross_check.by} could not be asked: {result.cross_check.failed}"
        checks.append(Check(name="cross-check", verdict=Verdict.UNVERIFIED, detail=detail))
    detail = f"{left}; the next test tries again" if left else "all that the test had created is removed"
    checks.append(Check(name="removed", verdict=Verdict.UNVERIFIED if left else Verdict.PASS, detail=detail))
    whole = worst([check.verdict for check in checks])
    return msgspec.structs.replace(result, checks=tuple(checks), verdict=whole)


def notes_of(
    ended: Found,
    limit: GeneratorLimit | None,
    steps: Sequence[LoadStep],
    removed: Sequence[str],
    cross_check: CrossCheck | None = None,
) -> list[str]:
    """Say what a reader should know besides the checks.

    :param removed: what an earlier test had left
    """
    notes = [ended.why] if ended.why else []
    highest = max((step.target_rate for step in steps), default=0.0)
    if limit is not None and not limit.rate:
        notes.append("the generator's own limit could not be measured: nothing was answered in a second")
    elif limit is not None and highest * _NEAR > limit.rate * limit.processes:
        notes.append(
            f"the generator's own limit of {limit.rate * limit.processes:,.0f} a second is near the rate:"
            " what was measured may be the generator"
        )
    if cross_check is not None and cross_check.differs:
        notes.append(f"{cross_check.by} differs beyond noise: {'; '.join(cross_check.differs)}")
    if removed:
        notes.append(f"a test that died had left {', '.join(removed)}; it is removed")
    return notes
