"""Moves files between nodes and the store: hashed on the node, sent by the node, several at a time, again when it failed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta

import msgspec
from msgspec import Struct

from include.engine.contracts import Progress, Stop
from include.engine.errors import Corrupt, Incomplete, PermanentError, Unauthorized, Unreachable
from include.engine.sharing import SharedObjects
from include.engine.systems.cassandra import node_scripts
from include.engine.systems.cassandra.node_scripts import Transfer
from include.engine.systems.cassandra.sstables import SnapshotFile
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import NodeTransport, redacted

_TRIES = 5
_PAUSE = 1.0
_BATCH_FILES, _BATCH_BYTES = 64, 256 << 20
_PART = 256 << 20
_SLOWEST = 1 << 20  # bytes a second that a transfer is given when no limit is set
_SHORTEST = timedelta(minutes=15)
_LONGEST = timedelta(days=7)  # S3 signs for no longer
_SENT, _THERE, _REFUSED = (200, 201, 204), 412, (401, 403)
# BadDigest (S3), XAmzContentSHA256Mismatch, XAmzContentChecksumMismatch (others): what arrived is not what was signed.  Other
# refusals with HTTP 400 (RequestTimeout, IncompleteBody, ExpiredToken) say nothing of the file.
_DIFFERS = re.compile(r"BadDigest$|Mismatch$|^Md5Mismatch")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")


class Piece(Struct, frozen=True, kw_only=True):
    """What is to be sent once: a file, or one part of a large one.

    :param upload: the name of the upload that a part belongs to
    :param part_sha256: the part's own digest
    :param again: it takes the place of an object that is there, which is not what its name says, or not believed
    """

    sha256: str
    path: str
    bytes: int
    offset: int = 0
    number: int = 0
    upload: str = ""
    part_sha256: str = ""
    again: bool = False


class Answer(Struct, frozen=True):
    """What became of one request: the store's HTTP code, 0 without one, and its own word for it, or curl's."""

    code: int = 0
    said: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"HTTP {self.code}" if self.code else "", self.said) if part)


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
            computed, recorded, path = (*rest.split(" ", 2), "", "")[:3]
            if not (computed.isdigit() and recorded.isdigit()):
                raise PermanentError(
                    f"{transport.name}: a Data.db could not be compared with the CRC-32 beside it: {rest}",
                    hint="look at that file and its Digest.crc32; `check_data: false` goes without the comparison",
                )
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


def in_one(files: Mapping[str, SnapshotFile], again: Collection[str] = ()) -> list[Piece]:
    """Give a piece for each of *files*, by digest.  Pure.

    :param again: the digests of objects that are there, and are to be replaced
    """
    return [
        Piece(sha256=sha256, path=file.path, bytes=file.bytes, again=sha256 in again) for sha256, file in files.items()
    ]


def in_parts(sender: Sender, sha256: str, file: SnapshotFile, large: int) -> tuple[str, list[Piece]]:
    """Begin the upload of a file of more than *large* bytes, and give its name and its pieces.

    A store compares each part with the part's digest and nothing with the whole's: parts of a wrong reading would take the place
    of an object that is right.

    :raises Corrupt: when the parts do not make what *sha256* names: it reads otherwise than it was hashed; nothing has begun then
    """
    parts = _parts(sender, sha256, file, large)
    upload = sender.shared.begin_parts(sha256)
    return upload, [msgspec.structs.replace(part, upload=upload) for part in parts]


def _parts(sender: Sender, sha256: str, file: SnapshotFile, large: int) -> list[Piece]:
    size = max(min(_PART, large), -(-file.bytes // 10_000))
    script = node_scripts.part_digests(file.path, file.bytes, size)
    printed = sender.transport.run(script, timeout=sender.timeout, stop=sender.stop).splitlines()
    *lines, whole = printed or [""]
    if whole != f"W {sha256}":
        raise Corrupt(
            f"{sender.where}: {file.path} reads otherwise than it was hashed a moment ago, or has vanished",
            hint="look at the disk of that node and whether the snapshot is still there, then run it again",
        )
    found: list[Piece] = []
    for line in lines:
        _, number, part_sha256 = line.split()
        offset = (int(number) - 1) * size
        found.append(
            Piece(
                sha256=sha256,
                path=file.path,
                bytes=min(size, file.bytes - offset),
                offset=offset,
                number=int(number),
                part_sha256=part_sha256,
            )
        )
    return found


def send(sender: Sender, todo: Sequence[Piece]) -> None:
    """Let the node send all of *todo*, several at a time.

    :raises Unreachable: when the store or the node still fails after several tries
    :raises Corrupt: when a file is not what was hashed: the store compared
    :raises Unauthorized: when the store refuses signed requests that are fresh
    """
    groups = list(batches(todo, sender.at_once))
    at_once = max(1, min(sender.at_once, len(groups)))
    sharing = msgspec.structs.replace(sender, at_once=at_once)  # one large file gets all of the rate
    side_by_side(lambda batch: _send_batch(sharing, batch), groups, at_once=at_once)


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
    last = Answer()
    for attempt in range(_TRIES):
        sender.allowed()
        sender.stop.check()
        answers = _attempt(sender, left)
        left, last = _judged(sender, left, answers, fresh=attempt >= 1)
        if not left:
            return
        time.sleep(_PAUSE * 2**attempt)
    raise Unreachable(
        f"{sender.where} could not send {len(left)} files after {_TRIES} tries:"
        f" {str(last) or 'no answer from the store, or the file has vanished'}",
        hint="check that the node reaches the object store's endpoint; the run can be repeated and goes on from here",
    )


def _attempt(sender: Sender, left: Mapping[str, Piece]) -> dict[str, Answer]:
    """Let the node send all that is left once, and give the store's answers."""
    answers: dict[str, Answer] = {}
    said = ""

    def heard(line: str) -> None:
        nonlocal said
        kind, code, size, label = (*line.split(), "", "", "", "")[:4]
        if kind == "U" and label in left:
            answers[label] = Answer(int(code), said)
            said = ""
            if int(code) in _SENT:
                sender.progress.advance(int(float(size)))
        elif found := _CODE.search(line):
            said = found[1]
        elif line.startswith("curl: "):
            said = redacted(line)

    rate = max(1024, sender.rate // sender.at_once) if sender.rate else None
    script = node_scripts.uploads([_signed(sender, piece) for piece in left.values()], rate=rate)
    sender.transport.run(script, timeout=sender.timeout, stop=sender.stop, on_line=heard)
    return answers


def _judged(
    sender: Sender, left: dict[str, Piece], answers: Mapping[str, Answer], *, fresh: bool
) -> tuple[dict[str, Piece], Answer]:
    """Keep what has to be tried again, and why."""
    again: dict[str, Piece] = {}
    why = Answer()
    for label, piece in left.items():
        answer = answers.get(label, Answer())
        # 409 is not "there": S3 says so when two conditional writes met, others when a key lies below an object.
        if answer.code in _SENT or (answer.code == _THERE and not piece.again):
            continue
        if _DIFFERS.search(answer.said):
            raise Corrupt(
                f"{sender.where}: the store refused {piece.path}: it is not what was hashed a moment ago ({answer})",
                hint="look at the disk and the network of that node, then run it again",
            )
        if answer.code in _REFUSED and fresh:
            raise Unauthorized(
                f"{sender.where}: the store refused a signed upload: {answer}",
                hint="check the clocks of node and worker, and the rights of the store's key pair",
            )
        again[label] = piece
        why = answer
    return again, why


def _signed(sender: Sender, piece: Piece) -> Transfer:
    speed = (sender.rate or _SLOWEST * sender.at_once) / sender.at_once
    # A batch waits for those before it: what counts is when the last of it begins.
    expires = sender.expires or min(_LONGEST, max(_SHORTEST, timedelta(seconds=_BATCH_BYTES / speed * 2)))
    if piece.number:
        request = sender.shared.sign_part(piece.sha256, piece.upload, piece.number, piece.part_sha256, expires)
    else:
        request = sender.shared.sign_put(piece.sha256, expires, again=piece.again)
    return Transfer(
        sha256=piece.sha256,
        path=piece.path,
        bytes=piece.bytes,
        request=request,
        offset=piece.offset,
        number=piece.number,
    )
