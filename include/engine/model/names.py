"""How targets and backups are called."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import Struct

from include.engine.errors import Misconfigured


class System(StrEnum):
    """The kinds of system that can be lost."""

    POSTGRES = "postgres"
    CASSANDRA = "cassandra"
    KAFKA = "kafka"
    SPARK = "spark"


# A set freezes its targets in this order; the order is what makes it consistent without a pause (docs/architecture.md).
FREEZE_ORDER = (System.SPARK, System.CASSANDRA, System.KAFKA, System.POSTGRES)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Target(Struct, frozen=True, order=True):
    """One thing that can be lost, written ``<system>/<name>``."""

    system: System
    name: str

    def __str__(self) -> str:
        return f"{self.system}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``<system>/<name>``.

        :raises Misconfigured: when it is not of that form or names a system that Mainstay does not know
        """
        system, _, name = text.partition("/")
        if system not in set(System) or not _NAME.fullmatch(name):
            known = ", ".join(System)
            raise Misconfigured(
                f"{text!r} is not a target",
                hint=f"write <system>/<name>: a system of {known} and a name of a-z, 0-9, _ and -",
            )
        return cls(System(system), name)


def backup_id(at: datetime) -> str:
    """Name a backup after its run (``20261123T020000Z``), so that a retry finds its own work."""
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def backup_time(backup: str) -> datetime:
    """Give the time that a backup or set is named after.

    :raises Misconfigured: when *backup* is not such a name
    """
    try:
        return datetime.strptime(backup, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise Misconfigured(
            f"{backup!r} is not the name of a backup",
            hint="backups are named like 20261123T020000Z; `./mainstay catalog` lists them",
        ) from error
