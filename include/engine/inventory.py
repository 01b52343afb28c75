"""The one file that says what the pipeline consists of: targets, where their backups go, objectives, retention.

It is read at DAG parsing, so this module imports nothing but pydantic and YAML.  Every mistake is told at once, with its line.
Secrets are named here (``connection: postgres_main``), never written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from include.engine.errors import Misconfigured, NotFound
from include.engine.loading.permission import LoadPermission, LoadTargets
from include.engine.model import System, Target
from include.engine.sections import Cron, CronOrBackup, Duration, Mistake, Section, mistakes_of, read_yaml, unless_given
from include.engine.watching import DeploymentSection, ExpectSection, NotifySection, SweepSection

__all__ = ["Cron", "Duration", "Section"]  # what the systems' settings are made of


class Objectives(Section):
    """What was promised; drills measure what is achieved."""

    rpo: Duration = Field(timedelta(minutes=15), description="how much of the newest data may be lost")
    rto: Duration = Field(timedelta(hours=1), description="how long a restore may take")


class Retention(Section):
    """Which sets are kept.  A set is kept when any of these keeps it; with none of them, everything is kept."""

    redundancy: int | None = Field(None, ge=1, description="keep at least this many of the newest sets")
    recovery_window: Duration | None = Field(
        None, description="keep what is needed to recover to any time in this window"
    )
    daily: int = Field(0, ge=0, description="keep the last set of this many days")
    weekly: int = Field(0, ge=0, description="keep the last set of this many ISO weeks")
    monthly: int = Field(0, ge=0, description="keep the last set of this many months")
    yearly: int = Field(0, ge=0, description="keep the last set of this many years")


class Encryption(Section):
    """Encryption in the client, with age."""

    recipients: tuple[str, ...] = Field((), description="age public keys; any one of their secret keys opens a backup")
    identity: str | None = Field(
        None, description="name of the connection whose password is the age secret key, for restores"
    )


class Evidence(Section):
    """Signed evidence of drills."""

    key: str | None = Field(
        None, description="name of the connection whose password is the key that signs (`./mainstay evidence key`)"
    )


class StoreSection(Section):
    """The object store that holds the backups."""

    url: str = Field(description="s3://bucket/prefix, gs://, az:// or file://")
    connection: str | None = Field(None, description="name of the connection with the key pair and the endpoint")
    lock: Duration | None = Field(None, description="object lock: for how long nobody can delete what a backup wrote")


class Schedule(Section):
    """When the DAGs run; null for only by hand."""

    backup: Cron | None = "0 2 * * *"
    drill: CronOrBackup | None = Field(
        "0 4 * * 0", description="or `after-backup`: of every set, as soon as it was read back"
    )
    upkeep: Cron | None = "30 5 * * *"
    sweep: Cron | None = "*/5 * * * *"
    mirror: Cron | None = None  # of each mirror that is declared
    checklist_morning: Cron | None = "0 6 * * *"
    checklist_evening: Cron | None = "0 18 * * *"
    load_test: Cron | None = "0 3 * * 6"


class TargetSettings(Section):
    """What every target has, whatever its system.  A system's own settings extend it."""

    connection: str = Field(description="name of the connection to the live system")
    objectives: Objectives | None = Field(None, description="instead of the pipeline's")
    encryption: Encryption | None = Field(None, description="instead of the pipeline's")
    timeout: Duration = Field(timedelta(hours=12), description="a backup that takes longer is stopped")
    queue: str | None = Field(None, description="Airflow queue whose workers are near the data")
    load: LoadPermission = unless_given("whether load tests may run against it, and how much")

    def occupies(self) -> Sequence[str]:
        """Name what no other target may have as well, for a person."""
        return ()

    def connections(self) -> Sequence[str]:
        """Name every connection that its work needs."""
        identity = self.encryption.identity if self.encryption else None
        named = (self.connection, identity, self.load.connection, *self.load.connections.values())
        return [name for name in named if name]


class ServerSection(Section):
    """A place that a restore may go to by name."""

    system: System
    data_dir: Path = Field(description="directory that will hold the data; empty or about to be replaced")
    port: int = Field(ge=1, le=65535, description="port that the restored server listens on, on loopback")


