"""A sweep of many targets, some of them dead, and a week of history, at the settings that ship.  ``python -m bench.sweep_at_scale``

No server is asked: probes answer within a few milliseconds, as over a network, or never.  What is measured is the sweep's own.
``--out FILE`` writes the figures as JSON as well.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from include.engine.cli.clock import now
from include.engine.contracts import Clock
from include.engine.health.findings import Advanced
from include.engine.health.history import History
from include.engine.health.looks import Look
from include.engine.model import Reading, Verdict
from include.engine.verbs.looking import Asked, look_at
from include.engine.watching import SweepSection

TARGETS, PROBES, DEAD = 200, 8, 20
ANSWER = 0.005  # seconds
SERIES, DAYS, STEP = 120, 7, timedelta(minutes=5)
ROUNDS = 3


class Box:
    """A probe of a machine that answers soon, or never."""

    metrics: Sequence[str] = ("box.load",)
    source = "the load"

    def __init__(self, name: str, never: threading.Event | None) -> None:
        self.name = name
        self._never = never

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:  # noqa: ARG002 - the dead one heeds nothing
        """Read it (see ``probing.Probe``)."""
        if self._never is not None:
            self._never.wait()
        time.sleep(ANSWER)
        return [Reading(metric="box.load", value=1.0, unit="1", at=clock())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    timeout = SweepSection().timeout.total_seconds()
    figures = {
        f"{TARGETS} targets with {PROBES} probes each, all alive": swept(timeout, dead=0),
        f"{TARGETS} targets with {PROBES} probes each, {DEAD} dead, time-out {timeout:g} s": swept(timeout, dead=DEAD),
        f"{DAYS} days of {SERIES} series, thinned as they are, read for a report": queried(),
    }
    print("| what | seconds |\n| --- | ---: |")
    for what, seconds in figures.items():
        print(f"| {what} | {seconds:.2f} |")
    if chosen.out:
        chosen.out.write_text(json.dumps(figures, indent=2))


def swept(timeout: float, *, dead: int) -> float:
    """Look at all targets once, and give the seconds."""
    never = threading.Event()
    asked = [
        Asked(f"box/{number}", Box(f"probe {probe}", never if number % (TARGETS // DEAD) == 0 and dead else None))
        for number in range(TARGETS)
        for probe in range(PROBES)
    ]
    began = time.monotonic()
    looks = look_at(asked, clock=now, timeout=timeout)
    took = time.monotonic() - began
    never.set()
    assert sum(look.trouble is not None for look in looks) == dead * PROBES
    return took


def queried() -> float:
    """Fill a file with what a week of sweeps reads, thin it, and read all of it: the best of some rounds, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        history = History.in_file(Path(folder) / "history.sqlite")
        end = now()
        for age in range(int(timedelta(days=DAYS) / STEP), 0, -1):
            at = end - age * STEP
            readings = tuple(
                Reading(metric="box.load", value=float(age * 7919 % 1013), unit="1", at=at, labels={"of": str(number)})
                for number in range(SERIES)
            )
            look = Look(subject="box/one", probe="load", source="", metrics=(), at=at, seconds=0.0, readings=readings)
            history.conclude(
                [look], lambda _: Advanced(findings=(), changes=()), lambda _: Verdict.PASS, now=at, seconds=0.0
            )
        history.thin(end)
        took = []
        for _ in range(ROUNDS):
            began = time.monotonic()
            found = history.points(["box.load"], end - timedelta(days=DAYS))
            took.append(time.monotonic() - began)
        assert len(found) == SERIES
    return min(took)


if __name__ == "__main__":
    main()
