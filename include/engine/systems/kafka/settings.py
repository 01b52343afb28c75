"""What the inventory may say about a Kafka target.  It is read at DAG parsing, so this imports no client library."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import Field, field_validator

from include.engine.inventory import Section, TargetSettings


class Mirror(Section):
    """A running copy of topics on another cluster, by MirrorMaker 2 on Kafka Connect.  One direction, names stay."""

    connect: str = Field(description="name of the connection to Kafka Connect's REST interface, on the target's side")
    to: str = Field(description="name of the connection to the cluster that gets the copy")
    source_alias: str = Field("main", pattern=r"^[A-Za-z0-9_.-]+$", description="the source's name in MirrorMaker 2")
    target_alias: str = Field("dr", pattern=r"^[A-Za-z0-9_.-]+$", description="the copy's name in MirrorMaker 2")
    topics: tuple[str, ...] = Field((".*",), description="regular expressions of topics to mirror")
    groups: tuple[str, ...] = Field((".*",), description="regular expressions of groups to translate")
    tasks: int = Field(2, ge=1, description="how many tasks may copy side by side")
    replication_factor: int = Field(3, ge=1, description="of the topics on the target")
    source_servers: str | None = Field(
        None, description="the source's bootstrap servers as Connect sees them, when they differ from ours"
    )

    @field_validator("topics", "groups")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return _patterns(patterns)


class Settings(TargetSettings):
    """A Kafka cluster."""

    topics: tuple[str, ...] = Field((".*",), description="regular expressions of the topics to back up, whole names")
    exclude: tuple[str, ...] = Field(
        (), description="regular expressions of topics that are left out on purpose, and are no gap"
    )
    groups: tuple[str, ...] = Field(
        (".*",), description="regular expressions of consumer groups whose offsets are kept"
    )
    exclude_groups: tuple[str, ...] = Field(
        (), description="regular expressions of consumer groups that are left out on purpose, and are no gap"
    )
    keep_expired: bool = Field(
        False, description="let new backups keep records that the topic's own retention has deleted meanwhile"
    )
    readers: int = Field(2, ge=1, le=64, description="processes that read side by side")
    segment_records: int = Field(500_000, ge=1, description="records in a segment, at most")
    segment_bytes: int = Field(
        64 << 20, ge=1 << 16, le=1 << 30, description="bytes of records in a segment before compression, about"
    )
    mirrors: dict[str, Mirror] = Field(default_factory=dict, description="running copies on other clusters, by name")

    @field_validator("mirrors")
    @classmethod
    def _have_names(cls, mirrors: dict[str, Mirror]) -> dict[str, Mirror]:
        for name in mirrors:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                raise ValueError(f"{name!r} is no name of a mirror: letters, digits, `_`, `.` and `-` are")
        return mirrors

    @field_validator("topics", "exclude", "groups", "exclude_groups")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return _patterns(patterns)

    def occupies(self) -> Sequence[str]:
        """Name its mirrors: connectors are called after a mirror, and not after what it is of."""
        return [f"a mirror {name} on {mirror.connect}" for name, mirror in self.mirrors.items()]

    def connections(self) -> Sequence[str]:
        """Name those of its mirrors, too."""
        return [*super().connections(), *(name for one in self.mirrors.values() for name in (one.connect, one.to))]

    def covers(self, topic: str) -> bool:
        """Say whether *topic* is backed up."""
        return matches(self.topics, topic) and not matches(self.exclude, topic)

    def keeps(self, group: str) -> bool:
        """Say whether the offsets of *group* are kept."""
        return matches(self.groups, group) and not matches(self.exclude_groups, group)


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Say whether one of *patterns* is the whole of *name*."""
    return any(re.fullmatch(pattern, name, re.DOTALL) for pattern in patterns)  # a group's name may hold a line break


def _patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return patterns
