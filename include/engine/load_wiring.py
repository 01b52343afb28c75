"""Puts load tests together: their profiles, what may be loaded, and what loads it.

Beside :mod:`include.engine.wiring`, for targets that are backed up and for Airflow, which is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from include.engine import wiring
from include.engine.contracts import Connections
from include.engine.errors import Misconfigured, NotFound
from include.engine.inventory import Inventory
from include.engine.model import Target
from include.engine.probing import Probe

if TYPE_CHECKING:  # DAG files import this module
    from include.engine.loading.contracts import LoadEngine
    from include.engine.loading.permission import LoadPermission
    from include.engine.loading.profiles import Profile as LoadProfile

LOAD_PROFILES = wiring.PROJECT / "include" / "config" / "load"

# What can be loaded: a folder with ``workload.Workload`` and ``load.open_load``.
_LOADED: Mapping[str, str] = {
    system: f"include.engine.systems.{system}" for system in ("postgres", "cassandra", "kafka", "spark", "airflow")
}

# What a stream connects, and what its profile says about either: keys of that system's own workload.
_SIDES: Mapping[str, Sequence[str]] = {
    "kafka": ("partitions", "replication_factor"),
    "cassandra": ("replication_factor",),
}


def load_profiles() -> list[str]:
    """Name the load profiles.  Lists a folder only, so DAG files may call it."""
    from include.engine.loading import profiles

    return profiles.names(LOAD_PROFILES)


def load_profile(name: str) -> LoadProfile:
    """Read a load profile.

    :raises NotFound: when there is none of that name
    :raises Misconfigured: listing every mistake with its line
    """
    from include.engine.loading import profiles

    workloads = {system: import_module(f"{folder}.workload").Workload for system, folder in _LOADED.items()}
    return profiles.load(LOAD_PROFILES / f"{name}.yaml", workloads)


def load_targets(inventory: Inventory) -> dict[str, LoadPermission]:
    """Give what load tests may be asked for, and what the inventory allows there.  Reads the inventory only."""
    found = {str(target): one.load for target, one in sorted(inventory.targets.items()) if target.system in _LOADED}
    return found | {f"airflow/{name}": one.load for name, one in sorted(inventory.load.airflow.items())}


def open_load(inventory: Inventory, connections: Connections, target: str, profile: LoadProfile) -> LoadEngine:
    """Open what puts a profile's load on a target.  Asks no server yet.

    :raises NotFound: when the inventory has no such target
    :raises Misconfigured: when the profile is for another system
    """
    if target not in load_targets(inventory):
        known = ", ".join(load_targets(inventory)) or "none"
        raise NotFound(f"there is no target {target} for load tests", hint=f"the inventory has: {known}")
    system, _, name = target.partition("/")
    if profile.system != system:
        raise Misconfigured(
            f"the profile {profile.name} is for {profile.system}, and {target} is not",
            hint=f"choose a profile for {system}: ./mainstay load profiles lists them",
        )
    if system == "spark":
        return _open_stream_load(inventory, connections, Target.parse(target), profile)
    connection = load_targets(inventory)[target].connection
    if connection is None:
        airflows = inventory.load.airflow
        connection = (
            airflows[name].connection if system == "airflow" else inventory.settings(Target.parse(target)).connection
        )
    opener = import_module(f"{_LOADED[system]}.load").open_load
    return cast("LoadEngine", opener(connections.get(connection), profile))


def _open_stream_load(
    inventory: Inventory, connections: Connections, target: Target, profile: LoadProfile
) -> LoadEngine:
    """Open the load of a stream, which has two sides: each is made, found and removed by its own system's engine."""
    settings: Any = inventory.settings(target)
    names = {side: getattr(settings, side) for side in _SIDES} | settings.load.connections
    unknown = sorted(set(names) - set(_SIDES))
    if unknown:
        raise Misconfigured(
            f"{target}: load.connections has {', '.join(unknown)}", hint=f"a stream has {' and '.join(_SIDES)}"
        )
    sides = {}
    for side, keys in _SIDES.items():
        shape = import_module(f"{_LOADED[side]}.workload").Workload
        workload = shape.model_validate({key: getattr(profile.workload, key) for key in keys})
        opener = import_module(f"{_LOADED[side]}.load").open_load
        sides[side] = opener(connections.get(names[side]), profile.model_copy(update={"workload": workload}))
    opened = import_module(f"{_LOADED['spark']}.load").open_load
    return cast("LoadEngine", opened(settings.model_copy(update=names), connections, profile, sides))


def load_probes(inventory: Inventory, connections: Connections, target: str) -> Sequence[Probe]:
    """Give the probes whose readings may guard a load on *target*; nothing when its system brings none.

    A stream is guarded by those of the clusters on both of its sides as well, as far as they are targets.
    """
    system, _, _ = target.partition("/")
    if system == "airflow":
        return ()
    guarding = [Target.parse(target)]
    if system == "spark":
        settings = inventory.settings(guarding[0])
        guarding += [
            other
            for other, one in sorted(inventory.targets.items())
            if str(other.system) in _SIDES and one.connection == getattr(settings, str(other.system))
        ]
    return [probe for one in guarding for probe in wiring.open_probes(inventory, connections, one)]
