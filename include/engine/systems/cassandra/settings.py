"""What the inventory says about a Cassandra target.  Imports no client library: it is read at DAG parsing."""

from __future__ import annotations

import re
from datetime import time, timedelta
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from include.engine.inventory import Duration, Section, TargetSettings

_RATE = re.compile(r"^(\d+)\s*(KiB|MiB|GiB)$")
_FACTORS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_WINDOW = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$")


class NodeSettings(Section):
    """What is different on one node."""

    host: str | None = Field(None, description="where the transport finds it: a host for ssh, a pod for kubernetes")
    jolokia_port: int | None = Field(None, ge=1, le=65535, description="instead of the target's")
    nodetool: tuple[str, ...] | None = Field(None, description="instead of the target's")
    staging: str | None = Field(None, description="instead of the target's")
    commitlog_archive: str | None = Field(None, description="instead of the target's")


class Settings(TargetSettings):
    """One Cassandra cluster."""

    keyspaces: tuple[str, ...] = Field((), description="which keyspaces to back up; all but the system's when empty")
    exclude: tuple[str, ...] = Field((), description="keyspaces that are left out on purpose, and are no gap")
    replication: dict[str, dict[str, int]] = Field(
        {}, description="copies of each keyspace by datacenter, as they should be; the probes tell what differs"
    )
    roles: bool = Field(default=False, description="also note roles and grants (never passwords); needs a superuser")
    transport: Literal["local", "ssh", "kubernetes"] = Field(
        "local", description="how commands reach a node: on this machine, by ssh, or by kubectl exec"
    )
    ssh_user: str | None = Field(None, description="whom to log in as, for ssh")
    ssh_port: int = Field(22, ge=1, le=65535, description="for ssh")
    ssh_identity: str | None = Field(None, description="path of the private key on the worker, for ssh")
    ssh_known_hosts: str | None = Field(None, description="path of the known hosts on the worker, for ssh")
    kubernetes_namespace: str = Field("default", description="namespace of the pods, for kubernetes")
    kubernetes_container: str = Field("cassandra", description="container in the pods, for kubernetes")
    kubectl: tuple[str, ...] = Field(("kubectl",), description="the command and its options, for kubernetes")
    run_as: str | None = Field(None, description="account that owns Cassandra's files, when the login is another one")
    jolokia: bool = Field(default=False, description="ask nodes through Jolokia; nodetool is used when it is down")
    jolokia_port: int = Field(8778, ge=1, le=65535, description="where Jolokia listens on each node")
    nodetool: tuple[str, ...] = Field(("nodetool",), description="the command and its options, on each node")
    staging: str | None = Field(
        None, description="directory on each node for files of a restore; beside the data directory when not given"
    )
    commitlog_archive: str | None = Field(
        None,
        description="directory on each node where archive_command links finished commit logs, for points in time; not archived"
        " when not given",
    )
    nodes: dict[str, NodeSettings] = Field({}, description="by the address that `nodetool status` shows")
    snapshot_ttl: Duration = Field(
        timedelta(hours=24), description="snapshots vanish by themselves after this, whatever happens to us"
    )
    uploads_at_once: int = Field(4, ge=1, le=64, description="transfers of each node at the same time")
    bandwidth: str | None = Field(
        "50MiB",
        description="what each node sends a second in a backup, at most, for its readers' sake; null for no limit",
    )
    restore_bandwidth: str | None = Field(
        None, description="what each node fetches a second in a restore, at most; no limit when not given"
    )
    window: str | None = Field(None, description="copy only between these times, UTC: 22:00-06:00")
    multipart_above: str = Field("4GiB", description="larger files go in parts; S3 takes up to 5 GiB in one piece")
    check_data: bool = Field(default=True, description="compare each new Data.db with Cassandra's own CRC on the node")
    sample_ranges: int | None = Field(
        None,
        ge=0,
        le=256,
        description="token ranges sampled per table, for the drill to compare; when not given four, and of many tables fewer",
    )
    sample_rows: int = Field(200, ge=1, le=10_000, description="rows in each of them, at most")

    @field_validator("bandwidth", "restore_bandwidth", "multipart_above")
    @classmethod
    def _rate(cls, value: str | None) -> str | None:
        if value is not None and not _RATE.match(value):
            raise ValueError(f"{value!r} is not a size; write a number and KiB, MiB or GiB")
        return value

    @field_validator("multipart_above")
    @classmethod
    def _part(cls, value: str) -> str:
        if not 5 << 20 <= size(value) <= 5 << 30:
            raise ValueError(f"{value!r}: S3 takes 5 MiB at least as a part, and 5 GiB at most in one piece")
        return value

    @field_validator("window")
    @classmethod
    def _times(cls, value: str | None) -> str | None:
        if value is not None and not (_WINDOW.match(value) and value[:5] != value[6:]):
            raise ValueError(f"{value!r} is not a window; write 22:00-06:00, in UTC")
        return value

    @model_validator(mode="after")
    def _lasting(self) -> Self:
        if self.snapshot_ttl < self.timeout:
            raise ValueError(
                f"snapshot_ttl ({self.snapshot_ttl}) is shorter than timeout ({self.timeout}):"
                " the snapshot could vanish while it is copied"
            )
        closed = self.closed
        if closed >= self.timeout:
            raise ValueError(
                f"window ({self.window}) is closed for {_hours(closed)} at a time, and timeout is {_hours(self.timeout)}: a backup"
                " that has to wait for it could be ended before it has sent anything; set timeout, and snapshot_ttl"
                f" ({_hours(self.snapshot_ttl)}), to more than {_hours(closed)}, by as much as a copy takes, or widen the window"
            )
        return self

    def covers(self, keyspace: str) -> bool:
        """Say whether a keyspace that is not the system's is backed up."""
        return keyspace not in self.exclude and (not self.keyspaces or keyspace in self.keyspaces)

    @property
    def bandwidth_bytes(self) -> int | None:
        """Bytes a second that one node may send in a backup; None without a limit."""
        return size(self.bandwidth) if self.bandwidth else None

    @property
    def restore_bandwidth_bytes(self) -> int | None:
        """Bytes a second that one node may fetch in a restore; None without a limit."""
        return size(self.restore_bandwidth) if self.restore_bandwidth else None

    @property
    def multipart_bytes(self) -> int:
        """Size above which a file is sent in parts."""
        return size(self.multipart_above)

    def node(self, address: str) -> NodeSettings:
        """What holds for one node: its own settings where it has any, else the target's."""
        # All of it was validated when the inventory was read: nothing is built to do it again.
        own = self.nodes.get(address) or NodeSettings.model_construct()
        return NodeSettings.model_construct(
            host=own.host or address,
            jolokia_port=own.jolokia_port or self.jolokia_port,
            nodetool=own.nodetool or self.nodetool,
            staging=own.staging or self.staging,
            commitlog_archive=own.commitlog_archive or self.commitlog_archive,
        )

    @property
    def archives(self) -> bool:
        """Whether commit logs are archived."""
        return bool(self.commitlog_archive or any(node.commitlog_archive for node in self.nodes.values()))

    def in_window(self, now: time) -> bool:
        """Whether copying is allowed at *now* (UTC)."""
        if self._open is None:
            return True
        begin, end = self._open
        return begin <= now < end if begin <= end else now >= begin or now < end

    @property
    def closed(self) -> timedelta:
        """For how long copying has to wait at most: from the end of the window to its next beginning."""
        if self._open is None:
            return timedelta()
        begin, end = (timedelta(hours=moment.hour, minutes=moment.minute) for moment in self._open)
        return (begin - end) % timedelta(days=1)

    @property
    def _open(self) -> tuple[time, time] | None:
        match = _WINDOW.match(self.window or "")
        return (time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))) if match else None


def _hours(length: timedelta) -> str:
    minutes = int(length.total_seconds()) // 60
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def size(text: str) -> int:
    """Read ``20MiB``."""
    match = _RATE.match(text)
    assert match is not None  # the validator above has looked
    return int(match[1]) * _FACTORS[match[2]]
