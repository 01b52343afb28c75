"""BASE_BACKUP: the command, and the stream of archives that answers it.

Protocol: PostgreSQL docs, "Streaming Replication Protocol", BASE_BACKUP (the COPY format of 15 and later).  One COPY carries
everything; the first byte of each message says what it is: ``n`` a new archive begins, ``m`` the manifest begins, ``d``
bytes of the one or the other, ``p`` progress.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from include.engine.errors import Incomplete, PermanentError
from include.engine.systems.postgres.replication import ReplicationSession
from include.engine.systems.postgres.settings import Checkpoint, Compression

# Of each file, in PostgreSQL's manifest.  They are against accidents: what is stored has a SHA-256 in ours.  SHA256 here costs the
# server half as much CPU again (0.7 s per GB with SHA instructions, measured), and several times that without them.
CHECKSUMS = "CRC32C"
# The server sends 32 KiB at a time; every chunk that is handed on costs a change of threads.
_YIELD_BYTES = 1 << 20
_ARCHIVE = re.compile(r"^(?:base|[0-9]+)\.tar(?:\.(?:zst|lz4|gz))?$")
_NEW_ARCHIVE, _MANIFEST, _BYTES, _PROGRESS = b"nmdp"


class Request(Struct, frozen=True, kw_only=True):
    """What to ask of the server.

    :param max_rate: bytes per second before compression
    """

    label: str
    compression: Compression = Compression.NONE
    level: int = 1
    workers: int = 0
    checkpoint: Checkpoint = Checkpoint.FAST
    max_rate: int | None = None
    incremental: bool = False

    @property
    def command(self) -> str:
        """The replication command."""
        options = [
            f"LABEL {_literal(self.label)}",
            f"CHECKPOINT '{self.checkpoint}'",
            "WAL true",
            "MANIFEST 'yes'",
            f"MANIFEST_CHECKSUMS '{CHECKSUMS}'",
            "TABLESPACE_MAP true",
            "PROGRESS true",
        ]
        if self.compression is not Compression.NONE:
            workers = f",workers={self.workers}" if self.compression is Compression.ZSTD and self.workers else ""
            options.append(f"COMPRESSION '{self.compression}', COMPRESSION_DETAIL 'level={self.level}{workers}'")
        if self.max_rate is not None:
            options.append(f"MAX_RATE {self.max_rate // 1024}")
        if self.incremental:
            options.append("INCREMENTAL true")
        return f"BASE_BACKUP ({', '.join(options)})"


class SentTablespace(Struct, frozen=True, kw_only=True):
    """A tablespace as the server announces it; the data directory has neither oid nor path."""

    oid: int | None
    path: str
    bytes: int


class Declined(Exception):
    """The server refused before it sent any byte; ``error`` says why."""

    def __init__(self, error: PermanentError) -> None:
        super().__init__(str(error))
        self.error = error


class BaseBackup:
    """One running base backup.

    Usage, in this order, as the stream is sequential::

        backup = BaseBackup.begin(session, request, advance=progress.advance)
        for name in backup.archives():
            store(name, backup.chunks())          # to its end
        store("backup_manifest", backup.chunks())
        backup.finish()

    :ivar start_lsn: where recovery must begin
    :ivar stop_lsn: from where on the restored cluster is consistent; known after :meth:`finish`
    """

    def __init__(self, session: ReplicationSession, advance: Callable[[int], None]) -> None:
        self._session = session
        self._advance = advance
        self._header: memoryview | None = None  # the message that ended the bytes before it
        self._reading = False
        self._done_bytes = 0  # before compression, of all archives, as the server counts
        self._done_at_begin = 0
        self.start_lsn, self.timeline = "", 0
        self.stop_lsn, self.stop_timeline = "", 0
        self.tablespaces: tuple[SentTablespace, ...] = ()

    @classmethod
    def begin(cls, session: ReplicationSession, request: Request, *, advance: Callable[[int], None]) -> BaseBackup:
        """Ask for the backup and wait for the checkpoint that begins it.

        :param advance: called with bytes before compression, from whatever thread reads the chunks
        :raises Declined: when the server will not do it as requested
        """
        backup = cls(session, advance)
        try:
            session.send(request.command)
            backup.start_lsn, timeline = session.rows()[0]
        except PermanentError as error:
            raise Declined(error) from error
        backup.timeline = int(timeline)
        backup.tablespaces = tuple(
            SentTablespace(oid=int(oid) if oid else None, path=path, bytes=int(size or 0) << 10)
            for oid, path, size in session.rows()
        )
        session.begin_copy_out()
        backup._header = session.receive()
        return backup

    @property
    def total_bytes(self) -> int:
        """The server's estimate of all archives before compression, without the WAL."""
        return sum(tablespace.bytes for tablespace in self.tablespaces)

    @property
    def archive_bytes(self) -> int:
        """Bytes before compression of the archive that was read last: exact once its chunks ended."""
        return self._done_bytes - self._done_at_begin

    def archives(self) -> Iterator[str]:
        """Give the name of each archive; its bytes are :meth:`chunks`, to be read before the next name is asked for.

        :raises Incomplete: when an archive was not read to its end, or has a name that none can have
        """
        while self._header is not None and self._header[0] == _NEW_ARCHIVE:
            name = bytes(self._header[1:]).split(b"\0", 1)[0].decode()
            if not _ARCHIVE.match(name):  # it becomes part of a key, and of a path on restore
                raise Incomplete(f"the server sent an archive named {name!r}", hint="is this really PostgreSQL?")
            self._reading, self._done_at_begin = True, self._done_bytes
            yield name
            if self._reading:
                raise Incomplete(f"{name} was not read to its end", hint="this is a defect of Mainstay: report it")
        if self._header is None or self._header[0] != _MANIFEST:
            self._session.drain()  # tells the server's own reason, when there is one
            raise Incomplete("the base backup ended without its manifest", hint="run it again; read the server's log")

    def chunks(self) -> Iterator[bytes]:
        """Give the bytes that follow the last name (or, after all names, the manifest's), a MiB or more at a time.

        :raises Unreachable: when the connection breaks
        :raises Interrupted: when the stop came
        """
        pending = bytearray()
        while True:
            message = self._session.receive()
            kind = _PROGRESS if message is None else message[0]
            if message is None or kind in (_NEW_ARCHIVE, _MANIFEST):
                self._header = message
                break
            if kind == _BYTES:
                pending += message[1:]
                if len(pending) >= _YIELD_BYTES:
                    yield bytes(pending)
                    pending.clear()
            elif kind == _PROGRESS:
                self._count(int.from_bytes(message[1:9], "big"))
        if message is None:
            # The COPY ended: well only if this was the manifest.  An error of the server must end the upload.
            self._finish()
        self._reading = False
        if pending:
            yield bytes(pending)

    def _finish(self) -> None:
        self.stop_lsn, timeline = self._session.rows()[0]
        self.stop_timeline = int(timeline)
        self._session.drain()

    def finish(self) -> None:
        """Make sure that the server has said that all is well.

        :raises Incomplete: when it has not
        """
        if not self.stop_lsn:
            raise Incomplete("the base backup did not end", hint="run it again; read the server's log")

    def _count(self, done: int) -> None:
        self._advance(max(done - self._done_bytes, 0))
        self._done_bytes = max(done, self._done_bytes)


def upload_manifest(session: ReplicationSession, chunks: Iterator[bytes]) -> None:
    """Give the server the parent's backup manifest, so that it can tell what has changed since (17+).

    :raises Declined: when the server does not accept it
    """
    try:
        session.send("UPLOAD_MANIFEST")
        session.begin_copy_in()
        for chunk in chunks:
            session.transmit(chunk)
        session.end_copy_in()
        session.drain()
    except PermanentError as error:
        raise Declined(error) from error


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
