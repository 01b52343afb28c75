"""Error lines of logs, grouped by what they say apart from names and numbers.  Pure, but for reading the files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from msgspec import Struct

MOST_BYTES = 32 << 20  # of one file, from its end
_FIRST_LINES = 1000  # of what is read of a file, in which a time is looked for
_LONGEST = 400
_BAD = re.compile(r"\b(ERROR|FATAL|PANIC|CRITICAL|SEVERE)\b")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
# What differs between two lines of the same template; the order matters, the greedier ones come first.
_PARTS = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]?\d*(?:Z|[+-]\d\d:?\d\d| ?UTC)?"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\"[^\"]*\"|'[^']*'"), "<text>"),
    (re.compile(r"(?<![\w.])/(?:[\w.@=+-]+/?)+"), "<path>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\b(?:0x)?(?=[0-9a-f]*\d)[0-9a-f]{6,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"[-+]?\b\d+(?:\.\d+)?"), "<n>"),
    (re.compile(r"\s+"), " "),
)
# `password=x`, `"secret": "x"`, `AWS_SECRET_ACCESS_KEY=x`, and what stands before the `@` of a URL.
_VALUE = r"""(?:"[^"]*"?|'[^']*'?|[^\s"',;}\]]+)"""
_SECRET = re.compile(
    r"(?i)([\w.-]{0,40}(?:password|passwd|secret|token|api[_-]?key|access[_-]?key)[\w.-]{0,40}[\"']?\s{0,3}[=:]\s{0,3})"
    + _VALUE
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_LOGIN = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(@)")


class Group(Struct, frozen=True, kw_only=True):
    """Lines that say the same.  Times are None when the lines carry none."""

    source: str
    template: str
    example: str
    count: int
    first: datetime | None
    last: datetime | None


def without_secrets(line: str) -> str:
    """Give a line without what looks like one: other systems' logs are none of ours, and the report goes to the bucket."""
    return _LOGIN.sub(r"\1***\2", _BEARER.sub(r"\1 ***", _SECRET.sub(r"\1***", line)))


def template(line: str) -> str:
    """Give what a line says apart from names and numbers."""
    for pattern, instead in _PARTS:
        line = pattern.sub(instead, line)
    return line.strip()


def grouped(source: str, lines: Iterable[str], since: datetime) -> list[Group]:
    """Group the error lines from *since* on, the most frequent first.  A line without a time counts with those that have one."""
    found: dict[str, Group] = {}
    for line in lines:
        if not _BAD.search(line):
            continue
        at = _moment(line)
        if at is not None and at < since:
            continue
        shown = without_secrets(line.strip()[: _LONGEST * 4])[:_LONGEST]
        key = template(shown)
        before = found.get(key)
        times = [moment for moment in (at, before.first if before else None, before.last if before else None) if moment]
        found[key] = Group(
            source=source,
            template=key,
            example=before.example if before else shown,
            count=before.count + 1 if before else 1,
            first=min(times, default=None),
            last=max(times, default=None),
        )
    return sorted(found.values(), key=lambda group: (-group.count, group.template))


def _moment(line: str) -> datetime | None:
    """Give the time that a line carries; none when it is of no calendar, as 0000-00-00 is."""
    stamp = _STAMP.search(line)
    try:
        return datetime.fromisoformat(stamp[0]).replace(tzinfo=UTC) if stamp else None
    except ValueError:
        return None


def tails(pattern: str, since: datetime) -> Iterator[str]:
    """Give the lines at the end of all files of a pattern that were written to since then.

    :raises OSError: when one cannot be read
    """
    for _, _, lines in _written(pattern, since):
        yield from lines


def cut_off(pattern: str, since: datetime) -> list[str]:
    """Name the files of which the end that is read does not reach back to then, or does not say so.

    :raises OSError: when one cannot be read
    """
    found = []
    for path, cut, lines in _written(pattern, since):
        first = next((at for line in islice(lines, _FIRST_LINES) if (at := _moment(line))), None) if cut else since
        if first is None or first > since:
            found.append(path.name)
    return found


def _written(pattern: str, since: datetime) -> Iterator[tuple[Path, bool, Iterator[str]]]:
    """Give the files that were written to since then, whether more is in them than is read, and the lines that are."""
    for name in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - the pattern is absolute
        path = Path(name)
        try:
            if not path.is_file() or path.stat().st_mtime < since.timestamp():
                continue
            file = path.open("rb")
        except FileNotFoundError:  # rotated away since we looked
            continue
        with file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_BYTES:
                file.seek(size - MOST_BYTES)
                file.readline()  # the rest of a line that begins before
            yield path, size > MOST_BYTES, (raw.decode(errors="replace") for raw in file)


def matches(pattern: str) -> int:
    """Count the files of a pattern."""
    return len(glob.glob(pattern, recursive=True))  # noqa: PTH207
