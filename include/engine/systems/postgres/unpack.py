"""From stored objects to a data directory: fetched, decrypted, decompressed and unpacked as streams, archives side by side.

Nothing is written but what ends up in the directory.  A directory is only good when every object was read to its end and
compared with its entry: :func:`unpack` returns then and raises otherwise.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

import zstandard

from include.engine.contracts import Progress, Reader, Stop
from include.engine.errors import Corrupt, Incomplete, Interrupted, NotFound
from include.engine.model import Entry, Manifest
from include.engine.sandbox.accounts import Account, own
from include.engine.store.pipe import ahead
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.untar import DAMAGED, full_or_broken, untar

ARCHIVES_AT_ONCE = 3
MANIFEST_FILE = "backup_manifest"  # where PostgreSQL's tools look for it
_SLICE = 32 << 10  # bytes that a decompressor gets at once: what it gives for them is held in memory
_BUFFER = 1 << 20  # bytes that are decompressed at a time


Sink = Callable[[Iterable[bytes | memoryview]], None]


class _Inflate(Protocol):
    """What zlib's and lz4's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True)
class Unpacking:
    """Where one backup is unpacked to.

    :param data: the data directory
    :param tablespaces: holds one directory for each tablespace, named after its oid
    :param stays: whether the files are the restored ones, and will be flushed: the disk may begin at once
    """

    manifest: Manifest
    data: Path
    tablespaces: Path
    stays: bool = True


def unpack(works: Iterable[Unpacking], *, reader: Reader, account: Account, progress: Progress, stop: Stop) -> int:
    """Unpack backups, several archives at once, and give how many bytes came from the store.

    :raises Corrupt: naming the object that is missing, damaged or not what was written
    :raises Incomplete: when the disk is full
    :raises Interrupted: when *stop* came; what was unpacked stays and is good for nothing
    """
    failed = threading.Event()
    stop.on_stop(failed.set)

    def counted(entry: Entry) -> Iterator[bytes]:
        for piece in reader.read(entry):
            if failed.is_set():
                raise Interrupted("unpacking was stopped", hint="run the restore again: it starts over")
            progress.advance(len(piece))
            yield piece

    jobs: list[tuple[Entry, Sink, str]] = []
    for work in works:
        jobs += _jobs(work, account)
    progress.stage("fetch and unpack", sum(entry.bytes for entry, _, _ in jobs))
    with ThreadPoolExecutor(ARCHIVES_AT_ONCE, thread_name_prefix="unpack") as pool:
        running = [pool.submit(_run, entry, counted, codec, sink) for entry, sink, codec in jobs]
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            failed.set()
    stop.check()
    errors = [error for future in running if (error := future.exception()) is not None]
    causes = [error for error in errors if not isinstance(error, Interrupted)]
    if errors:
        raise (causes or errors)[0]
    return sum(entry.bytes for entry, _, _ in jobs)


def _run(entry: Entry, read: Callable[[Entry], Iterator[bytes]], codec: str, sink: Sink) -> None:
    source = ahead(read(entry))  # fetching and hashing on one core, decompressing and writing on another
    try:
        sink(inflate(source, codec, entry.key))
    except (Corrupt, Incomplete) as error:
        # What the bytes look like is a symptom; whether they are what was written is known at their end.
        with contextlib.suppress(StopIteration):
            if isinstance(error, Corrupt):
                while True:
                    next(source)
        raise
    for _ in source:  # what follows the archive's end is compared, too
        pass


