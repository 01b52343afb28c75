"""The assets that DAGs publish and can be scheduled on.

An event says that a backup was taken **and read back**; its extra holds ``id``, ``bytes``, ``recoverable_from`` and
``recoverable_to``, so that a DAG which it starts knows what to work on.
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetAlias

from include.engine.model import Target

# Airflow asks every provider for the meaning of a scheme, and loads their clients for that, unless it begins with `x-`: those
# are for users, and stay as they are.
_SCHEME = "x-mainstay"

# A run may leave targets out, and Airflow announces every declared outlet of a task that succeeds.  Through the alias the
# task announces those that it has.
BACKUPS = AssetAlias("mainstay-backups")


def backups_of(target: Target | str) -> Asset:
    """Give the asset of a target's backups."""
    return Asset(name=f"mainstay-backups-{str(target).replace('/', '-')}", uri=f"{_SCHEME}://backups/{target}")


def sets_of(pipeline: str) -> Asset:
    """Give the asset of a pipeline's sets."""
    return Asset(name=f"mainstay-sets-{pipeline}", uri=f"{_SCHEME}://sets/{pipeline}")
