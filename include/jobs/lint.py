"""Looks through the job's own plan for columns that a replay would not make again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def unrepeatable(frame: Any, columns: Sequence[str]) -> dict[str, list[str]]:
    """Say what in *columns* of *frame* would come out differently when the same record is read again.

    :param frame: a DataFrame over Kafka, before it is started
    :return: column to what it uses: the clock, chance, a function that cannot be looked into, a record's offset
    """
    plans = frame.sparkSession._jvm.mainstay.stream.Plans  # noqa: SLF001 - our own classes have no other door
    found = plans.unrepeatable(frame._jdf, list(columns))  # noqa: SLF001
    return {str(column): [str(offence) for offence in offences] for column, offences in found.items()}
