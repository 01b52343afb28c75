"""The one file that says what the pipeline consists of: targets, where their backups go, objectives, retention.

It is read at DAG parsing, so this module imports nothing but pydantic and YAML.  Every mistake is told at once, with its line.
Secrets are named here (``connection: postgres_main``), never written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from include.engine.errors import Misconfigured, NotFound
from include.engine.loading.permission import LoadPermission, LoadTargets
from include.engine.model import System, Target

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError(f"{value!r} is not a duration; write a number and a unit, like 30s, 15m, 2h, 7d or 4w")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Cron = Annotated[str, Field(pattern=r"^(@\w+|(\S+\s+){4}\S+)$")]


class Section(BaseModel):
    """A part of the inventory: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class StoreSection(Section):
    """The object store that holds the backups."""

    url: str = Field(description="s3://bucket/prefix, gs://, az:// or file://")
    connection: str | None = Field(None, description="name of the connection with the key pair and the endpoint")
    lock: Duration | None = Field(None, description="object lock: for how long nobody can delete what a backup wrote")


class Schedule(Section):
    """When the DAGs run; null for only by hand."""

    backup: Cron | None = "0 2 * * *"
    drill: Cron | None = "0 4 * * 0"
    upkeep: Cron | None = "30 5 * * *"
    load_test: Cron | None = "0 3 * * 6"


class TargetSettings(Section):
    """What every target has, whatever its system.  A system's own settings extend it."""

    connection: str = Field(description="name of the connection to the live system")
    objectives: Objectives | None = Field(None, description="instead of the pipeline's")
    encryption: Encryption | None = Field(None, description="instead of the pipeline's")
    timeout: Duration = Field(timedelta(hours=12), description="a backup that takes longer is stopped")
    queue: str | None = Field(None, description="Airflow queue whose workers are near the data")
    load: LoadPermission = Field(LoadPermission(), description="whether load tests may run against it, and how much")


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
    objectives: Objectives = Objectives()
    retention: Retention = Retention()
    encryption: Encryption = Encryption()
    schedule: Schedule = Schedule()
    late_after: Duration = Field(timedelta(hours=2), description="a backup run older than this is reported as late")
    targets: dict[Target, TargetSettings] = Field(default_factory=dict, exclude=True)
    servers: dict[str, ServerSection] = Field(
        default_factory=dict, description="places that a restore may go to by name"
    )

    load: LoadTargets = LoadTargets()

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

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
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Misconfigured(f"{name} is not YAML: {error}", hint="mend the line that is named") from error
    if not isinstance(document, dict) or root is None:
        raise Misconfigured(f"{name} is empty", hint="start from include/config/inventory.yaml of the repository")
    lines = dict(_lines(root, ()))
    mistakes = list(_duplicates(root))
    targets, wrong = _targets(document, schemas)
    try:
        inventory = Inventory.model_validate(
            {**{k: v for k, v in document.items() if k not in set(System)}, "targets": targets}
        )
    except ValidationError as error:
        wrong = [*_told(error, ()), *wrong]
        inventory = None
    if not targets and not any(str(system) in document for system in System):
        wrong.append(((), f"no target at all: add a section such as `{System.POSTGRES}:`"))
    mistakes += [(_line(lines, where), message) for where, message in wrong]
    if mistakes or inventory is None:
        told = "\n  ".join(f"line {line}: {message}" for line, message in sorted(mistakes))
        raise Misconfigured(
            f"{name} has {len(mistakes)} mistake(s):\n  {told}", hint="docs/inventory.md explains each key"
        )
    return inventory


Where = tuple[str | int, ...]


def _targets(
    document: dict[str, Any], schemas: Schemas
) -> tuple[dict[Target, TargetSettings], list[tuple[Where, str]]]:
    targets: dict[Target, TargetSettings] = {}
    wrong: list[tuple[Where, str]] = []
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
                wrong += _told(error, where)
    return targets, wrong


def _told(error: ValidationError, prefix: Where) -> list[tuple[Where, str]]:
    told = []
    for mistake in error.errors():
        where = (*prefix, *mistake["loc"])
        key = ".".join(map(str, where))
        message = {
            "extra_forbidden": "unknown key",
            "missing": "is required",
        }.get(mistake["type"], mistake["msg"].removeprefix("Value error, "))
        told.append((where, f"{key}: {message}"))
    return told


def _line(lines: Mapping[Where, int], where: Where) -> int:
    while where and where not in lines:
        where = where[:-1]  # a missing key is told at the section that lacks it
    return lines.get(where, 1)


def _lines(node: yaml.Node, path: Where) -> Iterator[tuple[Where, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from ((p, n) for p, n in _lines(value, (*path, key.value)) if p != (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))


def _duplicates(node: yaml.Node) -> Iterator[tuple[int, str]]:
    # YAML keeps the last of two equal keys and says nothing: a second `main:` would silently replace the first target.
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, f"{key.value}: given twice"
            seen.add(key.value)
            yield from _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _duplicates(value)
