"""From what a declared probe got to readings.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import SupportsFloat, SupportsIndex, cast

from include.engine.errors import Corrupt
from include.engine.health.rules import CustomProbe
from include.engine.model import Reading

MOST_ROWS = 200  # of an answer; more series of one metric are a mistake
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def readings_of(
    declared: CustomProbe, names: Sequence[str], rows: Sequence[Sequence[object]], now: datetime
) -> list[Reading]:
    """Read rows: the first column is the number, the others are labels under their names.

    :raises Corrupt: when a first column is no number
    """
    found = []
    for row in rows[:MOST_ROWS]:
        try:
            value = float(cast("str | SupportsFloat | SupportsIndex", row[0]))
        except (TypeError, ValueError) as error:
            raise Corrupt(
                f"the first column of the probe {declared.name} is {row[0]!r}, which is no number",
                hint="select the number first and its labels after it; coalesce what may be null",
            ) from error
        labels = {name: str(item) for name, item in zip(names[1:], row[1:], strict=False)}
        found.append(Reading(metric=declared.metric, value=value, unit=declared.unit, at=now, labels=labels))
    return found


def reading_in(declared: CustomProbe, text: str, now: datetime) -> Reading:
    """Find the number in a text: what the pattern's group says, else the first number that there is.

    :raises Corrupt: when there is none
    """
    match = re.search(declared.pattern, text, re.MULTILINE) if declared.pattern else _NUMBER.search(text)
    found = (match[1] if declared.pattern else match[0]) if match else None
    try:
        value = float(found or "")
    except ValueError as error:
        what = f"{declared.pattern!r} finds no number" if declared.pattern else "there is no number"
        raise Corrupt(
            f"{what} in the answer of the probe {declared.name}: {text.strip()[:80]!r}",
            hint="mend the probe's pattern: its one group in brackets must be the number",
        ) from error
    return Reading(metric=declared.metric, value=value, unit=declared.unit, at=now)
