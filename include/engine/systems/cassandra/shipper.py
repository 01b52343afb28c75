"""Ships finished commit log segments to the bucket: the process of ``./mainstay commit-log-archive``.

Cassandra's ``archive_command`` only makes a hard link, so it never waits for a network.  This looks at the links on each node,
has the node send them by signed URL, and removes a link when the store lists its object.  Killed at any moment, the next run
goes on: an object is named after its digest and written once.  What is stored by then leads somewhere without a gap that nobody
could notice: segments are sent in :func:`~include.engine.systems.cassandra.commit_logs.turns`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from include.engine.contracts import Connection, Progress, Stop
from include.engine.errors import Incomplete, Interrupted, MainstayError, Misconfigured
from include.engine.model import Target
from include.engine.store.bucket import Bucket
from include.engine.store.shared import SharedFolder
from include.engine.systems.cassandra import transfer
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.commit_logs import Segment, folder_of, key_of, number_of, turns
from include.engine.systems.cassandra.node_scripts import digests, segments
from include.engine.systems.cassandra.sessions import session
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import quote, transport_to

_TICK = 0.2


class SegmentFolder(SharedFolder):
    """Signs uploads of segments: the digest tells which one, the key is the archive's."""

    def __init__(self, bucket: Bucket, target: Target, found: dict[str, Segment]) -> None:
        super().__init__(bucket, target)
        self._target = target
        self._found = found

    def key(self, sha256: str) -> str:
        """Give the key of the segment with this digest."""
        return key_of(self._target, self._found[sha256])


class CommitLogShipper:
    """Ships the commit logs of one target's nodes."""

    def __init__(
        self, target: Target, settings: Settings, connection: Connection, bucket: Bucket, progress: Progress
    ) -> None:
        self.target = target
        self.bucket = bucket
        self._settings = settings
        self._connection = connection
        self._progress = progress

    def ship(self, stop: Stop) -> int:
        """Ship what is there now, on all nodes, and give the number of segments.  One node's error does not hinder the others.

        :raises Misconfigured: when the inventory names no directory, or a node has not got it
        :raises Unreachable: when a node or the store does not answer
        """
        with session(self._connection) as cql:
            nodes = cql.ring()

        def one(node: Node) -> int | MainstayError:
            try:
                return self._ship_from(node, stop)
            except Interrupted:
                raise
            except MainstayError as error:
                return error

        found = side_by_side(one, nodes)
        for error in found:
            if isinstance(error, MainstayError):
                raise error
        return sum(count for count in found if isinstance(count, int))

    def run(self, stop: Stop, *, every: timedelta) -> None:
        """Ship again and again until *stop*; what fails is told and tried again.

        :raises Misconfigured: what no trying again mends
        """
        while not stop.stopped:
            try:
                count = self.ship(stop)
                if count:
                    self._progress.say(f"{self.target}: {count} segments shipped")
            except Interrupted:
                return
            except Misconfigured:
                raise
            except MainstayError as error:
                self._progress.say(f"{self.target}: {error.message}; trying again")
            _pause(stop, every.total_seconds())

    def _ship_from(self, node: Node, stop: Stop) -> int:
        directory = self._settings.node(node.address).commitlog_archive
        if not directory:
            raise Misconfigured(
                f"{self.target}: no directory of archived commit logs is named for {node.address}",
                hint="set commitlog_archive in the inventory to where archive_command links finished segments",
            )
        transport = transport_to(self._settings, node.address)
        timeout = self._settings.timeout.total_seconds()
        listed = transport.run(segments(directory), timeout=timeout, stop=stop).splitlines()
        if "X" in listed:
            raise Misconfigured(
                f"{node.address} has no directory {directory}",
                hint="make it, writable for Cassandra, and restart the node",
            )
        found: dict[str, Segment] = {}
        sizes = {
            path: (int(size), int(modified)) for size, modified, path in (line[2:].split(" ", 2) for line in listed)
        }
        for line in transport.run(digests(list(sizes), []), timeout=timeout, stop=stop).splitlines():
            sha256, _, path = line.removeprefix("S ").partition(" ")
            name = path.rpartition("/")[2]
            number = number_of(name)
            if path in sizes and number is not None:
                size, modified = sizes[path]
                when = datetime.fromtimestamp(modified, UTC)
                segment = Segment(
                    host_id=node.host_id, name=name, number=number, modified=when, sha256=sha256, bytes=size, key=path
                )
                found[sha256] = segment
        if not found:
            return 0
        sender = transfer.Sender(
            where=node.address,
            transport=transport,
            shared=SegmentFolder(self.bucket, self.target, found),
            at_once=self._settings.uploads_at_once,
            rate=self._settings.bandwidth_bytes,
            progress=self._progress,
            stop=stop,
            timeout=timeout,
        )
        for turn in turns(found.values()):
            transfer.send(sender, [transfer.Piece(sha256=one.sha256, path=one.key, bytes=one.bytes) for one in turn])
            self._require_stored(node, turn)
            transport.run("rm -f -- " + " ".join(quote(one.key) for one in turn), timeout=timeout, stop=stop)
        return len(found)

    def _require_stored(self, node: Node, shipped: Iterable[Segment]) -> None:
        there = {one.key: one.bytes for one in self.bucket.list(f"{folder_of(self.target)}/{node.host_id}")}
        lacking = [one.name for one in shipped if there.get(key_of(self.target, one)) != one.bytes]
        if lacking:
            raise Incomplete(f"{node.address}: the store has not got {lacking[0]}", hint="the next try sends it again")


def _pause(stop: Stop, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not stop.stopped and time.monotonic() < deadline:
        time.sleep(_TICK)
