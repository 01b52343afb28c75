"""From a measurement to a verdict: what was promised, whether it was kept, and whether the measurement may be believed at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from include.engine.loading.contracts import CPU_SHARE, UNANSWERED, UNSENT
from include.engine.model import Check, LoadStep, Verdict, worst

REACHED = 0.95  # of the target rate: below it, the test was another one than the profile asked for
_LATE = 0.05  # share of operations that the generator itself may send late
_HELD = 0.05  # share of the time from which on it was the target that kept operations from being sent
_BUSY = 0.85  # share of a processor from which on a process of the generator may be late
_BEYOND = 5  # operations that must lie beyond a percentile before it says anything
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class Bound(Struct, frozen=True, kw_only=True):
    """What a figure must keep to."""

    most: float | None = None
    least: float | None = None


class Gates(Struct, frozen=True, kw_only=True):
    """What a test must keep to be passed.

    :param latencies: milliseconds from the intended time, by percentile: p50, p90, p99, p999, max
    :param errors: share of operations that may fail
    :param figures: of the system's own
    """

    latencies: Mapping[str, float] = {}
    errors: float = 0.0
    figures: Mapping[str, Bound] = {}


def needed(gates: Gates, *, drawn: bool = False) -> int:
    """Give how many operations it takes to say anything about the percentiles of *gates*.

    :param drawn: their number is drawn at random around what is asked for: six deviations of a Poisson process more
    """
    exact = max((round(_BEYOND / (1 - _SHARES.get(name, 0.0))) for name in gates.latencies), default=_BEYOND)
    return exact + math.ceil(6 * math.sqrt(exact)) if drawn else exact


def judged(step: LoadStep, gates: Gates) -> LoadStep:
    """Give *step* with its checks and its verdict."""
    checks = tuple(judge(step, gates))
    return msgspec.structs.replace(step, checks=checks, verdict=worst([check.verdict for check in checks]))


def judge(step: LoadStep, gates: Gates) -> Sequence[Check]:
    """Hold a measurement against *gates*, and against what makes it one."""
    checks = [_reached(step), _errors(step, gates.errors)]
    if _late(step):
        detail = f"{step.behind:.1%} of the operations were sent late by the generator itself, and not because the target was slow"
        checks.append(Check(name="schedule kept", verdict=Verdict.UNVERIFIED, detail=detail))
    checks += _busy(step)
    checks += [_latency(step, name, most) for name, most in gates.latencies.items()]
    checks += [_figure(step, name, bound) for name, bound in gates.figures.items()]
    return checks


def _reached(step: LoadStep) -> Check:
    # What failed was answered, too; whether it may fail is the error gate's business.
    refused = sum(count for cause, count in step.errors.items() if cause not in (UNSENT, UNANSWERED))
    answered = step.achieved_rate + refused / step.seconds
    share = answered / step.target_rate if step.target_rate else 0.0
    detail = f"{answered:,.1f} of {step.target_rate:,.1f} operations a second, {share:.1%}"
    if share >= REACHED:
        return Check(name="rate reached", verdict=Verdict.PASS, detail=detail)
    if step.waited >= _HELD:
        whose = f"the target did not answer in time: for {step.waited:.0%} of the time, no more operations could be in flight"
    elif _own_fault(step):
        whose = "the generator could not send more: give it more processes, or a machine of its own"
    elif step.errors:
        whose = "operations failed"
    else:
        whose = "the answers came too late"
    return Check(name="rate reached", verdict=Verdict.UNVERIFIED, detail=f"{detail}; {whose}")


def _busy(step: LoadStep) -> Sequence[Check]:
    share = step.figures.get(CPU_SHARE, 0.0)
    if share <= _BUSY:
        return ()
    detail = (
        f"the busiest process of the generator used {share:.0%} of a processor: what was measured may be the generator;"
        " give it more processes, or a machine of its own"
    )
    return (Check(name="generator", verdict=Verdict.UNVERIFIED, detail=detail),)


def _errors(step: LoadStep, most: float) -> Check:
    count = step.from_intended.count
    if not count:
        return Check(name="errors", verdict=Verdict.UNVERIFIED, detail="no operation was made after the warm-up")
    unsent = step.errors.get(UNSENT, 0) if _own_fault(step) else 0
    share = step.error_count / count
    causes = ", ".join(
        f"{number} x {cause}" for cause, number in sorted(step.errors.items(), key=lambda one: -one[1])[:3]
    )
    detail = f"{step.error_count} of {count}, {share:.2%}; at most {most:.2%}" + (f": {causes}" if causes else "")
    if share <= most:
        return Check(name="errors", verdict=Verdict.PASS, detail=detail)
    if (step.error_count - unsent) / count <= most:  # the target was never asked
        return Check(name="errors", verdict=Verdict.UNVERIFIED, detail=detail)
    return Check(name="errors", verdict=Verdict.FAIL, detail=detail)


def _latency(step: LoadStep, name: str, most: float) -> Check:
    found = step.from_intended
    value = float(getattr(found, name))
    detail = f"{value:,.2f} ms from the intended time; at most {most:,.2f} ms"
    if found.count * (1 - _SHARES.get(name, 0.0)) < _BEYOND - 1e-9:
        detail = f"{detail}; {found.count} operations are too few to say"
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=detail)
    if value > most and _own_fault(step) and float(getattr(step.from_sent, name)) <= most:
        detail = f"{detail}; from the time of sending it was kept, and the generator was late"
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail=detail)
    return Check(name=name, verdict=Verdict.PASS if value <= most else Verdict.FAIL, detail=detail)


def _own_fault(step: LoadStep) -> bool:
    """Say whether the generator itself, and not what it waited for, has kept operations from being sent in time."""
    return step.waited < _HELD and (_late(step) or UNSENT in step.errors)


def _late(step: LoadStep) -> bool:
    """Say whether the generator was late.  One operation is a hiccup, whatever its share of a brief test."""
    return step.behind > _LATE and round(step.behind * step.from_intended.count) > 1


def _figure(step: LoadStep, name: str, bound: Bound) -> Check:
    value = step.figures.get(name)
    if value is None:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail="it was not measured")
    wanted = [f"at most {bound.most:,.6g}"] if bound.most is not None else []
    wanted += [f"at least {bound.least:,.6g}"] if bound.least is not None else []
    kept = (bound.most is None or value <= bound.most) and (bound.least is None or value >= bound.least)
    verdict = Verdict.PASS if kept else Verdict.FAIL
    return Check(name=name, verdict=verdict, detail=f"{value:,.6g}; {' and '.join(wanted)}")
