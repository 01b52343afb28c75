"""How numbers are written for people.  Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from include.engine.model import Consistency, Verification

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float) -> str:
    """Write bytes with three significant digits: ``1.43 GiB``."""
    amount = float(count)
    for unit in _UNITS:
        if abs(amount) < 1000 or unit == _UNITS[-1]:
            break
        amount /= 1024
    if unit == "B":
        return f"{amount:.0f} B"
    decimals = 2 if abs(amount) < 10 else 1 if abs(amount) < 100 else 0
    return f"{amount:.{decimals}f} {unit}"


def duration(seconds: float | None) -> str:
    """Write seconds in their two greatest units: ``3 m 20 s``; ``?`` when they are not known."""
    if seconds is None:
        return "?"
    if seconds < _MINUTE - 0.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    for unit, name, smaller, small_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "m"),
        (_MINUTE, "m", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name} {rest} {small_name}" if rest else f"{whole // unit} {name}"
    return f"{whole} s"


def age(then: datetime, now: datetime) -> str:
    """Write how long ago *then* was."""
    return duration(max(0.0, (now - then).total_seconds()))


def moment(at: datetime | None) -> str:
    """Write a time in UTC, to the second; ``?`` when it is not known."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else "?"


def window(start: datetime, end: datetime) -> str:
    """Write a span of time in UTC, the day once when both ends share it."""
    first, last = moment(start), moment(end)
    return f"{first} – {last[11:]}" if first[:10] == last[:10] else f"{first} – {last}"  # noqa: RUF001


def ratio(original: float, stored: float) -> str:
    """Write how many times smaller the stored bytes are: ``7.8x``; ``?`` when nothing is stored."""
    return f"{original / stored:.1f}x" if stored else "?"


def number(value: float | None, unit: str) -> str:
    """Write a reading in its unit, with three significant digits; ``?`` when it is not known."""
    if value is None:
        return "?"
    if not math.isfinite(value):
        return "no number"
    if unit == "bytes":
        return size(value)
    if unit == "s":
        return f"-{duration(-value)}" if value < 0 else duration(value)
    told = f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    return told if unit == "1" else f"{told} {unit}"


def rate(count: float, seconds: float) -> str:
    """Write bytes per second; empty when no time has passed."""
    return f"{size(count / seconds)}/s" if seconds > 0 else ""


def trusted(proof: Verification) -> str:
    """Say what a verification has not read, because an earlier one had; empty when it has read everything."""
    if not proof.trusted_objects:
        return ""
    return (
        f"{proof.objects} objects read back; {proof.trusted_objects} more ({size(proof.trusted_bytes)}) are unchanged"
        f" since they were read, the first at {moment(proof.trusted_since)}"
    )


def frozen(found: Consistency | None) -> str:
    """Say how long the freeze of a set took, and what a replay has to do; empty when nobody measured it."""
    if found is None:
        return ""
    told = f"frozen in {duration(found.freeze_seconds)}, cuts {duration(found.skew_seconds)} apart"
    return told if found.replay_records is None else f"{told}, {found.replay_records} records to replay"
