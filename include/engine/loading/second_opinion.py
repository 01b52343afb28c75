"""A stock tool's figures beside ours, and whether both are apart by more than noise.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from include.engine.loading.contracts import ToolSaid
from include.engine.loading.distribution import decoded
from include.engine.loading.gates import REACHED
from include.engine.model import CrossCheck, LoadStep

_PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
_JUDGED = ("p50", "p99")  # those that every interval of a series has


def beside(said: ToolSaid, step: LoadStep, histograms: Mapping[str, str], *, asked: float) -> CrossCheck:
    """Put what the tool has said beside *step*."""
    found = decoded(histograms["from_sent"])
    ours = {name: round(found.get_value_at_percentile(share) / 1000, 3) for name, share in _PERCENTILES.items()}
    ours |= {"mean": step.from_sent.mean, "max": step.from_sent.max}
    return CrossCheck(
        by=said.by,
        how=said.how,
        asked_rate=round(asked, 3),
        rate=round(said.rate, 3),
        operations=said.operations,
        latencies=dict(said.latencies),
        ours=ours,
        differs=tuple(differences(said, step)),
    )


def differences(said: ToolSaid, step: LoadStep) -> Sequence[str]:
    """Say where the tool's figures are apart from those of *step*, beyond noise.

    A latency is when it lies outside of what the intervals of our own series have shown, and the tool's resolution; a rate
    when one of both is below the share that a load test calls reached, of the other.
    """
    told = []
    low, high = sorted((said.rate, step.achieved_rate))
    if low < high * REACHED:
        told.append(f"it made {said.rate:,.1f} operations a second, and ours {step.achieved_rate:,.1f}")
    counted = [one.from_sent for one in step.series if not one.warm_up and one.from_sent.count]
    for name in _JUDGED:
        values = [float(getattr(one, name)) for one in counted]
        theirs = said.latencies[name]
        if values and not min(values) - said.resolution <= theirs <= max(values) + said.resolution:
            told.append(
                f"its {name} from sending is {theirs:,.1f} ms, and ours between {min(values):,.1f}"
                f" and {max(values):,.1f} ms in the intervals of the test"
            )
    return told
