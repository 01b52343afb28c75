"""``./mainstay status TARGET``: what every probe of a live target reads now."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence

from msgspec import Struct

from include.engine.cli import figures
from include.engine.contracts import Clock
from include.engine.errors import MainstayError
from include.engine.model import Reading, Verdict
from include.engine.probing import Probe

TIMEOUT = 20.0  # seconds that one probe may take
_GRACE = 5.0  # seconds: a probe that was told the limit ends soon after it


class Looked(Struct, frozen=True, kw_only=True):
    """What one probe gave, or why it gave nothing."""

    probe: str
    source: str
    readings: tuple[Reading, ...] = ()
    absent: tuple[str, ...] = ()  # metrics that it promises and did not give
    error: str = ""
    hint: str = ""

    @property
    def whole(self) -> bool:
        """Whether everything was read, and is a number."""
        return not self.error and not self.absent and all(math.isfinite(one.value) for one in self.readings)


def look(probes: Sequence[Probe], clock: Clock) -> list[Looked]:
    """Read all *probes* side by side; one that hangs is not waited for."""
    timeout = TIMEOUT
    found: dict[str, Looked] = {}
    threads = [
        threading.Thread(target=lambda p=probe: found.__setitem__(p.name, _read(p, clock, timeout)), daemon=True)
        for probe in probes
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout + _GRACE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"it gave no answer within {timeout:.0f} s"
    return [found.get(p.name) or Looked(probe=p.name, source=p.source, error=late) for p in probes]


def verdict(looked: Sequence[Looked]) -> Verdict:
    """Say whether the numbers are all there; what they mean is for the rules of the sweep."""
    return Verdict.PASS if looked and all(one.whole for one in looked) else Verdict.UNVERIFIED


def value(reading: Reading) -> str:
    """Write a reading's value with its unit, for a person."""
    number = reading.value
    if not math.isfinite(number):
        return "no number"
    if reading.unit == "bytes":
        return figures.size(int(number))
    shown = f"{number:,.0f}" if float(number).is_integer() else f"{number:,.2f}"
    return shown if reading.unit == "1" else f"{shown} {reading.unit}"


def rows(looked: Sequence[Looked]) -> list[tuple[str, str, str, str]]:
    """Lay out what was read, and what was not, as rows of a table."""
    found = []
    for one in looked:
        for reading in one.readings:
            labels = " ".join(f"{key}={label}" for key, label in reading.labels.items())
            found.append((one.probe, reading.metric, value(reading), labels))
        found += [(one.probe, metric, "UNVERIFIED", "not given") for metric in one.absent]
        if one.error:
            found.append((one.probe, "", "UNVERIFIED", one.error))
    return found


def _read(probe: Probe, clock: Clock, timeout: float) -> Looked:
    try:
        readings = tuple(probe.read(clock, timeout=timeout))
    except MainstayError as error:
        return Looked(probe=probe.name, source=probe.source, error=error.message, hint=error.hint)
    except Exception as error:  # noqa: BLE001 - a probe that breaks must not take the others' numbers along
        return Looked(probe=probe.name, source=probe.source, error=f"{type(error).__name__}: {error}")
    absent = tuple(metric for metric in probe.metrics if metric not in {reading.metric for reading in readings})
    return Looked(probe=probe.name, source=probe.source, readings=readings, absent=absent)
