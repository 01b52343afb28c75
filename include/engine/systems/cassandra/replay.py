"""Brings a restored sandbox from a backup's moment to a point in time: Cassandra itself replays the archived commit logs."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from include.engine.contracts import RestoreJob
from include.engine.errors import Incomplete, PermanentError
from include.engine.model import Check, Entry, Manifest, RestorePlan, Verdict
from include.engine.sandbox.accounts import own_tree
from include.engine.store.bucket import Bucket
from include.engine.systems.cassandra.archive import CommitLogArchive
from include.engine.systems.cassandra.commit_logs import Segment, needed, rounds
from include.engine.systems.cassandra.threads import side_by_side

if TYPE_CHECKING:
    from include.engine.systems.cassandra.server import CassandraServer

_REPLAYED = re.compile(r"Log replay complete, (\d+) replayed mutations")
_AT_ONCE = 4
_START = 1800.0  # seconds that a start may take: it replays first


def segments_for(
    bucket: Bucket, manifests: Sequence[Manifest], point: datetime, ring: Mapping[str, datetime | None] = {}
) -> list[Segment]:
    """Give the archived segments that bring the first of *manifests* to *point*.

    :param manifests: a backup, and those after it that tell who has joined the ring since (``selection.until_after``)
    :param ring: see ``archive.CommitLogArchive.reaches``
    :raises Incomplete: when the archive does not lead there without a gap
    """
    archive = CommitLogArchive(manifests[0].target, bucket)
    found = needed(archive.reaches(manifests[0], manifests[1:], ring), point)
    names = Counter((segment.host_id, segment.name) for segment in found)
    for (host_id, name), count in names.items():
        if count > 1:
            raise Incomplete(
                f"the archive has {count} segments {name} of node {host_id} that differ: nobody can say which is its log",
                hint="restore to the moment of a backup, or replay by hand, as RESTORE.md in the set says, the one you trust",
            )
    return found


def replay(
    job: RestoreJob, server: CassandraServer, segments: Sequence[Segment], tables: Sequence[tuple[str, str]]
) -> Check:
    """Restart the sandbox, let it replay *segments* up to the plan's point as it starts, and say how many writes that were.

    :param tables: those that are replayed; the logs hold the sources' system tables, too
    :raises PermanentError: when the server does not start over these logs
    """
    point = point_of(job.plan)
    directory = server.nodes[0].directory / "replay"
    _fetch(job, segments, directory)
    own_tree(directory, server.sandbox.account)
    job.progress.stage("replay")
    server.java_options = (f"-Dcassandra.replayList={','.join(f'{k}.{t}' for k, t in tables)}",)
    writes = 0
    for some in rounds(segments):
        job.stop.check()
        folders = sorted({f"{directory}/{one.host_id}" for one in some})
        server.commitlog_archiving = archiving_properties(folders, point)
        writes += _replayed(server)
    server.commitlog_archiving, server.java_options = "", ()
    shutil.rmtree(directory, ignore_errors=True)
    return Check(
        name="commit log replay",
        verdict=Verdict.PASS,
        detail=f"{writes} writes of {len(segments)} segments, up to {point:%Y-%m-%d %H:%M:%S.%f} UTC;"
        " rows were compared as of the backup, not as of that point",
    )


def _fetch(job: RestoreJob, segments: Sequence[Segment], directory: Path) -> None:
    """Fetch *segments*, each node's into a directory of its own.

    :raises PermanentError: when they cannot be written
    """
    job.progress.stage("fetch commit logs", sum(segment.bytes for segment in segments))

    def one(segment: Segment) -> None:
        place = directory / segment.host_id / segment.name
        entry = Entry(name=segment.name, key=segment.key, bytes=segment.bytes, sha256=segment.sha256)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as stream:
                for chunk in job.reader.read(entry):
                    job.stop.check()
                    stream.write(chunk)
                    job.progress.advance(len(chunk))
        except OSError as error:
            raise PermanentError(
                f"{place} cannot be written: {error.strerror}", hint="free space there, then run the restore again"
            ) from error

    side_by_side(one, segments, at_once=_AT_ONCE)


def _replayed(server: CassandraServer) -> int:
    """Restart the sandbox over what its configuration says by now, and give the number of writes that it replayed."""
    node = server.nodes[0]
    node.nodetool("drain")  # or the new rows would lie in this server's own log, which is replayed with the archive's
    server.stop()
    told = node.log.stat().st_size if node.log.exists() else 0
    server.start(timeout=_START)
    with node.log.open("rb") as log:
        log.seek(told if node.log.stat().st_size >= told else 0)
        said = _REPLAYED.findall(log.read().decode(errors="replace"))
    if not said:
        raise PermanentError("the sandbox did not say that it replayed its commit logs", hint=f"read {node.log}")
    return max(map(int, said))


def archiving_properties(directories: Sequence[str], point: datetime) -> str:
    """Give ``commitlog_archiving.properties`` that replays what lies in *directories* up to *point*, to the microsecond."""
    return (
        "archive_command=\nrestore_command=/bin/cp -f %from %to\n"
        f"restore_directories={','.join(directories)}\n"
        f"restore_point_in_time={point.astimezone(UTC):%Y:%m:%d %H:%M:%S.%f}\nprecision=MICROSECONDS\n"
    )


def point_of(plan: RestorePlan) -> datetime:
    """Give the time that a plan goes to."""
    assert plan.point.time is not None  # the plan was made for a time
    return plan.point.time
