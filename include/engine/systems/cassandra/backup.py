"""Backs up a live cluster: the freeze snapshots all nodes, the copy lets each of them send what the store has not got."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import cast

import msgspec
from msgspec import Struct

from include.engine.contracts import BackupSource, Clock, Connection, CopyJob, Stop
from include.engine.errors import Incomplete, MainstayError, Unsupported
from include.engine.excluding import LeftOut
from include.engine.inventory import TargetSettings
from include.engine.model import Cut, Entry, Kind, Manifest, SourceIdentity, Target
from include.engine.systems.cassandra import emptiness, node_scripts, ring, snapshot, sstables, stored, transfer
from include.engine.systems.cassandra.client import Cql, Node
from include.engine.systems.cassandra.cut import BackupDetail, SnapshotCut, cut_of
from include.engine.systems.cassandra.schema import user_keyspaces
from include.engine.systems.cassandra.sessions import session
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.sstables import SnapshotFile, SSTableName
from include.engine.systems.cassandra.threads import linked, side_by_side
from include.engine.systems.cassandra.transfer import Sender
from include.engine.systems.cassandra.transport import NodeTransport, transport_to

SCHEMA = "schema.cql"
_LOOK_AGAIN = 30.0  # seconds between two looks at the clock while the window is closed


def open_source(target: Target, settings: TargetSettings, connection: Connection) -> BackupSource:
    """Give the live cluster of *target*.  Nothing is asked of it yet."""
    return CassandraSource(target, cast("Settings", settings), connection)


class NodeFiles(Struct, frozen=True, kw_only=True):
    """One node's share of a snapshot, hashed."""

    node: Node
    transport: NodeTransport
    files: Sequence[SnapshotFile]
    digests: dict[str, str]  # by path
    hashed_bytes: int


class Sent(Struct, frozen=True, kw_only=True):
    """What the store did not have."""

    objects: int
    bytes: int


