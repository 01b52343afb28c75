"""How the write-ahead log lies in the bucket: names, and the bytes behind them.

::

    postgres/<name>/wal/identity.json                                   whose log it is: the first archiver wrote it
    postgres/<name>/wal/00000001/000000010000000000000005.zst           a whole segment
    postgres/<name>/wal/00000001/000000010000000000000006.partial-3F2A10.zst    its first 0x3F2A10 bytes; zeros follow
    postgres/<name>/wal/00000002/00000002.history.zst                   where timeline 2 left timeline 1

Encrypted objects carry ``.age`` at the end.  Every object is one zstd frame with a checksum, so stock tools read it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum

import zstandard
from msgspec import Struct

from include.engine.errors import Corrupt, NotFound, Refused, Unauthorized, Unreachable
from include.engine.model import Target, decode, encode
from include.engine.store import encryption
from include.engine.store.bucket import Bucket, StoredObject
from include.engine.systems.postgres.lsn import Segment, format_lsn, parse_history_name, valid_segment_size

_LEVEL = 3
_REPLACED = 5  # times that an object may be replaced between listing and reading it
_KEY = re.compile(r"/wal/([0-9A-F]{8})/([^/]+?)\.zst(\.age)?$")
_PARTIAL = re.compile(r"^([0-9A-F]{24})\.partial-([0-9A-F]+)$")
# XLogLongPageHeaderData: magic, info, timeline, page address, remaining length, padding, system id, segment size
_PAGE_HEADER = struct.Struct("<HHIQI4xQI")

_HINT_KEYS = (
    "the log is sealed for the recipients that the inventory named when it was archived: give every secret key that was in use "
    "since the backup (the manifest's encryption.key_ids names that of the backup)"
)
HINT_DAMAGED = "restore to a point before it, or from a backup that was taken after it; then take a new full backup now"


class WalKind(StrEnum):
    """What an object of the archive holds."""

    SEGMENT = "segment"
    PARTIAL = "partial"
    HISTORY = "history"


class WalObject(Struct, frozen=True, order=True):
    """One object of the archive, read from its key.

    :param name: the file name that PostgreSQL knows it by
    :param valid: for a partial segment, how many bytes of it are stored
    """

    timeline: int
    name: str
    kind: WalKind
    valid: int
    key: str
    bytes: int
    modified: datetime

    @classmethod
    def parse(cls, stored: StoredObject) -> WalObject | None:
        """Read a key; None when it is none of the archive's."""
        match = _KEY.search("/" + stored.key)
        if not match:
            return None
        timeline, stem = int(match[1], 16), match[2]
        name, kind, valid = stem, WalKind.SEGMENT, 0
        if partial := _PARTIAL.match(stem):
            name, kind, valid = partial[1], WalKind.PARTIAL, int(partial[2], 16)
        elif parse_history_name(stem) is not None:
            kind = WalKind.HISTORY
        if not name.startswith(match[1]) or (kind is not WalKind.HISTORY and Segment.parse(name, 1 << 20) is None):
            return None
        return cls(timeline, name, kind, valid, stored.key, stored.bytes, stored.modified)


class WalIdentity(Struct, frozen=True, kw_only=True):
    """Whose log an archive is.  Written create-only, so that two clusters never mix in one archive."""

    version: int = 1
    system_identifier: str
    wal_segment_size: int


def wal_folder(target: Target) -> str:
    """Give the folder of a target's archive."""
    return f"{target}/wal"


def wal_key(target: Target, file: str, *, encrypted: bool) -> str:
    """Give the key of *file*: a segment's name, ``<segment>.partial-<hex>`` or ``<timeline>.history``."""
    return f"{wal_folder(target)}/{file[:8]}/{file}.zst{'.age' if encrypted else ''}"


def partial_name(segment: str, valid: int) -> str:
    """Name the first *valid* bytes of a segment."""
    return f"{segment}.partial-{valid:X}"


def list_wal(bucket: Bucket, target: Target) -> list[WalObject]:
    """Give the whole archive, sorted by timeline and name."""
    found = (WalObject.parse(stored) for stored in bucket.list(wal_folder(target)))
    return sorted(wal for wal in found if wal is not None)


def claim(bucket: Bucket, target: Target, identity: WalIdentity) -> None:
    """Make the archive that of the cluster *identity*, or find that it is.

    :raises Refused: when it is another cluster's
    """
    key = f"{wal_folder(target)}/identity.json"
    bucket.create(key, encode(identity))
    found = decode(bucket.read(key), WalIdentity, where=key)
    if found != identity:
        raise Refused(
            f"the WAL archive of {target} in {bucket.url} belongs to the cluster {found.system_identifier} (segments of "
            f"{found.wal_segment_size} bytes), this server is {identity.system_identifier} ({identity.wal_segment_size})",
            hint="give each cluster a target of its own; a cluster that was made anew by initdb is another one",
        )