class Inventory(Section):
    """The whole file."""

    version: int = Field(1, ge=1, le=1, description="of this format")
    pipeline: str = Field(min_length=1, description="the pipeline's name, for reports")
    owner: str = Field("platform-ops", description="the team that is told; never a person")
    store: StoreSection
    objectives: Objectives = unless_given()
    retention: Retention = unless_given()
    encryption: Encryption = unless_given()
    evidence: Evidence = unless_given()
    schedule: Schedule = unless_given()
    late_after: Duration = Field(timedelta(hours=2), description="a backup run older than this is reported as late")
    targets: dict[Target, TargetSettings] = Field(default_factory=dict, exclude=True)
    servers: dict[str, ServerSection] = Field(
        default_factory=dict, description="places that a restore may go to by name"
    )

    sweep: SweepSection = unless_given()
    expect: ExpectSection = unless_given()
    notify: dict[str, NotifySection] = Field(default_factory=dict, description="who is told of findings, by any name")
    deployment: DeploymentSection = unless_given()
    load: LoadTargets = unless_given()

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def settings(self, target: Target) -> TargetSettings:
        """Give the settings of one target.

        :raises NotFound: when the inventory has no such target
        """
        found = self.targets.get(target)
        if found is None:
            known = ", ".join(map(str, sorted(self.targets)))
            raise NotFound(f"the inventory has no target {target}", hint=f"it has: {known}")
        return found

    def objectives_of(self, target: Target) -> Objectives:
        """Give the objectives that hold for one target."""
        return self.settings(target).objectives or self.objectives

    def encryption_of(self, target: Target) -> Encryption:
        """Give the encryption that holds for one target."""
        return self.settings(target).encryption or self.encryption


Schemas = Mapping[System, type[TargetSettings]]


def load(path: Path, schemas: Schemas) -> Inventory:
    """Read an inventory.

    :param schemas: the settings of each system that this installation knows
    :raises NotFound: when there is no such file
    :raises Misconfigured: listing every mistake with its line
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no inventory at {path}",
            hint="write one (docs/inventory.md), or set MAINSTAY_INVENTORY to where it is",
        ) from error
    return parse(text, schemas, name=path.name)


def parse(text: str, schemas: Schemas, *, name: str = "inventory.yaml") -> Inventory:
    """Read an inventory from its text (see :func:`load`)."""
    source = read_yaml(text, name=name, start_from="include/config/inventory.yaml")
    document = source.document
    targets, wrong = _targets(document, schemas)
    inventory = None
    try:
        inventory = Inventory.model_validate(
            {**{k: v for k, v in document.items() if k not in set(System)}, "targets": targets}
        )
    except ValidationError as error:
        wrong = [*mistakes_of(error, ()), *wrong]
    if not targets and not any(str(system) in document for system in System):
        wrong.append(((), f"no target at all: add a section such as `{System.POSTGRES}:`"))
    source.refuse(wrong, hint="docs/inventory.md explains each key")
    assert inventory is not None  # what could not be read was refused
    return inventory


def _targets(document: dict[str, Any], schemas: Schemas) -> tuple[dict[Target, TargetSettings], list[Mistake]]:
    targets: dict[Target, TargetSettings] = {}
    wrong: list[Mistake] = []
    for system in System:
        if str(system) not in document:
            continue
        section = document[str(system)]
        if not isinstance(section, dict) or not section:
            wrong.append(((str(system),), f"{system}: expected a mapping of names to settings"))
            continue
        if system not in schemas:
            wrong.append(((str(system),), f"{system}: this installation has no such system"))
            continue
        for key, settings in section.items():
            where = (str(system), key)
            try:
                targets[Target.parse(f"{system}/{key}")] = schemas[system].model_validate(settings)
            except Misconfigured as error:
                wrong.append((where, str(error)))
            except ValidationError as error:
                wrong += mistakes_of(error, where)
    taken: dict[str, Target] = {}
    for target, found in targets.items():
        for thing in found.occupies():
            if (first := taken.setdefault(thing, target)) != target:
                wrong.append(((str(target.system), target.name), f"{first} has {thing}, too: call one something else"))
    return targets, wrong
