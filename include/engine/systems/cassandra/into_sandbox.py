"""Restores into a node of our own: for a drill, for a look at old rows, and to a point in time."""

from __future__ import annotations

import os
import time

import msgspec

from include.engine.contracts import RestoreJob
from include.engine.errors import Unsupported
from include.engine.model import Restored, Stage
from include.engine.sandbox.home import Home
from include.engine.sandbox.limits import open_files
from include.engine.store.bucket import Bucket
from include.engine.systems.cassandra import checks, replay
from include.engine.systems.cassandra.control import Nodetool
from include.engine.systems.cassandra.cut import detail_of
from include.engine.systems.cassandra.landing import Destination, Landing
from include.engine.systems.cassandra.restoration import Restoration, selection_of, since
from include.engine.systems.cassandra.selection import Method, files_of
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.transport import transport_to

_FILES, _FILES_OF_AN_SSTABLE = 1000, 2  # that a node has open: rows and index of each, and its own
_HEAP, _LARGE_HEAP = 512, 4096  # MiB; a table of 2,000 SSTables kills a node that has the first, one of 9,000 the other
_VERIFY = 6 * 3600.0  # seconds that the reading of every row of a table may take


def heap_for(sstables: int, *, memory: int) -> int:
    """Give the heap, in MiB, of a node that takes so many SSTables: who reads a table has all of them open at once.  Pure.

    :param memory: MiB that the machine has; half of it at most, as half as much again lies beside the heap
    """
    return min(max(_LARGE_HEAP, memory // 2), _HEAP + sstables)


def require_open_files(sstables: int, *, allowed: int) -> None:
    """Check, before its node starts, that it may have so many SSTables open.  Pure.

    :param allowed: files that a server on this machine may have open
    :raises Unsupported: naming the limit that it needs
    """
    needed = _FILES + _FILES_OF_AN_SSTABLE * sstables
    if needed > allowed:
        raise Unsupported(
            f"a node that takes this backup has {needed} files open, and a server on this machine may have {allowed}",
            hint=f"raise the limit (`ulimit -Hn {needed}`, LimitNOFILE= of a unit), or compact the table and back it up again",
        )


def heap_here(job: RestoreJob) -> int:
    """Give the heap, in MiB, of the node that takes what *job* restores on this machine.

    :raises Unsupported: when it may not have all SSTables open
    """
    sstables = sum(file.name.endswith("-Data.db") for file in files_of(job.chain[-1], selection_of(job.plan)))
    require_open_files(sstables, allowed=open_files())
    return heap_for(sstables, memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20)


def into_node(bucket: Bucket, home: Home, job: RestoreJob, server: CassandraServer) -> Restored:
    """Restore the plan into *server*, which runs, and check it; replay commit logs when the plan goes to a time."""
    settings = Settings.model_validate({"connection": "sandbox", **server.target_settings()})
    destination = Destination(connection=server.connection(), settings=settings)
    with server.connect(timeout=60) as cql:
        work = Restoration(job, bucket, home, cql, destination)
        restored = work.run(Method.IMPORT, sandbox=server)
        node = server.nodes[0]
        tool = Nodetool(transport_to(settings, node.address), [str(node.nodetool_path)], timeout=_VERIFY)
        verified = checks.timed(lambda: checks.sstables_verify(tool, work.landing.tables, seed=restored.backup))
        restored = msgspec.structs.replace(restored, checks=(*restored.checks, verified))
    return _to_point(bucket, job, server, restored, destination) if job.plan.point.time else restored


def _to_point(
    bucket: Bucket, job: RestoreJob, server: CassandraServer, restored: Restored, destination: Destination
) -> Restored:
    point = replay.point_of(job.plan)
    segments = replay.segments_for(bucket, job.chain[-1:], point)
    schema, selection = detail_of(job.chain[-1]).cut.schema, selection_of(job.plan)
    began = time.monotonic()
    # A node that replays tells views of it by its batch log, a minute after it has begun to answer: they are built of the rows.
    with server.connect(timeout=60) as cql:
        landing = Landing(cql, destination, schema, selection)
        landing.drop_views(landing.derived())
    replayed = replay.replay(job, server, segments, selection.tables)
    with server.connect(timeout=60) as cql:
        Landing(cql, destination, schema, selection).make_derived((), job.stop)
        stage = Stage(name="replay commit logs", seconds=since(began), bytes=sum(segment.bytes for segment in segments))
        again = checks.timed(lambda: checks.reads_at_quorum(cql, selection.tables))
    return msgspec.structs.replace(
        restored,
        recovered_to=point,
        stages=(*restored.stages, stage),
        checks=(*restored.checks, replayed, msgspec.structs.replace(again, name="read at QUORUM after the replay")),
    )
