"""The segments of the nodes' commit logs in the bucket: their names, what is missing, and what a point in time needs.  Pure.

A segment's number is the time, in milliseconds, at which its server was started, plus a count: consecutive numbers are one
life of a server, and a number that is a time after the last segment was written begins another.  Everything else is a gap.

So a segment that lacks within a life is noticed; the last ones of a life and the first one are not, as the next life may begin
with any number.  That none of these lacks is the shipper's to see to (:func:`turns`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from include.engine.errors import Incomplete
from include.engine.model import Target

_NAME = re.compile(r"^CommitLog-(\d+)-(\d+)\.log$")
_STORED = re.compile(r"^(CommitLog-\d+-\d+\.log)\.(\d+)\.([0-9a-f]{64})$")
_ROUNDING = timedelta(seconds=2)  # file times are read in whole seconds
_MARGIN = timedelta(minutes=5)  # that a node's clock may differ from ours; to replay a write twice does no harm
_ONE_LIFE = 1000  # no server begins anew within so many milliseconds, and none skips so many segments


class Segment(Struct, frozen=True, kw_only=True):
    """One finished segment.

    :param modified: when its node wrote it last, by the node's own clock
    """

    host_id: str
    name: str
    number: int
    modified: datetime
    sha256: str
    bytes: int
    key: str = ""

    @property
    def begins_a_life_after(self) -> datetime:
        """When its server was started, if it is that server's first segment."""
        return datetime.fromtimestamp(self.number / 1000, UTC)


class Reach(Struct, frozen=True, kw_only=True):
    """How far one node's log leads without a gap from the moment of a backup.

    :param segments: that lead there, in order
    :param until: every write that the node took until then is in them; None when the log does not begin before the backup
    :param missing: the numbers of the first segments that are not there
    :param set_back: what follows was written by a server whose clock was set back before it was started again: whether segments
        lack in between cannot be told
    """

    host_id: str
    segments: tuple[Segment, ...] = ()
    until: datetime | None = None
    missing: tuple[int, ...] = ()
    set_back: bool = False

    @property
    def why(self) -> str:
        """Why it leads no further, in words; empty when that is all there is."""
        if self.set_back:
            return (
                "its server was started again after its clock was set back, and nobody can tell whether segments lack"
            )
        return f"its segment {self.missing[0]} is missing" if self.missing else ""


class Newcomer(Struct, frozen=True, kw_only=True):
    """A node of the ring that a backup has not: what was written to it since it joined may be in its own log alone.

    :param not_before: it took no write before that
    :param born: when its server was first started, by its own clock, where that is known
    """

    host_id: str
    not_before: datetime
    born: datetime | None = None


def folder_of(target: Target) -> str:
    """Give the folder of a target's archive."""
    return f"{target}/commitlog"


def key_of(target: Target, segment: Segment) -> str:
    """Give the key of a segment; it carries the time of its last write and the digest."""
    stamp = int(segment.modified.timestamp())
    return f"{folder_of(target)}/{segment.host_id}/{segment.name}.{stamp}.{segment.sha256}"


def number_of(name: str) -> int | None:
    """Give the number of a segment file; None when the name is not one."""
    match = _NAME.match(name)
    return int(match[2]) if match else None


def stored_segment(key: str, size: int) -> Segment | None:
    """Read a key of the archive; None when it is none."""
    *_, host_id, name = key.split("/")
    match = _STORED.match(name)
    number = number_of(match[1]) if match else None
    if match is None or number is None:
        return None
    return Segment(
        host_id=host_id,
        name=match[1],
        number=number,
        modified=datetime.fromtimestamp(int(match[2]), UTC),
        sha256=match[3],
        bytes=size,
        key=key,
    )


def by_node(segments: Iterable[Segment]) -> Mapping[str, list[Segment]]:
    """Give each node's segments, in the order in which they were written."""
    found: dict[str, list[Segment]] = defaultdict(list)
    for segment in sorted(segments, key=lambda one: (one.number, one.modified)):
        found[segment.host_id].append(segment)
    return found


def reach(host_id: str, segments: Sequence[Segment], since: datetime) -> Reach:
    """Follow one node's log from *since*.

    :param segments: in order
    """
    before = [n for n, segment in enumerate(segments) if segment.modified <= since - _ROUNDING]
    if not before:
        return Reach(host_id=host_id)
    # The last segment that ended before the backup: what follows it began before the backup's moment.
    first = before[-1]
    while (
        first > 0 and segments[first - 1].modified >= since - _MARGIN and not _gap(segments[first - 1], segments[first])
    ):
        first -= 1
    return _followed(host_id, list(segments[first : before[-1] + 1]), segments[before[-1] + 1 :])