def identity_of(bucket: Bucket, target: Target) -> WalIdentity | None:
    """Give whose log the archive is; None when nothing was ever archived."""
    key = f"{wal_folder(target)}/identity.json"
    try:
        return decode(bucket.read(key), WalIdentity, where=key)
    except NotFound:
        return None


def pack(content: bytes, recipients: Sequence[str]) -> bytes:
    """Compress, and encrypt when there are *recipients*."""
    packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True).compress(content)
    return b"".join(encryption.encrypt([packed], recipients)) if recipients else packed


def unpack(key: str, chunks: Iterable[bytes], identities: Sequence[str]) -> bytes:
    """Give the bytes that :func:`pack` got.

    :raises Corrupt: naming *key*, when it is damaged or cut short
    :raises Unauthorized: when no key at hand opens it
    """
    try:
        packed = b"".join(encryption.decrypt(iter(chunks), identities, what=key) if key.endswith(".age") else chunks)
    except Unauthorized as error:
        # No manifest names the recipients of the log: they are those of the inventory at the time.
        raise Unauthorized(error.message, hint=_HINT_KEYS) from error
    try:
        frame = zstandard.get_frame_parameters(packed)
        limit = frame.content_size
        if limit > 1 << 30:  # no segment is larger: a damaged header must not make us allocate for it
            raise zstandard.ZstdError(f"it claims to hold {limit} bytes")
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=1 << 30)
    except zstandard.ZstdError as error:
        raise Corrupt(f"{key} is damaged: {error}", hint=HINT_DAMAGED) from error


def fetch(bucket: Bucket, wal: WalObject, identities: Sequence[str]) -> bytes:
    """Read an object of the archive.

    The archiver replaces the stored part of a segment by a longer one, or by the whole: when that happened since
    *wal* was listed, the bytes are read from what took its place.  A log only grows, so they are the same.

    :raises Corrupt: naming it, when it is missing though it was listed, or damaged
    """
    place = wal
    for _ in range(_REPLACED):
        try:
            content = unpack(place.key, [bucket.read(place.key)], identities)
        except NotFound as error:
            longer = _longer(bucket, wal) if wal.kind is WalKind.PARTIAL else None
            if longer is None:
                raise Corrupt(f"{wal.key} was listed and is missing now", hint=HINT_DAMAGED) from error
            place = longer
        else:
            return content[: wal.valid] if place is not wal else content
    raise Unreachable(f"{wal.key} was replaced {_REPLACED} times while it was read", hint="try again")


def _longer(bucket: Bucket, wal: WalObject) -> WalObject | None:
    """Find what took the place of the part of a segment: the whole, or the longest part."""
    found = (WalObject.parse(stored) for stored in bucket.list(wal.key.rpartition("/")[0]))
    same = [one for one in found if one is not None and one.name == wal.name and one.timeline == wal.timeline]
    enough = [one for one in same if one.kind is WalKind.SEGMENT or one.valid >= wal.valid]
    return max(enough, key=lambda one: (one.kind is WalKind.SEGMENT, one.valid), default=None)


def check_segment(key: str, content: bytes, segment: Segment, system_identifier: str | None, valid: int = 0) -> None:
    """Check that *content* is what the name says: a swapped object has a right checksum and wrong bytes.

    :param valid: bytes that a partial segment must have; 0 for a whole one
    :raises Corrupt: naming *key*
    """
    wanted = valid or segment.size
    if len(content) != wanted:
        raise Corrupt(f"{key} holds {len(content)} bytes, {wanted} were expected", hint=HINT_DAMAGED)
    if len(content) < _PAGE_HEADER.size:
        return  # the very beginning of a segment: nothing to judge by
    _magic, _info, timeline, address, _rest, system, size = _PAGE_HEADER.unpack_from(content)
    if not valid_segment_size(size):
        raise Corrupt(f"{key} does not begin like a WAL segment", hint=HINT_DAMAGED)
    if size != segment.size or address != segment.start or timeline > segment.timeline:
        raise Corrupt(
            f"{key} holds the segment at {format_lsn(address)} of timeline {timeline}, not that of its name: "
            "objects were swapped",
            hint=HINT_DAMAGED,
        )
    if system_identifier is not None and str(system) != system_identifier:
        raise Corrupt(f"{key} comes from the cluster {system}, the backup from {system_identifier}", hint=HINT_DAMAGED)
