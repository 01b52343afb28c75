"""What is on a cluster and in no backup of it: unknown to the inventory, or named there as left out on purpose."""

from __future__ import annotations

from include.engine.systems.kafka import cut as cuts
from include.engine.systems.kafka.client import Admin
from include.engine.systems.kafka.settings import Settings, matches


def left_out(admin: Admin, settings: Settings, *, on_purpose: bool) -> list[str]:
    """Name topics that are left out, and groups that stand in topics which are not.

    :param on_purpose: those that `exclude` and `exclude_groups` name, or else those that no pattern names
    """
    if on_purpose and not (settings.exclude or settings.exclude_groups):
        return []
    topics = [
        f"topic {name}"
        for name, topic in admin.topics().items()
        if cuts.is_lasting(topic) and not settings.covers(name) and matches(settings.exclude, name) is on_purpose
    ]
    groups = [
        f"group {name}"
        for name, held in cuts.positions_of(admin, lambda group: not settings.keeps(group)).items()
        if matches(settings.exclude_groups, name) is on_purpose
        and any(settings.covers(position.topic) for position in held)
    ]
    return sorted([*topics, *groups])
