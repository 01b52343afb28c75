"""What is on a cluster and in no backup of it: unknown to the inventory, or named there as left out on purpose."""

from __future__ import annotations

from include.engine.excluding import LeftOut
from include.engine.model import Target
from include.engine.systems.kafka import cut as cuts
from include.engine.systems.kafka.client import Admin
from include.engine.systems.kafka.settings import Settings, matches


def left_out(admin: Admin, settings: Settings, target: Target) -> LeftOut:
    """Name topics that are left out, and groups that stand in topics which are not."""
    found = {
        f"topic {name}": matches(settings.exclude, name)
        for name, topic in admin.topics().items()
        if cuts.is_lasting(topic) and not settings.covers(name)
    }
    found |= {
        f"group {name}": matches(settings.exclude_groups, name)
        for name, held in cuts.positions_of(admin, lambda group: not settings.keeps(group)).items()
        if any(settings.covers(position.topic) for position in held)
    }
    return LeftOut(
        gaps=tuple(f"{one} is in no backup of {target}" for one in sorted(found) if not found[one]),
        on_purpose=tuple(one for one in sorted(found) if found[one]),
    )
