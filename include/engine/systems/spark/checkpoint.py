"""What is in a checkpoint: the notes that Spark writes for each batch, read, judged and rewritten.  Pure.

For each flow there is a folder as Spark makes it: ``metadata``, ``sources/``, ``offsets/<batch>``, written before a batch, and
``commits/<batch>``, written after it.  A file of ``offsets`` has three lines: the format, the batch's settings, and for each
source the offsets where the batch ends, which is where the next one begins: ``{"topic": {"0": 17}}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from include.engine.errors import Corrupt, Incomplete, Refused
from include.engine.model import Moved

Files = Mapping[str, bytes]  # of one flow, by path below its folder
Offsets = dict[str, dict[int, int]]  # topic to partition to the record that is read next

METADATA = "metadata"
_FORMAT = "v1"
_HINT = "restore the checkpoint from a backup; never delete it: without it everything is read again or lost"


class FlowState(Struct, frozen=True, kw_only=True):
    """Where a flow is: its last finished batch, and what it reads next.  Before its first one, nothing."""

    batch: int | None
    offsets: Offsets


def batches(paths: Iterable[str], kind: str) -> list[int]:
    """Give the numbers of the batches that have a note of *kind*, ``offsets`` or ``commits``, in order."""
    found = (path.split("/") for path in paths)
    return sorted(int(parts[1]) for parts in found if len(parts) == 2 and parts[0] == kind and parts[1].isdecimal())


def needed(paths: Iterable[str]) -> tuple[str, ...]:
    """Give the files that make up the checkpoint at its last finished batch, without operators' state.

    Spark reads the last two notes of offsets when it starts; older ones are for going back by hand.
    """
    paths = list(paths)
    done = batches(paths, "commits")
    known = set(batches(paths, "offsets"))
    last = [n for n in (done[-1] - 1, done[-1]) if n in known] if done else []
    wanted = {METADATA, *(f"offsets/{n}" for n in last), *(f"commits/{n}" for n in last)}
    # Three parts: in an object store, Hadoop leaves markers that stand for folders.
    sources = {path for path in paths if path.startswith("sources/") and path.count("/") == 2 and not _hidden(path)}
    return tuple(sorted((wanted | sources) & set(paths)))


def state_files(paths: Iterable[str], batch: int) -> tuple[str, ...]:
    """Give the files of operators' state up to *batch*: their versions count from 1, batches from 0."""
    found = []
    for path in paths:
        name = path.rsplit("/", 1)[-1]
        number = name.partition(".")[0].partition("_")[0]
        file = path.startswith("state/") and not _hidden(path) and not name.isdecimal()  # else a marker of a folder
        if file and (not number.isdecimal() or int(number) <= batch + 1):
            found.append(path)
    return tuple(sorted(found))


def inspect(flow: str, files: Files, topic: str) -> FlowState:
    """Say where a flow is, or why its checkpoint cannot be used.

    :raises Corrupt: when a note is missing, cut off, or of a format that is not known
    :raises Refused: when it is about another topic
    """
    if METADATA not in files:
        raise Corrupt(f"the checkpoint of {flow} has no {METADATA}: no query was ever started in it", hint=_HINT)
    _json(flow, METADATA, files[METADATA])
    done = batches(files, "commits")
    if not done:
        return FlowState(batch=None, offsets={})
    last = done[-1]
    for number in (last, last - 1) if last else (last,):
        if f"offsets/{number}" not in files:
            raise Corrupt(f"the checkpoint of {flow} has no offsets of batch {number}", hint=_HINT)
        offsets = parse(flow, f"offsets/{number}", files[f"offsets/{number}"])
        others = sorted(set(offsets) - {topic})
        if others:
            raise Refused(
                f"the checkpoint of {flow} is about the topic {', '.join(others)}, and the inventory says {topic}",
                hint="name the topic that it is about, or give the flow another name: its checkpoint begins anew then",
            )
    _lines(flow, f"commits/{last}", files[f"commits/{last}"], at_least=2)
    return FlowState(batch=last, offsets=parse(flow, f"offsets/{last}", files[f"offsets/{last}"]))


