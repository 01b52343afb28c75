"""Brings stored files to where tools read them: to this machine, or by signed URL straight to a node.

A file appears under its name only when its digest was compared; a run that was killed goes on with what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from threading import Lock

from include.engine.contracts import Progress, Reader, Stop
from include.engine.errors import Corrupt, PermanentError, Unreachable
from include.engine.store.shared import SharedFolder
from include.engine.systems.cassandra import node_scripts
from include.engine.systems.cassandra.node_scripts import Transfer
from include.engine.systems.cassandra.selection import StoredFile
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import NodeTransport, quote, redacted

_AT_ONCE = 6
_BATCH_FILES, _BATCH_BYTES = 64, 256 << 20
_TRIES = 4
_EXPIRES = timedelta(hours=6)


def to_here(files: Sequence[StoredFile], directory: Path, reader: Reader, progress: Progress, stop: Stop) -> int:
    """Fetch *files* into *directory*, and give the bytes that were fetched: what is there already is not among them.

    :raises Corrupt: naming the object that is not what was stored
    """
    lock = Lock()
    fetched = 0

    def one(file: StoredFile) -> None:
        nonlocal fetched
        stop.check()
        path = directory / file.place
        if path.is_file() and path.stat().st_size == file.entry.bytes:
            with lock:
                progress.advance(file.entry.bytes)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.part")
        try:
            with draft.open("wb") as stream:
                for chunk in reader.read(file.entry):
                    stop.check()
                    stream.write(chunk)
                    with lock:
                        progress.advance(len(chunk))
        except OSError as error:
            raise PermanentError(
                f"{draft} cannot be written: {error.strerror}",
                hint="free space or choose another place, then run it again",
            ) from error
        draft.rename(path)
        with lock:
            fetched += file.entry.bytes

    directory.mkdir(parents=True, exist_ok=True)  # also for no file at all: of a cluster without a row
    side_by_side(one, files, at_once=_AT_ONCE)
    return fetched


def to_node(
    files: Sequence[StoredFile],
    directory: str,
    shared: SharedFolder,
    transport: NodeTransport,
    *,
    progress: Progress,
    stop: Stop,
    timeout: float,
    rate: int | None,
) -> int:
    """Let a node fetch *files* into *directory* on itself, and give the bytes that it fetched.

    :raises Corrupt: when what came is not what was stored
    :raises Unreachable: when the node does not get at the store
    """
    there = present(transport, directory, timeout)
    missing = [file for file in files if there.get(f"{directory}/{file.place}") != file.entry.bytes]
    progress.advance(sum(file.entry.bytes for file in files) - sum(file.entry.bytes for file in missing))
    lock = Lock()
    batches = _batches(missing)
    share = max(1024, rate // min(_AT_ONCE, len(batches))) if rate and batches else None

    def one(batch: list[StoredFile]) -> None:
        differed: set[str] = set()
        left = {f"{directory}/{file.place}": file for file in batch}
        for attempt in range(_TRIES):
            transfers = [
                Transfer(
                    sha256=file.entry.sha256,
                    path=path,
                    bytes=file.entry.bytes,
                    request=shared.sign_get(file.entry, _EXPIRES),
                )
                for path, file in left.items()
            ]
            script = node_scripts.downloads(transfers, rate=share)
            printed = transport.run(script, timeout=timeout, stop=stop).splitlines()
            said = [line.split(" ", 2) for line in printed]
            good = {" ".join(words[1:]) for words in said if words[0] == "V"}
            done = {path: file for path, file in left.items() if path in good}
            with lock:
                progress.advance(sum(file.entry.bytes for file in done.values()))
            left = {path: file for path, file in left.items() if path not in good}
            if not left:
                return
            _explain(left, said, transport.name, differed)
            why = next((redacted(line) for line in reversed(printed) if line.startswith("curl: ")), "no answer")
            time.sleep(2**attempt)
        raise Unreachable(
            f"{transport.name} could not fetch {len(left)} files after {_TRIES} tries: {why}",
            hint="check that the node reaches the object store's endpoint; run it again, it goes on from here",
        )

    side_by_side(one, batches, at_once=_AT_ONCE)
    return sum(file.entry.bytes for file in missing)


def present(transport: NodeTransport, directory: str, timeout: float) -> dict[str, int]:
    """Give the size of each whole file in *directory* on a node, by its path."""
    script = f"[ -d {quote(directory)} ] || return 0\nfind {quote(directory)} -type f ! -name '*.part' -exec stat -c '%s %n' {{}} +"
    lines = (line.partition(" ") for line in transport.run(script, timeout=timeout).splitlines())
    return {path: int(size) for size, _, path in lines}


def _explain(left: dict[str, StoredFile], said: Sequence[Sequence[str]], where: str, differed: set[str]) -> None:
    """Say why files did not come, when trying again would not help.

    :param differed: the paths of files that came whole and wrong before.  Once may have happened on the way; twice has not
    """
    partial = {words[2]: int(words[1]) for words in said if words[0] == "W"}
    free = next((int(words[1]) << 10 for words in said if words[0] == "A" and words[1].isdigit()), None)
    codes = {words[2].split()[1].partition(":")[0]: int(words[1]) for words in said if words[0] == "G"}
    hint = "restore from another backup of this target, and take a new full backup now"
    for path, file in left.items():
        code, arrived = codes.get(file.entry.sha256, 0), partial.get(path, 0)
        if code == 404:
            raise Corrupt(f"{file.entry.key} is missing from the store", hint=hint)
        if code in (200, 206) and arrived == file.entry.bytes:
            if path not in differed:
                differed.add(path)
                continue
            raise Corrupt(
                f"{file.entry.key} is not what was written: its SHA-256 differs from the manifest's", hint=hint
            )
        if free is not None and free < file.entry.bytes - arrived:
            raise PermanentError(
                f"{where}: the disk of {path.rpartition('/')[0]} is full: {free} bytes are free",
                hint="free space there, or set another staging directory; run it again, it goes on from here",
            )


def _batches(files: Sequence[StoredFile]) -> list[list[StoredFile]]:
    groups: list[list[StoredFile]] = []
    size = 0
    for file in files:
        if not groups or size + file.entry.bytes > _BATCH_BYTES or len(groups[-1]) >= _BATCH_FILES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.entry.bytes
    return groups
