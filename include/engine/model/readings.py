"""What probes read: numbers with a unit, a place and a time."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Reading(Struct, frozen=True, kw_only=True):
    """One number that was read from a live system.

    An unread number is no reading: a probe that cannot read raises, and never gives 0 in its place.

    :param metric: ``<system>.<what>.<detail>``, in lower case with underscores: ``kafka.partitions.under_replicated``
    :param unit: ``1`` for a count, ``s``, ``bytes``, ``%``, ``1/s``, or the name of what is counted (``records``)
    :param labels: what tells several readings of one metric apart, such as the topic or the node; never a secret
    :param at: when it was read, in UTC
    """

    metric: str
    value: float
    unit: str
    at: datetime
    labels: dict[str, str] = {}
