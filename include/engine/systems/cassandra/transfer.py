"""Moves files between nodes and the store: hashed on the node, sent by the node, several at a time, again when it failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta

from msgspec import Struct

from include.engine.contracts import Progress, Stop
from include.engine.errors import Corrupt, Incomplete, Unauthorized, Unreachable
from include.engine.sharing import SharedObjects
from include.engine.systems.cassandra import node_scripts
from include.engine.systems.cassandra.node_scripts import Transfer
from include.engine.systems.cassandra.sstables import SnapshotFile
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import NodeTransport

_TRIES = 5
_PAUSE = 1.0
_BATCH_FILES, _BATCH_BYTES = 64, 256 << 20
_PART = 256 << 20
_SLOWEST = 1 << 20  # bytes a second that a transfer is given when no limit is set
_SHORTEST = timedelta(minutes=15)
_LONGEST = timedelta(days=7)  # S3 signs for no longer
_SENT, _THERE, _REFUSED, _BAD = (200, 201, 204), (409, 412), (401, 403), 400


class Piece(Struct, frozen=True, kw_only=True):
    """What is to be sent once: a file, or one part of a large one.

    :param upload: the name of the upload that a part belongs to
    :param part_sha256: the part's own digest
    """

    sha256: str
    path: str
    bytes: int
    offset: int = 0
    number: int = 0
    upload: str = ""
    part_sha256: str = ""


class Sender(Struct, frozen=True, kw_only=True):
    """How one node's files are sent.

    :param rate: bytes a second for the whole node
    :param allowed: called between two batches; waits, or raises, when copying is not wanted now
    """

    where: str
    transport: NodeTransport
    shared: SharedObjects
    at_once: int
    rate: int | None
    progress: Progress
    stop: Stop
    timeout: float
    allowed: Callable[[], None] = lambda: None
    expires: timedelta | None = None  # instead of what the size asks for


def hash_files(
    transport: NodeTransport, files: Sequence[SnapshotFile], *, check_data: bool, timeout: float, stop: Stop
) -> dict[str, str]:
    """Give the SHA-256 of *files* by path, computed on the node.

    :param check_data: also compare each Data.db with the CRC that Cassandra wrote beside it
    :raises Corrupt: naming the Data.db that is not what Cassandra wrote
    :raises Incomplete: when a file has vanished meanwhile
    """
    found: dict[str, str] = {}
    paths = [file.path for file in files]
    data = [path for path in paths if path.endswith("-Data.db")] if check_data else []
    for line in transport.run(node_scripts.digests(paths, data), timeout=timeout, stop=stop).splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "S":
            sha256, _, path = rest.partition(" ")
            found[path] = sha256
        elif kind == "C":
            computed, recorded, path = rest.split(" ", 2)
            if computed != recorded:
                raise Corrupt(
                    f"{path} is damaged on the node: its CRC-32 is {computed}, Cassandra wrote {recorded}",
                    hint="mend the table with `nodetool scrub` or a repair from its replicas; older backups are not touched",
                )
    gone = [path for path in paths if path not in found]
    if gone:
        raise Incomplete(
            f"{transport.name}: {len(gone)} files of the snapshot have vanished, the first is {gone[0]}",
            hint="the snapshot's TTL ran out, or somebody cleared it: run a new backup",
        )
    return found


def pieces(
    sender: Sender, files: Mapping[str, SnapshotFile], *, large: int
) -> tuple[list[Piece], list[tuple[str, str, int]]]:
    """Cut what has to be sent, by digest, into pieces; begin the uploads in parts, and name them with their sizes.

    :param large: files of more bytes go in parts
    """
    found: list[Piece] = []
    begun: list[tuple[str, str, int]] = []
    for sha256, file in files.items():
        if file.bytes <= large:
            found.append(Piece(sha256=sha256, path=file.path, bytes=file.bytes))
            continue
        part = max(min(_PART, large), -(-file.bytes // 10_000))
        printed = sender.transport.run(
            node_scripts.part_digests(file.path, file.bytes, part), timeout=sender.timeout, stop=sender.stop
        )
        upload = sender.shared.begin_parts(sha256)
        begun.append((sha256, upload, file.bytes))
        for line in printed.splitlines():
            _, number, part_sha256 = line.split()
            offset = (int(number) - 1) * part
            found.append(
                Piece(
                    sha256=sha256,
                    path=file.path,
                    bytes=min(part, file.bytes - offset),
                    offset=offset,
                    number=int(number),
                    upload=upload,
                    part_sha256=part_sha256,
                )
            )
    return found, begun


def send(sender: Sender, todo: Sequence[Piece]) -> None:
    """Let the node send all of *todo*, several at a time.

    :raises Unreachable: when the store or the node still fails after several tries
    :raises Corrupt: when a file is not what was hashed: the store compared
    :raises Unauthorized: when the store refuses signed requests that are fresh
    """
    side_by_side(lambda batch: _send_batch(sender, batch), list(batches(todo, sender.at_once)), at_once=sender.at_once)


def batches(todo: Sequence[Piece], at_once: int) -> Iterator[list[Piece]]:
    """Group pieces so that each group is one connection's work: neither a connection a file nor all work in one."""
    share = sum(piece.bytes for piece in todo) // max(1, at_once)
    limit = max(1, min(_BATCH_BYTES, share))
    group: list[Piece] = []
    size = 0
    for piece in sorted(todo, key=lambda piece: -piece.bytes):
        if group and (size + piece.bytes > limit or len(group) >= _BATCH_FILES):
            yield group
            group, size = [], 0
        group.append(piece)
        size += piece.bytes
    if group:
        yield group