def reach_of_newcomer(newcomer: Newcomer, segments: Sequence[Segment], since: datetime) -> Reach:
    """Follow the log of a node that a backup of *since* has not: all of it, from its server's first start on.

    Rows that it took over from others are in their files and logs.
    """
    some = [segment for segment in segments if segment.modified > since - _MARGIN]
    born = newcomer.born
    if not some or (born is not None and some[0].begins_a_life_after > born + _ROUNDING):
        # It was started before it was archived: nothing is known of what it took after it was born.
        until = max(newcomer.not_before, born - _MARGIN) if born is not None else newcomer.not_before
        return Reach(host_id=newcomer.host_id, until=until)
    return _followed(newcomer.host_id, some[:1], some[1:])


def reach_of_stranger(host_id: str, segments: Sequence[Segment], since: datetime) -> Reach | None:
    """Follow the log of a node that only the archive knows: of one that came and went; None when it had gone by then."""
    if not any(segment.modified > since for segment in segments):
        return None
    return reach_of_newcomer(Newcomer(host_id=host_id, not_before=since), segments, since)


def _followed(host_id: str, chain: list[Segment], following: Sequence[Segment]) -> Reach:
    for segment in following:
        last = chain[-1]
        if _gap(last, segment):
            set_back = segment.number - last.number >= _ONE_LIFE  # so many do not lack: it is another life
            lost = tuple(range(last.number + 1, segment.number))[: 1 if set_back else 10]
            return Reach(host_id=host_id, segments=tuple(chain), until=last.modified, missing=lost, set_back=set_back)
        chain.append(segment)
    return Reach(host_id=host_id, segments=tuple(chain), until=chain[-1].modified)


def needed(reaches: Iterable[Reach], point: datetime) -> list[Segment]:
    """Give the segments that bring a backup to *point*.

    :raises Incomplete: when a node's log does not lead there
    """
    found: list[Segment] = []
    for one in reaches:
        if one.until is None:
            raise Incomplete(
                f"the commit log of node {one.host_id} does not begin before the backup",
                hint="restore a backup that was taken after the archive began, or to the moment of a backup",
            )
        if one.until < point and not one.segments:
            raise Incomplete(
                f"the node {one.host_id} joined the ring after the backup, and its commit log was not archived from its first"
                f" start on: what it alone took after {one.until:%Y-%m-%d %H:%M:%SZ} is not known",
                hint="choose an earlier point, or one after the first backup that has this node; set archive_command there"
                " (docs/cassandra.md) if it is not",
            )
        if one.until < point:
            raise Incomplete(
                f"the commit log of node {one.host_id} leads to {one.until:%Y-%m-%d %H:%M:%SZ} only"
                + (f", because {one.why}" if one.why else ""),
                hint="choose an earlier point; if it is of the last minutes, wait until the segment is full and shipped",
            )
        found += one.segments
    return found


def turns(segments: Iterable[Segment]) -> list[list[Segment]]:
    """Share what one node has to send out to turns, the oldest first: those of one turn may be stored in any order.

    Nobody could tell that the end of a server's life, or the first segment of the next, is still missing: no segment is stored
    before all of the lives before it are, and before the first one of its own.
    """
    found: list[list[Segment]] = []
    last: Segment | None = None
    for segment in sorted(segments, key=lambda one: (one.number, one.modified)):
        if last is None or segment.number - last.number > 1:
            found += [[segment], []]
        else:
            found[-1].append(segment)
        last = segment
    return [turn for turn in found if turn]


def rounds(segments: Iterable[Segment]) -> list[list[Segment]]:
    """Share segments out to as few starts of one server as can replay them; those of one node stay together.

    Segments are numbered by the time at which their server was started: nodes that were started together, as after a power
    cut, give the same names, and a server that replays takes one file of a name.
    """
    found: list[dict[str, Segment]] = []
    for some in by_node(segments).values():
        own = {segment.name: segment for segment in some}
        free = next((others for others in found if not own.keys() & others.keys()), None)
        if free is None:
            found.append(own)
        else:
            free.update(own)
    return [list(one.values()) for one in found]


def expired(segments: Mapping[str, Sequence[Segment]], oldest: datetime, nodes: Collection[str]) -> list[Segment]:
    """Give the segments that ended well before the oldest kept backup, but for the last, which shows that nothing lacks.

    :param nodes: the host ids of all kept backups; of a node that is in none of them, the last is given as well
    """
    found: list[Segment] = []
    for host_id, some in segments.items():
        before = [segment for segment in some if segment.modified <= oldest - _MARGIN - _ROUNDING]
        found += before[:-1] if host_id in nodes or len(before) < len(some) else before
    return found


def _gap(last: Segment, following: Segment) -> bool:
    step = following.number - last.number
    return step > 1 and (step < _ONE_LIFE or following.begins_a_life_after < last.modified - _ROUNDING)
