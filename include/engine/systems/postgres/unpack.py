"""From stored objects to a data directory: fetched, decrypted, decompressed and unpacked as streams, archives side by side.

Nothing is written but what ends up in the directory.  A directory is only good when every object was read to its end and
compared with its entry: :func:`unpack` returns then and raises otherwise.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import zstandard

from include.engine.contracts import Progress, Reader, Stop
from include.engine.errors import Corrupt, Incomplete, Interrupted, MainstayError, NotFound, PermanentError, Refused
from include.engine.model import Entry, Manifest
from include.engine.sandbox.accounts import Account, own
from include.engine.systems.postgres.detail import PostgresDetail

ARCHIVES_AT_ONCE = 3
MANIFEST_FILE = "backup_manifest"  # where PostgreSQL's tools look for it
_SLICE = 32 << 10  # bytes that a decompressor gets at once: what it gives for them is held in memory
_DAMAGED = "restore from another backup of this target, and take a new full backup now"


class _Inflate(Protocol):
    """What zlib's and zstandard's decompressors have in common."""

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
    """

    manifest: Manifest
    data: Path
    tablespaces: Path


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

    jobs: list[tuple[Entry, Callable[[Iterable[bytes]], None], str]] = []
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


def _run(
    entry: Entry, read: Callable[[Entry], Iterator[bytes]], codec: str, sink: Callable[[Iterable[bytes]], None]
) -> None:
    source = read(entry)
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


def _jobs(work: Unpacking, account: Account) -> list[tuple[Entry, Callable[[Iterable[bytes]], None], str]]:
    detail = PostgresDetail.of(work.manifest)
    entries = {entry.name: entry for entry in work.manifest.entries}
    wanted = [detail.base, detail.manifest, *(tablespace.archive for tablespace in detail.tablespaces)]
    missing = [name for name in wanted if name not in entries]
    if missing:
        raise Corrupt(f"the manifest of {work.manifest.id} lacks the entries {', '.join(missing)}", hint=_DAMAGED)

    def tar_into(entry: Entry, folder: Path) -> Callable[[Iterable[bytes]], None]:
        folder.mkdir(parents=True, exist_ok=True)
        own(folder, account, mode=0o700)
        return lambda chunks: untar(chunks, folder, account=account, what=entry.key)

    jobs = [(entries[detail.base], tar_into(entries[detail.base], work.data), detail.compression)]
    for tablespace in detail.tablespaces:
        entry = entries[tablespace.archive]
        jobs.append((entry, tar_into(entry, work.tablespaces / str(tablespace.oid)), detail.compression))
    manifest_file = work.data / MANIFEST_FILE
    jobs.append((entries[detail.manifest], lambda chunks: _write(chunks, manifest_file, account), "zstd"))
    return jobs


def _write(chunks: Iterable[bytes], path: Path, account: Account) -> None:
    try:
        with path.open("wb") as stream:
            stream.writelines(chunks)
    except OSError as error:
        raise full_or_broken(path.parent, error.strerror or str(error)) from error
    own(path, account, mode=0o600)


def untar(chunks: Iterable[bytes], folder: Path, *, account: Account, what: str) -> None:
    """Unpack a tar stream into *folder* with the stock tool, as the server's account.

    :param what: the object's key, for errors
    :raises Corrupt: when it is no tar archive
    :raises Incomplete: when the disk is full
    :raises NotFound: when there is no ``tar``
    :raises Refused: when the account may not write there
    """
    try:
        tar = subprocess.Popen(
            ["tar", "--extract", "--preserve-permissions", "--file=-", "--directory", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            cwd="/",
            umask=0o077,
            **account.popen,
        )
    except FileNotFoundError as error:
        raise NotFound("there is no tar on this machine", hint="install it (apt-get install tar)") from error
    said: list[bytes] = []
    listener = threading.Thread(target=lambda: said.append(tar.stderr.read() if tar.stderr else b""), daemon=True)
    listener.start()
    assert tar.stdin is not None
    broken = False
    try:
        for chunk in chunks:
            try:
                tar.stdin.write(chunk)
            except BrokenPipeError:  # tar has ended early; it says why on its standard error
                broken = True
                break
        with contextlib.suppress(BrokenPipeError):
            tar.stdin.close()
    except BaseException:
        tar.kill()
        raise
    finally:
        code = tar.wait()
        listener.join()
        tar.stdin.close() if not tar.stdin.closed and not broken else None
        if tar.stderr:
            tar.stderr.close()
    if code != 0 or broken:
        text = b"".join(said).decode(errors="replace").strip()
        lines = text.splitlines()
        telling = next(
            (line for line in lines if "No space" in line or "quota" in line.lower()), lines[0] if lines else ""
        )
        if "No space" in telling or "quota" in telling.lower():
            raise full_or_broken(folder, telling)
        if "Permission denied" in telling:  # the place is at fault, not the backup
            raise Refused(
                f"{account.name} cannot write to {folder}: {telling}",
                hint="open the way to it with chmod o+x, or choose another directory",
            )
        raise Corrupt(f"{what} cannot be unpacked: {telling or f'tar ended with {code}'}", hint=_DAMAGED)


def full_or_broken(folder: Path, said: str) -> MainstayError:
    """Tell a full disk from other trouble with it."""
    if "space" in said or "quota" in said.lower():
        free = shutil.disk_usage(folder).free
        return Incomplete(
            f"the disk of {folder} is full ({free >> 20} MiB are free): {said}",
            hint="free some space or choose a larger place, and run the restore again; `--dry-run` tells what it needs",
        )
    return PermanentError(f"{folder} cannot be written: {said}", hint="check the disk and its permissions")


def inflate(chunks: Iterable[bytes], codec: str, what: str) -> Iterator[bytes]:
    """Decompress a stream of ``zstd``, ``gzip``, ``lz4`` or ``none``.

    :param what: the object's key, for errors
    :raises Corrupt: when it is damaged or ends too early
    :raises NotFound: for lz4, when its Python module is not installed
    """
    if codec == "none":
        yield from chunks
        return
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
        raise Corrupt(f"{what} is damaged: {error}", hint=_DAMAGED) from error
    if begun and not decompressor.eof:
        raise Corrupt(f"{what} ends too early", hint=_DAMAGED)


def _codec(codec: str) -> tuple[Callable[[], _Inflate], tuple[type[Exception], ...]]:
    if codec == "zstd":
        context = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        return context.decompressobj, (zstandard.ZstdError,)
    if codec == "gzip":
        return lambda: zlib.decompressobj(wbits=31), (zlib.error,)
    if codec == "lz4":
        try:
            from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-not-found,unused-ignore]
        except ImportError as error:
            raise NotFound(
                "the backup is compressed with lz4, and its Python module is not installed",
                hint="install it (pip install lz4), or restore by hand with the lz4 tool",
            ) from error
        return LZ4FrameDecompressor, (RuntimeError, EOFError)
    raise Corrupt(f"the backup is compressed with {codec!r}, which nobody knows", hint="use a newer Mainstay")