def _send_batch(sender: Sender, batch: list[Piece]) -> None:
    left = {f"{piece.sha256}:{piece.number}": piece for piece in batch}
    last = ""
    for attempt in range(_TRIES):
        sender.allowed()
        sender.stop.check()
        answers = _attempt(sender, left)
        left, last = _judged(sender, left, answers, fresh=attempt >= 1)
        if not left:
            return
        time.sleep(_PAUSE * 2**attempt)
    raise Unreachable(
        f"{sender.where} could not send {len(left)} files after {_TRIES} tries: {last}",
        hint="check that the node reaches the object store's endpoint; the run can be repeated and goes on from here",
    )


def _attempt(sender: Sender, left: Mapping[str, Piece]) -> dict[str, int]:
    """Let the node send all that is left once, and give the store's answers."""
    answers: dict[str, int] = {}

    def heard(line: str) -> None:
        kind, code, size, label = (*line.split(), "", "", "", "")[:4]
        if kind == "U" and label in left:
            answers[label] = int(code)
            if int(code) in _SENT:
                sender.progress.advance(int(float(size)))

    rate = max(1024, sender.rate // sender.at_once) if sender.rate else None
    script = node_scripts.uploads([_signed(sender, piece) for piece in left.values()], rate=rate)
    sender.transport.run(script, timeout=sender.timeout, stop=sender.stop, on_line=heard)
    return answers


def _judged(
    sender: Sender, left: dict[str, Piece], answers: Mapping[str, int], *, fresh: bool
) -> tuple[dict[str, Piece], str]:
    """Keep what has to be tried again, and why."""
    again: dict[str, Piece] = {}
    why = ""
    for label, piece in left.items():
        code = answers.get(label, 0)
        if code in _SENT or code in _THERE:
            continue
        if code == _BAD:
            raise Corrupt(
                f"{sender.where}: the store refused {piece.path}: it is not what was hashed a moment ago",
                hint="look at the disk and the network of that node, then run it again",
            )
        if code in _REFUSED and fresh:
            raise Unauthorized(
                f"{sender.where}: the store refused a signed upload with HTTP {code}",
                hint="check the clocks of node and worker, and the rights of the store's key pair",
            )
        again[label] = piece
        why = f"HTTP {code}" if code else "no answer from the store, or the file has vanished"
    return again, why


def _signed(sender: Sender, piece: Piece) -> Transfer:
    speed = (sender.rate or _SLOWEST * sender.at_once) / sender.at_once
    # A batch waits for those before it: what counts is when the last of it begins.
    expires = sender.expires or min(_LONGEST, max(_SHORTEST, timedelta(seconds=_BATCH_BYTES / speed * 2)))
    if piece.number:
        request = sender.shared.sign_part(piece.sha256, piece.upload, piece.number, piece.part_sha256, expires)
    else:
        request = sender.shared.sign_put(piece.sha256, expires)
    return Transfer(
        sha256=piece.sha256,
        path=piece.path,
        bytes=piece.bytes,
        request=request,
        offset=piece.offset,
        number=piece.number,
    )
