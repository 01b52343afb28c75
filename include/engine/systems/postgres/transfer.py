"""Moves one base backup from the server into the store: as asked when the server can, as near to it as possible when not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import zstandard
from msgspec import Struct
from msgspec.structs import replace

from include.engine.contracts import Connection, CopyJob
from include.engine.errors import Incomplete, PermanentError
from include.engine.model import Entry, Manifest
from include.engine.systems.postgres.basebackup import BaseBackup, Declined, Request, SentTablespace, upload_manifest
from include.engine.systems.postgres.client import application_name
from include.engine.systems.postgres.detail import MANIFEST_OBJECT, PostgresDetail
from include.engine.systems.postgres.replication import ReplicationSession
from include.engine.systems.postgres.settings import Compression, CompressOn, PostgresSettings

_MANIFEST_LEVEL = 3
_SPOOL_BYTES = 16 << 20  # a compressed manifest of about half a million files; larger ones go to a temporary file
_SEND_BYTES = 64 << 10
# parse_compress_specification() and the sinks of src/backend/backup: a build without the codec, or without its threads.
_LACKS_CODEC = ("does not support compression", "could not set compression worker count")


class Offer(Struct, frozen=True, kw_only=True):
    """How a backup would be taken.

    :param parent: the backup that an incremental builds on; nothing for a full one
    """

    parent: Manifest | None
    compression: Compression
    on_server: bool

    @classmethod
    def first(cls, settings: PostgresSettings, parent: Manifest | None) -> Offer:
        """What the inventory wants."""
        return cls(
            parent=parent,
            compression=settings.compression,
            on_server=settings.compress_on is not CompressOn.CLIENT and settings.compression is not Compression.NONE,
        )


class Transferred(Struct, frozen=True, kw_only=True):
    """A base backup that is in the store."""

    offer: Offer
    entries: tuple[Entry, ...]  # in the order of the stream; the manifest is the last
    start_lsn: str
    stop_lsn: str
    timeline: int
    stop_timeline: int
    tablespaces: tuple[SentTablespace, ...]
    notes: tuple[str, ...]


def lesser(offer: Offer, refusal: PermanentError, settings: PostgresSettings) -> tuple[Offer, str]:
    """Decide what to ask for when the server refused *offer* before it sent anything; with the reason, for people.  Pure.

    :raises PermanentError: the refusal itself, when there is nothing to give up
    """
    lacks_codec = any(words in refusal.message for words in _LACKS_CODEC)
    if lacks_codec and offer.on_server and settings.compress_on is CompressOn.AUTO:
        reason = f"the server cannot compress with {offer.compression}, so this side compresses with zstd"
        return replace(offer, compression=Compression.ZSTD, on_server=False), reason
    if offer.parent is not None and not lacks_codec:
        return replace(offer, parent=None), f"full instead of incremental: {refusal.message}"
    raise refusal


def transfer(job: CopyJob, connection: Connection, settings: PostgresSettings, offer: Offer) -> Transferred:
    """Take a base backup and store it, one object per archive, and its manifest.

    Memory does not depend on the size of the database: what the store has not taken, the server does not send.

    :raises Unreachable: when the server or the store breaks off
    :raises Incomplete: when the server's WAL was recycled, or a part is missing from what it sent
    """
    notes: tuple[str, ...] = ()
    while True:
        try:
            # A new session for each try: after a refusal nothing is left of the one before.
            with ReplicationSession(connection, application=application_name(job.id), stop=job.stop) as session:
                done = _stored(job, session, settings, offer)
            return replace(done, notes=(*notes, *done.notes))
        except Declined as declined:
            offer, reason = lesser(offer, declined.error, settings)
            job.progress.say(reason)
            notes = (*notes, reason)


def _stored(job: CopyJob, session: ReplicationSession, settings: PostgresSettings, offer: Offer) -> Transferred:
    if offer.parent is not None:
        job.progress.stage("send the parent's manifest")
        with _parents_manifest(job, offer.parent) as spooled:
            upload_manifest(session, _unpacked(spooled))
    job.progress.stage("wait for the checkpoint")
    backup = BaseBackup.begin(session, _request(job, settings, offer), advance=job.progress.advance)
    job.progress.stage("copy", backup.total_bytes)
    entries = [_archive(job, backup, name, settings, offer) for name in backup.archives()]
    manifest = job.writer.write(MANIFEST_OBJECT, _packed(backup.chunks(), _MANIFEST_LEVEL, 0))
    backup.finish()
    if len(entries) != len(backup.tablespaces) or not any(entry.name.startswith("base.tar") for entry in entries):
        raise Incomplete(
            f"the server announced {len(backup.tablespaces)} tablespaces and sent {[entry.name for entry in entries]}",
            hint="run it again; if it stays so, report it with the server's version",
        )
    return Transferred(
        offer=offer,
        entries=(*entries, manifest),
        start_lsn=backup.start_lsn,
        stop_lsn=backup.stop_lsn,
        timeline=backup.timeline,
        stop_timeline=backup.stop_timeline,
        tablespaces=backup.tablespaces,
        notes=tuple(f"the server warned: {warning}" for warning in session.warnings),
    )


def _request(job: CopyJob, settings: PostgresSettings, offer: Offer) -> Request:
    return Request(
        label=application_name(job.id),
        compression=offer.compression if offer.on_server else Compression.NONE,
        level=settings.compression_level,
        workers=settings.compression_workers,
        checkpoint=settings.checkpoint,
        max_rate=settings.max_rate,
        incremental=offer.parent is not None,
    )


def _archive(job: CopyJob, backup: BaseBackup, name: str, settings: PostgresSettings, offer: Offer) -> Entry:
    chunks = backup.chunks()
    if offer.compression is Compression.ZSTD and not offer.on_server:
        name, chunks = f"{name}.zst", _packed(chunks, settings.compression_level, settings.compression_workers)
    return job.writer.write(
        name, chunks, original_bytes=lambda: backup.archive_bytes, expected_bytes=backup.total_bytes
    )


def _packed(chunks: Iterator[bytes], level: int, workers: int) -> Iterator[bytes]:
    compressor = zstandard.ZstdCompressor(level=level, threads=workers, write_checksum=True).compressobj()
    for chunk in chunks:
        if packed := compressor.compress(chunk):
            yield packed
    yield compressor.flush()


def _parents_manifest(job: CopyJob, parent: Manifest) -> tempfile.SpooledTemporaryFile[bytes]:
    """Fetch the parent's manifest whole, as what a reader gives is to be trusted only at its end.

    :raises Declined: when it is damaged, gone, or encrypted for a key that this machine does not have
    """
    name = PostgresDetail.of(parent).manifest
    spooled = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - the caller closes it
    try:
        for entry in parent.entries:
            if entry.name == name:
                spooled.writelines(job.reader.read(entry))
    except PermanentError as error:
        spooled.close()
        raise Declined(error) from error
    spooled.seek(0)
    return spooled


def _unpacked(spooled: tempfile.SpooledTemporaryFile[bytes]) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(spooled, closefd=False) as reader:
        while chunk := reader.read(_SEND_BYTES):
            yield chunk