class CassandraSource:
    """A live cluster (see ``contracts.BackupSource``)."""

    def __init__(self, target: Target, settings: Settings, connection: Connection) -> None:
        self.target = target
        self._settings = settings
        self._connection = connection

    def freeze(self, backup: str, clock: Clock) -> Cut:
        """Snapshot all nodes at the same moment, and note the schema and sampled rows of that moment.

        :raises Unreachable: when a node is down
        """
        with session(self._connection) as cql:
            taken = snapshot.take(cql, self._settings, self._connection, snapshot.owner_of(self.target, backup), clock)
        return Cut(at=taken.at, position=taken.cut.tag, detail=msgspec.to_builtins(taken.cut))

    def copy(self, job: CopyJob) -> Manifest:
        """Let the nodes send what the store has not got, and describe all that the snapshot consists of.

        :raises Incomplete: when a node or a table is missing, or there is no file and it is not proved that there is no row
        :raises Corrupt: when a file is not what Cassandra wrote
        :raises Unsupported: when encryption in the client is asked for: nodes have no key
        """
        if getattr(job.writer, "encryption", None) is not None:
            raise Unsupported(
                f"{self.target}: nodes send their files themselves and cannot encrypt them with age",
                hint="let the store encrypt (SSE-KMS) and set `encryption: {recipients: []}` for this target",
            )
        cut = cut_of(job.cut)
        started = job.clock()
        self._wait_for_window(job, job.stop)
        with session(self._connection) as cql:
            nodes = self._still_there(cql, cut)
            directories = {node.host_id: ring.data_directories(cql, node) for node in nodes}
            born = ring.births(cql, nodes) if cut.archived else {}
        with ThreadPoolExecutor(1, thread_name_prefix="stored") as beside:
            listing = beside.submit(job.shared.stored)
            shares = self._hash(job, cut, nodes, directories)
            there = listing.result()
        emptiness.require_files_of_rows(self.target, cut, (file for share in shares for file in share.files))
        if not any(share.files for share in shares):
            empty = emptiness.proved_empty(self.target, cut, () if job.full else job.history)
            cut = msgspec.structs.replace(cut, notes=(*cut.notes, empty))
        schema = stored.described(job, cut, there)
        sent = self._send(job, shares, there)
        return self._manifest(job, cut, shares, schema, sent=sent, born=born, started=started)

    def release(self, backup: str) -> None:
        """Clear the snapshots of *backup* on all nodes.

        :raises Unreachable: when a node does not answer; its snapshot vanishes when its TTL runs out
        """
        with session(self._connection) as cql:
            snapshot.release(cql, self._settings, self._connection, snapshot.owner_of(self.target, backup))

    def inventory_gaps(self) -> Sequence[str]:
        """Name the keyspaces that no backup of this target holds, but those that are left out on purpose."""
        return self.left_out().gaps if self._settings.keyspaces else ()

    def left_out(self) -> LeftOut:
        """Name them, and those of `exclude` that are there (see ``excluding.Excludes``)."""
        covers, excluded = self._settings.covers, self._settings.exclude
        if not (self._settings.keyspaces or excluded):
            return LeftOut()
        with session(self._connection) as cql:
            found = [name for name in user_keyspaces(cql) if not covers(name)]
        return LeftOut(
            gaps=tuple(f"keyspace {name}" for name in found if name not in excluded),
            on_purpose=tuple(f"keyspace {name}" for name in found if name in excluded),
        )

    def _still_there(self, cql: Cql, cut: SnapshotCut) -> list[Node]:
        """Give the nodes of the cut as they are addressed now.

        :raises Incomplete: when one of them has left the ring
        """
        now = {node.host_id: node for node in cql.ring()}
        gone = [node.address for node in cut.nodes if node.host_id not in now]
        if gone:
            raise Incomplete(
                f"{', '.join(gone)} left the ring after the snapshot: the backup would lack its files",
                hint="run a new backup: it is taken of the ring as it is now",
            )
        return [now[node.host_id] for node in cut.nodes]

    def _hash(
        self, job: CopyJob, cut: SnapshotCut, nodes: Sequence[Node], directories: dict[str, list[str]]
    ) -> list[NodeFiles]:
        job.progress.stage(f"list and hash {self.target}")
        earlier = stored.of_nodes(job)
        together = linked(job.stop)  # one node that dies ends the work of the others

        def one(node: Node) -> NodeFiles:
            transport = transport_to(self._settings, node.address)
            timeout = self._settings.timeout.total_seconds()
            script = node_scripts.listing(directories[node.host_id], cut.tag)
            listing = sstables.read_listing(transport.run(script, timeout=timeout, stop=together), cut.tag)
            sstables.require_complete(listing, cut.tag, cut.schema.tables(), f"{self.target} on {node.address}")
            files = sstables.wanted(listing.files, cut.schema.views())
            known = sstables.known_digests(files, earlier.get(node.host_id, {}))
            new = [file for file in files if file.path not in known]
            listed = {file.path: listing.digests[file.path] for file in new if file.path in listing.digests}
            rest = [file for file in new if file.path not in listed]
            digests = {**known, **listed}
            if rest:
                digests |= transfer.hash_files(
                    transport, rest, check_data=self._settings.check_data, timeout=timeout, stop=together
                )
            hashed = sum(file.bytes for file in new)
            job.progress.say(f"{node.address}: {len(files)} files, {len(rest)} of them new")
            return NodeFiles(node=node, transport=transport, files=files, digests=digests, hashed_bytes=hashed)

        return side_by_side(one, nodes, stop=together)

    def _send(self, job: CopyJob, shares: Sequence[NodeFiles], there: Mapping[str, int]) -> Sent:
        """Send each object that is missing once, from a node that has it; in a full backup every object, there or not.

        :param there: the sizes of the objects that the store has, by digest
        :raises Corrupt: when the store does not list all of them afterwards
        """
        todo: dict[str, dict[str, SnapshotFile]] = {share.node.host_id: {} for share in shares}
        claimed: dict[str, int] = {}
        for share in shares:
            for file in share.files:
                sha256 = share.digests[file.path]
                if (job.full or there.get(sha256) != file.bytes) and sha256 not in claimed:
                    claimed[sha256] = file.bytes
                    todo[share.node.host_id][sha256] = file
        job.progress.stage(f"send {self.target}", sum(claimed.values()))
        together = linked(job.stop)

        def one(share: NodeFiles) -> None:
            sender = Sender(
                where=share.node.address,
                transport=share.transport,
                shared=job.shared,
                at_once=self._settings.uploads_at_once,
                rate=self._settings.bandwidth_bytes,
                progress=job.progress,
                stop=together,
                timeout=self._settings.timeout.total_seconds(),
                allowed=lambda: self._wait_for_window(job, together),
            )
            self._send_from(sender, todo[share.node.host_id], there)

        side_by_side(one, [share for share in shares if todo[share.node.host_id]], stop=together)
        if claimed:
            stored.require(job, claimed)
        return Sent(objects=len(claimed), bytes=sum(claimed.values()))

    def _send_from(self, sender: Sender, files: Mapping[str, SnapshotFile], there: Mapping[str, int]) -> None:
        """Send one node's share; of what fails, no upload in parts is left in the store."""
        begun: list[tuple[str, str, int]] = []
        large = self._settings.multipart_bytes
        todo = transfer.in_one({sha256: file for sha256, file in files.items() if file.bytes <= large}, there)
        try:
            for sha256, file in files.items():
                if file.bytes > large:
                    upload, parts = transfer.in_parts(sender, sha256, file, large)
                    begun.append((sha256, upload, file.bytes))
                    todo += parts
            transfer.send(sender, todo)
            while begun:
                sender.shared.finish_parts(*begun[0])
                del begun[0]
        except MainstayError:
            for sha256, upload, _ in begun:
                with suppress(MainstayError):  # what a person must know is why it failed; `upkeep` removes what stays
                    sender.shared.abandon_parts(sha256, upload)
            raise

    def _manifest(
        self,
        job: CopyJob,
        cut: SnapshotCut,
        shares: Sequence[NodeFiles],
        schema: Entry,
        *,
        sent: Sent,
        born: Mapping[str, datetime | None],
        started: datetime,
    ) -> Manifest:
        entries: list[Entry] = []
        identities: dict[str, tuple[int, int]] = {}
        for share in shares:
            for file in share.files:
                name = f"{share.node.host_id}/{file.place}"
                sha256 = share.digests[file.path]
                entries.append(Entry(name=name, key=job.shared.key(sha256), bytes=file.bytes, sha256=sha256))
                identities[name] = (file.modified, file.inode)
        versions = {parsed.version for share in shares for f in share.files if (parsed := SSTableName.parse(f.name))}
        detail = BackupDetail(
            cut=msgspec.structs.replace(cut, samples=()),
            files=identities,
            schema_entry=SCHEMA,
            sent_objects=sent.objects,
            sent_bytes=sent.bytes,
            hashed_bytes=sum(share.hashed_bytes for share in shares),
            born={host_id: when for host_id, when in born.items() if when is not None},
        )
        return Manifest(
            id=job.id,
            target=self.target,
            kind=Kind.FULL,
            started=started,
            finished=job.clock(),
            recoverable_from=job.cut.at,
            recoverable_to=job.cut.at,
            cut=Cut(at=job.cut.at, position=cut.tag),
            entries=(msgspec.structs.replace(schema, name=SCHEMA), *sorted(entries, key=lambda entry: entry.name)),
            source=SourceIdentity(
                identity=f"{cut.cluster} ({', '.join(sorted(node.host_id for node in cut.nodes))})",
                version=max((node.version for node in cut.nodes), key=ring.version_of),
                address=", ".join(node.address for node in cut.nodes),
            ),
            tools={"sstable": ", ".join(sorted(versions))},
            samples=tuple(msgspec.to_builtins(sample) for sample in cut.samples),
            notes=cut.notes,
            detail=msgspec.to_builtins(detail),
        )

    def _wait_for_window(self, job: CopyJob, stop: Stop) -> None:
        told = False
        while not self._settings.in_window(job.clock().time()):
            stop.check()
            if not told:
                job.progress.say(f"{self.target}: waiting for the window {self._settings.window}")
                told = True
            time.sleep(_LOOK_AGAIN)