def _jobs(work: Unpacking, account: Account) -> list[tuple[Entry, Sink, str]]:
    detail = PostgresDetail.of(work.manifest)
    entries = {entry.name: entry for entry in work.manifest.entries}
    wanted = [detail.base, detail.manifest, *(tablespace.archive for tablespace in detail.tablespaces)]
    missing = [name for name in wanted if name not in entries]
    if missing:
        raise Corrupt(f"the manifest of {work.manifest.id} lacks the entries {', '.join(missing)}", hint=DAMAGED)

    def tar_into(entry: Entry, folder: Path) -> Sink:
        folder.mkdir(parents=True, exist_ok=True)
        own(folder, account, mode=0o700)
        return lambda chunks: untar(chunks, folder, account=account, what=entry.key, write_back=work.stays)

    jobs = [(entries[detail.base], tar_into(entries[detail.base], work.data), detail.compression)]
    for tablespace in detail.tablespaces:
        entry = entries[tablespace.archive]
        jobs.append((entry, tar_into(entry, work.tablespaces / str(tablespace.oid)), detail.compression))
    manifest_file = work.data / MANIFEST_FILE
    jobs.append((entries[detail.manifest], lambda chunks: _write(chunks, manifest_file, account), "zstd"))
    return jobs


def _write(chunks: Iterable[bytes | memoryview], path: Path, account: Account) -> None:
    try:
        with path.open("wb") as stream:
            stream.writelines(chunks)
    except OSError as error:
        raise full_or_broken(path.parent, error.strerror or str(error)) from error
    own(path, account, mode=0o600)


def inflate(chunks: Iterable[bytes], codec: str, what: str) -> Iterator[bytes | memoryview]:
    """Decompress a stream of ``zstd``, ``gzip``, ``lz4`` or ``none``, with memory independent of how well it is compressed.

    Each piece is good until the next one is asked for: zstd's come from one buffer.  Whether a zstd stream ended too early is
    left to whoever knows what is in it, and to the digest of the object.

    :param what: the object's key, for errors
    :raises Corrupt: when it is damaged, or (but for zstd) ends too early
    :raises NotFound: for lz4, when its Python module is not installed
    """
    if codec == "none":
        yield from chunks
    elif codec == "zstd":
        yield from _inflate_zstd(chunks, what)
    else:
        yield from _inflate_slices(chunks, codec, what)


def _inflate_zstd(chunks: Iterable[bytes], what: str) -> Iterator[memoryview]:
    context = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    buffer = bytearray(_BUFFER)
    whole = memoryview(buffer)
    with context.stream_reader(cast("IO[bytes]", _File(chunks)), read_size=_BUFFER, read_across_frames=True) as stream:
        try:
            while size := stream.readinto(buffer):
                yield whole[:size]
        except zstandard.ZstdError as error:
            raise Corrupt(f"{what} is damaged: {error}", hint=DAMAGED) from error


class _File:
    """What a stream reader reads: a file over an iterable."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int) -> memoryview:
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _inflate_slices(chunks: Iterable[bytes], codec: str, what: str) -> Iterator[bytes]:
    fresh, failures = _codec(codec)
    decompressor = fresh()
    begun = False
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _SLICE):
                rest = chunk[start : start + _SLICE]
                while rest:
                    if decompressor.eof:  # a stream may be several frames
                        decompressor = fresh()
                    begun = True
                    yield decompressor.decompress(rest)
                    rest = decompressor.unused_data if decompressor.eof else b""
    except failures as error:
        raise Corrupt(f"{what} is damaged: {error}", hint=DAMAGED) from error
    if begun and not decompressor.eof:
        raise Corrupt(f"{what} ends too early", hint=DAMAGED)


def _codec(codec: str) -> tuple[Callable[[], _Inflate], tuple[type[Exception], ...]]:
    if codec == "gzip":
        return lambda: zlib.decompressobj(wbits=31), (zlib.error,)
    if codec == "lz4":
        try:
            from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]
        except ImportError as error:
            raise NotFound(
                "the backup is compressed with lz4, and its Python module is not installed",
                hint="install it (pip install lz4), or restore by hand with the lz4 tool",
            ) from error
        return LZ4FrameDecompressor, (RuntimeError, EOFError)
    raise Corrupt(f"the backup is compressed with {codec!r}, which nobody knows", hint="use a newer Mainstay")
