"""Puts contracts and implementations together: the only module, besides the systems themselves, that knows all systems.

Two ways in: :func:`open_pipeline` from the inventory, for whoever runs the pipeline; :func:`open_bucket` from the bucket alone,
for whoever must restore it on a bare machine.  System modules are imported when one of their targets is asked for, so
listing targets at DAG parsing loads no client library.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from include.engine.archiving import Archive
from include.engine.contracts import BackupSource, Clock, Connection, Connections, RestoreEngine
from include.engine.errors import Misconfigured, NotFound, Unsupported
from include.engine.mirroring import Mirror
from include.engine.model import Manifest, System, Target
from include.engine.probing import Probe
from include.engine.streaming import StreamJob

# The store's clients are loaded when a pipeline is opened, pydantic when an inventory is read: DAG files import this module.
if TYPE_CHECKING:
    from include.engine.inventory import Inventory, TargetSettings
    from include.engine.store.catalog import Catalog
    from include.engine.systems.spark.ingest import Ingested
    from include.engine.verbs.pipeline import Pipeline, Terms

PROJECT = Path(__file__).resolve().parents[2]

# A new system is a folder with these four names in it, and one line here.
_FOLDERS: Mapping[System, str] = {
    System.POSTGRES: "include.engine.systems.postgres",
    System.CASSANDRA: "include.engine.systems.cassandra",
    System.KAFKA: "include.engine.systems.kafka",
    System.SPARK: "include.engine.systems.spark",
}


def inventory_path() -> Path:
    """Give where the inventory is: ``MAINSTAY_INVENTORY``, else the repository's own."""
    return Path(os.environ.get("MAINSTAY_INVENTORY") or PROJECT / "include" / "config" / "inventory.yaml")


def load_inventory(path: Path | None = None) -> Inventory:
    """Read the inventory with the settings of every system that is installed.  Reads YAML only, so DAG files may call it."""
    from include.engine import inventory

    return inventory.load(path or inventory_path(), _Schemas())


def open_pipeline(inventory: Inventory, connections: Connections) -> Pipeline:
    """Build the pipeline that *inventory* describes.  Asks no server for anything yet."""
    from include.engine.store.bucket import Bucket
    from include.engine.store.catalog import Catalog
    from include.engine.store.retention import Policy
    from include.engine.verbs.pipeline import Pipeline

    store = connections.get(inventory.store.connection) if inventory.store.connection else None
    bucket = Bucket.open(inventory.store.url, store)
    catalog = Catalog(bucket)
    terms = {target: _terms(inventory, connections, target) for target in inventory.targets}
    keep = inventory.retention
    return Pipeline(
        name=inventory.pipeline,
        terms=terms,
        catalog=catalog,
        lookup=_Lookup(catalog, terms, inventory, connections),
        policy=Policy(
            redundancy=keep.redundancy,
            recovery_window=keep.recovery_window,
            daily=keep.daily,
            weekly=keep.weekly,
            monthly=keep.monthly,
            yearly=keep.yearly,
        ),
        objectives=inventory.objectives,
        lock=inventory.store.lock,
        signer=connections.get(inventory.evidence.key).password if inventory.evidence.key else "",
    )


def open_bucket(url: str, connection: Connection | None = None, *, identities: Sequence[str] = ()) -> Pipeline:
    """Build a pipeline from nothing but its bucket: it can be listed, verified and restored, not backed up."""
    from include.engine.inventory import Objectives
    from include.engine.store.bucket import Bucket
    from include.engine.store.catalog import Catalog
    from include.engine.store.retention import Policy
    from include.engine.verbs.pipeline import Pipeline, Terms

    catalog = Catalog(Bucket.open(url, connection))
    terms = {target: Terms(identities=tuple(identities)) for target in catalog.targets()}
    return Pipeline(
        name=url,
        terms=terms,
        catalog=catalog,
        lookup=_Lookup(catalog, terms, None, None),
        policy=Policy(),
        objectives=Objectives(),
    )


def mirrors(inventory: Inventory) -> list[str]:
    """Name the declared mirrors, ``<system>/<name>/<mirror>``.  Reads the inventory only, so DAG files may call it."""
    return [
        f"{target}/{name}"
        for target, settings in sorted(inventory.targets.items())
        for name in sorted(getattr(settings, "mirrors", {}))
    ]


def open_mirror(inventory: Inventory, connections: Connections, name: str) -> Mirror:
    """Open a declared mirror.

    :param name: ``<system>/<name>/<mirror>``
    :raises NotFound: when the inventory declares none of that name
    """
    where, _, mirror = name.rpartition("/")
    target = Target.parse(where)
    settings = inventory.settings(target)
    return cast("Mirror", _attribute(target.system, "mirror", "open_mirror")(target, settings, mirror, connections))


def streams(inventory: Inventory) -> list[str]:
    """Name the declared streaming jobs.  Reads the inventory only, so DAG files may call it."""
    return [str(target) for target in sorted(inventory.targets) if target.system is System.SPARK]


def open_stream(inventory: Inventory, connections: Connections, name: str) -> StreamJob:
    """Open a declared streaming job.

    :param name: ``<system>/<name>``
    :raises NotFound: when the inventory declares none of that name
    """
    target = Target.parse(name)
    return cast(
        "StreamJob", _attribute(target.system, "stream", "open_stream")(target, inventory.settings(target), connections)
    )