def parse(flow: str, path: str, raw: bytes) -> Offsets:
    """Read a note of offsets.

    :raises Corrupt: when it is none
    """
    lines = _lines(flow, path, raw, at_least=3)
    _json(flow, path, lines[1].encode())
    found: Offsets = {}
    for line in lines[2:]:
        if line == "-":  # a source without an offset yet
            continue
        told = _json(flow, path, line.encode())
        try:
            for topic, partitions in told.items():
                found.setdefault(topic, {}).update({int(p): int(offset) for p, offset in partitions.items()})
        except (AttributeError, TypeError, ValueError) as error:
            raise Corrupt(f"{flow}/{path} tells no offsets: {line[:80]!r}", hint=_HINT) from error
    return found


def rewrite(
    flow: str,
    files: Files,
    moved: Mapping[tuple[str, int], Mapping[int, int]],
    renamed: Mapping[str, str] | None = None,
) -> dict[str, bytes]:
    """Make the checkpoint fit a restored topic, whose records have other offsets: it goes on at the very same record.

    Only what is read next is kept: both notes that Spark reads get it, so the last batch counts as done and empty.  What was
    noted when the query was started first is left out; Spark makes it anew.

    :param moved: by topic and partition: offset in the source to offset in the restored topic
    :param renamed: topics that have another name where they were restored to
    :raises Incomplete: naming the positions that nobody told
    """
    done = batches(files, "commits")
    kept = {METADATA: files[METADATA]} | {path: raw for path, raw in files.items() if path.startswith("state/")}
    if not done:
        return kept
    last = done[-1]
    before = parse(flow, f"offsets/{last}", files[f"offsets/{last}"])
    missing = [
        f"{topic}-{partition} at {offset}"
        for topic, partitions in sorted(before.items())
        for partition, offset in sorted(partitions.items())
        if offset not in moved.get((topic, partition), {})
    ]
    if missing:
        raise Incomplete(
            f"where {flow} goes on in the restored topics is not known: {', '.join(missing[:5])}",
            hint="restore Kafka and the checkpoint from the same set, and all of the topic's partitions",
        )
    names = renamed or {}
    after = {
        names.get(topic, topic): {str(p): moved[topic, p][offset] for p, offset in sorted(partitions.items())}
        for topic, partitions in sorted(before.items())
    }
    head = _lines(flow, f"offsets/{last}", files[f"offsets/{last}"], at_least=3)[:2]
    note = "\n".join([*head, json.dumps(after, separators=(",", ":"))]).encode()
    for number in (last - 1, last) if last else (last,):
        kept[f"offsets/{number}"] = note
        kept[f"commits/{number}"] = files.get(f"commits/{number}", files[f"commits/{last}"])
    return kept


def by_partition(moved: Sequence[Moved]) -> dict[tuple[str, int], dict[int, int]]:
    """Sort positions by the topic and the partition that they were in, for :func:`rewrite`."""
    found: dict[tuple[str, int], dict[int, int]] = {}
    for one in moved:
        found.setdefault((one.before.topic, one.before.partition), {})[one.before.offset] = one.after.offset
    return found


def renamed(moved: Sequence[Moved]) -> dict[str, str]:
    """Give the new names of topics that got one, for :func:`rewrite`."""
    return {one.before.topic: one.after.topic for one in moved}


def _hidden(path: str) -> bool:
    """Whether it is a checksum that Hadoop keeps beside a file: of a file that is rewritten it would be wrong."""
    return path.rsplit("/", 1)[-1].startswith(".")


def _lines(flow: str, path: str, raw: bytes, *, at_least: int) -> list[str]:
    try:
        lines = raw.decode().splitlines()
    except UnicodeDecodeError as error:
        raise Corrupt(f"{flow}/{path} is not text", hint=_HINT) from error
    if len(lines) < at_least:
        raise Corrupt(f"{flow}/{path} is cut off after {len(lines)} lines", hint=_HINT)
    if lines[0] != _FORMAT:
        raise Corrupt(f"{flow}/{path} is of the format {lines[0][:20]!r}, and only {_FORMAT} is known", hint=_HINT)
    return lines


def _json(flow: str, path: str, raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise Corrupt(f"{flow}/{path} is damaged: {error}", hint=_HINT) from error
    if not isinstance(found, dict):
        raise Corrupt(f"{flow}/{path} is damaged: {raw[:40]!r}", hint=_HINT)
    return found
