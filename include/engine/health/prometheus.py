"""Readings and findings in the text format of Prometheus (Exposition formats, version 0.0.4).  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from include.engine.health.findings import Finding, State
from include.engine.model import Reading

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WRONG = re.compile(r"[^a-zA-Z0-9_]")
_SWEPT = "mainstay_last_sweep_timestamp_seconds"
_UNITS = {"s": "_seconds", "bytes": "_bytes", "%": "_percent"}


def exposition(
    readings: Iterable[tuple[str, Reading]], findings: Sequence[Finding], *, swept: datetime | None = None
) -> str:
    """Write the newest readings and the living findings.

    :param swept: when everything was last looked at: without findings and without sweeps, nothing is fine

    Readings carry no time: Prometheus drops what it thinks is old, and how old one is, is a metric of its own.
    """
    by_name: dict[str, list[str]] = {}
    for subject, one in readings:
        name = f"mainstay_{_WRONG.sub('_', one.metric)}{_UNITS.get(one.unit, '')}"
        by_name.setdefault(name, []).append(f"{name}{_labels(_named(one, subject=subject))} {_number(one.value)}")
        aged = "mainstay_reading_timestamp_seconds"
        labels = _labels(_named(one, metric=one.metric, subject=subject))
        by_name.setdefault(aged, []).append(f"{aged}{labels} {_number(one.at.timestamp())}")
    told = [
        f"mainstay_finding{_labels(_finding(one))} {int(one.level)}"
        for one in findings
        if one.state in (State.OPEN, State.RECOVERING)
    ]
    by_name["mainstay_finding"] = told
    if swept is not None:
        by_name[_SWEPT] = [f"{_SWEPT} {_number(swept.timestamp())}"]
    lines = []
    for name, samples in sorted(by_name.items()):
        lines += [f"# TYPE {name} gauge", *sorted(set(samples))]
    return "\n".join(lines) + "\n"


def _finding(one: Finding) -> dict[str, str]:
    known = {
        "rule": one.rule,
        "subject": one.subject,
        "severity": str(one.severity),
        "team": one.team,
        "state": str(one.state),
    }
    return {**{f"label_{name}": value for name, value in one.labels.items()}, **known}


def _named(reading: Reading, **ours: str) -> dict[str, str]:
    """Give the labels of a reading under names that Prometheus takes, each once: one that it does not costs the whole answer.

    Those of a declared probe are the names of its columns, which may be anything, also ours.
    """
    found = dict(ours)
    for name, value in sorted(reading.labels.items()):
        told = _WRONG.sub("_", name)
        told = f"label_{told}" if told in found or not told[:1].isalpha() else told
        while told in found:
            told += "_"
        found[told] = value
    return found


def _labels(labels: Mapping[str, str]) -> str:
    told = ",".join(f'{_WRONG.sub("_", name)}="{_escaped(value)}"' for name, value in sorted(labels.items()))
    return f"{{{told}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
