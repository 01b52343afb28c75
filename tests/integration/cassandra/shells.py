"""Nodes that are a directory and a shell on this machine, with a real store behind a wire: for what needs no cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from include.engine.contracts import Connection, CopyJob, Stop
from include.engine.model import Cut
from include.engine.store.bucket import Bucket
from include.engine.store.shared import SharedFolder
from include.engine.store.vault import VaultReader, VaultWriter
from include.engine.systems.cassandra.backup import NodeFiles
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.sstables import SnapshotFile
from include.engine.systems.cassandra.transport import CommandTransport, Line, NodeTransport
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.faults import Wire
from tests.integration.cassandra.estate import TARGET, Told, now


def node(name: str) -> Node:
    return Node(host_id=name, address=name, datacenter="dc1", rack="r", version="5.0.9", tokens=("1",))


def open_through(wire: Wire, store: ObjectStoreServer, bucket: str) -> Bucket:
    known = Connection(login=store.access_key, password=store.secret_key, extra={"endpoint_url": wire.endpoint})
    return Bucket.open(f"s3://{bucket}/p", known)


def shell(name: str) -> CommandTransport:
    return CommandTransport(f"local shell for {name}", ["sh", "-s"])


def dead(name: str) -> CommandTransport:
    """A node that breaks off a second after it was asked."""
    return CommandTransport(f"ssh to {name}", ["sh", "-c", "sleep 1; exit 255"], lost=[255])


class Dying:
    """A node that runs so many scripts, and then is gone."""

    def __init__(self, name: str, scripts: int) -> None:
        self.name, self._left = name, scripts

    def run(self, script: str, *, timeout: float, stop: Stop | None = None, on_line: Line | None = None) -> str:
        self._left -= 1
        return (shell if self._left >= 0 else dead)(self.name).run(script, timeout=timeout, stop=stop, on_line=on_line)


def share(name: str, transport: NodeTransport, paths: Sequence[Path]) -> NodeFiles:
    """One node's share of a snapshot: these files."""
    files = [
        SnapshotFile(
            path=str(path),
            keyspace="ks",
            table="t",
            table_id="0" * 32,
            name=path.name,
            bytes=path.stat().st_size,
            modified=1,
            inode=n,
        )
        for n, path in enumerate(paths)
    ]
    digests = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return NodeFiles(node=node(name), transport=transport, files=files, digests=digests, hashed_bytes=0)


def job(bucket: Bucket) -> CopyJob:
    return CopyJob(
        id="20261123T020000Z",
        target=TARGET,
        cut=Cut(at=now(), position="t"),
        writer=VaultWriter(bucket, "attempt", recipients=()),
        reader=VaultReader(bucket, identities=(), manifests=()),
        shared=SharedFolder(bucket, TARGET),
        history=(),
        progress=Told(),
        stop=Stop(),
        clock=now,
    )