def ingest(
    inventory: Inventory, connections: Connections, job: str, wanted: Mapping[str, Any], clock: Clock
) -> Ingested:
    """Send records of users and events to the topics of a streaming job.

    :param wanted: ``users`` and ``events``, how many; ``seed``; ``api``, the URL of the Random User API, empty for never
    """
    from include.engine.systems.spark import ingest as spark
    from include.engine.systems.spark.settings import Settings

    settings = inventory.settings(Target.parse(job))
    assert isinstance(settings, Settings)
    return spark.ingest(
        connections.get(settings.kafka),
        spark.topics_of(settings),
        users=int(wanted["users"]),
        events=int(wanted["events"]),
        seed=int(wanted["seed"]),
        api=str(wanted["api"] or ""),
        clock=clock,
    )


def open_probes(inventory: Inventory, connections: Connections, target: Target) -> Sequence[Probe]:
    """Give what can be read of a live target; nothing when its system brings no probes.  Asks no server yet.

    A system's module ``unsaved`` gives those that compare the target with its newest backup, which is read when they are.
    """
    settings = inventory.settings(target)
    found: list[Probe] = []
    if live := _attribute(target.system, "probes", "open_probes", required=False):
        found += live(target, settings, connections)
    if compared := _attribute(target.system, "unsaved", "open_probes", required=False):
        found += compared(target, settings, connections, lambda: _newest(inventory, connections, target))
    return found


def _newest(inventory: Inventory, connections: Connections, target: Target) -> Manifest | None:
    catalog = open_pipeline(inventory, connections).catalog
    names = sorted(catalog.bucket.folders(f"{target}/backups"), reverse=True)
    return next((found for name in names if (found := catalog.find(target, name)) is not None), None)


class _Schemas(Mapping[System, "type[TargetSettings]"]):
    """The settings of every system; a module is imported when the inventory has a target of its system."""

    def __getitem__(self, system: System) -> type[TargetSettings]:
        if system not in _FOLDERS:
            raise KeyError(system)
        return cast("type[TargetSettings]", _attribute(system, "settings", "Settings"))

    def __contains__(self, system: object) -> bool:
        return system in _FOLDERS

    def __iter__(self) -> Iterator[System]:
        return iter(_FOLDERS)

    def __len__(self) -> int:
        return len(_FOLDERS)


class EnvironmentConnections:
    """Connections from ``AIRFLOW_CONN_<NAME>``, as a URI or JSON: the same names and forms that Airflow reads."""

    def get(self, name: str) -> Connection:
        """Give the connection *name*.

        :raises Misconfigured: when the variable is not set or cannot be read; its value is never quoted
        """
        variable = f"AIRFLOW_CONN_{name.upper()}"
        value = os.environ.get(variable)
        if not value:
            raise Misconfigured(
                f"the connection {name} is not defined",
                hint=f"set {variable} to a URI (type://login:password@host:port/schema?extra=…) or to Airflow's JSON form",
            )
        from include.engine.connection_forms import parse

        return parse(value, variable)


class _Lookup:
    """Finds a target's implementations by the names that every system's folder has."""

    def __init__(
        self,
        catalog: Catalog,
        terms: Mapping[Target, Terms],
        inventory: Inventory | None,
        connections: Connections | None,
    ) -> None:
        self._catalog = catalog
        self._terms = terms
        self._inventory = inventory
        self._connections = connections

    def source(self, target: Target) -> BackupSource:
        if self._inventory is None or self._connections is None:
            raise Misconfigured(f"{target} can only be backed up with an inventory", hint="set MAINSTAY_INVENTORY")
        settings = self._inventory.settings(target)
        opener = _attribute(target.system, "backup", "open_source")
        # A streaming job stands between systems: its settings name several connections.
        spans = target.system is System.SPARK
        found = self._connections if spans else self._connections.get(settings.connection)
        return cast("BackupSource", opener(target, settings, found))

    def engine(self, target: Target) -> RestoreEngine:
        opener = _attribute(target.system, "restore", "open_engine")
        servers = self._inventory.servers if self._inventory else {}
        identities = self._terms[target].identities if target in self._terms else ()
        # A system that restores into a running server finds it by the name of its connection, on a bare machine too.
        connections = self._connections or EnvironmentConnections()
        return cast(
            "RestoreEngine",
            opener(
                target,
                self._catalog,
                identities=identities,
                servers=servers,
                connections=connections,
                targets=self._inventory.targets if self._inventory else {},
            ),
        )

    def archive(self, target: Target) -> Archive | None:
        opener = _attribute(target.system, "archive", "open_archive", required=False)
        return cast("Archive", opener(target, self._catalog)) if opener else None


def _terms(inventory: Inventory, connections: Connections, target: Target) -> Terms:
    from include.engine.store.encryption import identities_in
    from include.engine.verbs.pipeline import Terms

    encryption = inventory.encryption_of(target)
    identities: tuple[str, ...] = ()
    if encryption.identity:
        identities = tuple(identities_in(connections.get(encryption.identity).password))
    return Terms(
        objectives=inventory.objectives_of(target),
        recipients=encryption.recipients,
        identities=identities,
        timeout=inventory.settings(target).timeout,
    )


def _attribute(system: System, module: str, name: str, *, required: bool = True) -> Any:
    folder = _FOLDERS.get(system)
    if folder is None:
        raise Unsupported(f"this Mainstay knows no {system}", hint=f"it knows {', '.join(_FOLDERS)}")
    try:
        return getattr(import_module(f"{folder}.{module}"), name)
    except ModuleNotFoundError as error:
        if not required and error.name == f"{folder}.{module}":
            return None
        raise NotFound(f"the Python module {error.name} is not installed", hint="install requirements.txt") from error
