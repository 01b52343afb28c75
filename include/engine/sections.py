"""How our YAML files are read: strictly, and every mistake is told at once, with its line.

The inventory and the rules are made of :class:`Section`; :func:`mistakes_of` turns what pydantic says into lines of the file.
This is read at DAG parsing, so it imports nothing but pydantic and YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from include.engine.errors import Misconfigured
from include.engine.quick_yaml import LOADER

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds_of(text: str) -> float | None:
    """Give the seconds of a duration such as ``15m``; nothing when it is none.  Pure."""
    match = _DURATION.fullmatch(text.strip())
    return float(match[1]) * _UNITS[match[2]] if match else None


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    seconds = seconds_of(str(value))
    if seconds is None:
        raise ValueError(f"{value!r} is not a duration; write a number and a unit, like 30s, 15m, 2h, 7d or 4w")
    return timedelta(seconds=seconds)


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Cron = Annotated[str, Field(pattern=r"^(@\w+|(\S+\s+){4}\S+)$")]
AFTER_BACKUP = "after-backup"  # in the place of a time: whenever a set was taken and read back
CronOrBackup = Annotated[str, Field(pattern=rf"^({AFTER_BACKUP}|@\w+|(\S+\s+){{4}}\S+)$")]


class Section(BaseModel):
    """A part of a file: unknown keys are mistakes, values never change."""

    # Most commands never look at most sections: one that is never read is never turned into a validator.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def unless_given(description: str | None = None) -> Any:
    """Give the field of a section that may be absent: then it is read as an empty one, by the validator of the whole file.

    A section that were made beforehand, as the default, would have its own validator built whenever its module is imported.
    """
    return Field(default_factory=dict, validate_default=True, description=description)


Where = tuple[str | int, ...]
Mistake = tuple[Where, str]


@dataclass(frozen=True)
class Source:
    """A YAML file that is a mapping: what it says, and on which line it says it."""

    name: str
    document: dict[str, Any]
    lines: Mapping[Where, int]
    twice: tuple[tuple[int, str], ...]

    def refuse(self, mistakes: Iterable[Mistake], *, hint: str) -> None:
        """Raise when there are mistakes, keys that are given twice among them.

        :raises Misconfigured: listing every one with its line
        """
        found = [*self.twice, *((self._line(where), message) for where, message in mistakes)]
        if found:
            told = "\n  ".join(f"line {line}: {message}" for line, message in sorted(found))
            raise Misconfigured(f"{self.name} has {len(found)} mistake(s):\n  {told}", hint=hint)

    def _line(self, where: Where) -> int:
        while where and where not in self.lines:
            where = where[:-1]  # a missing key is told at the section that lacks it
        return self.lines.get(where, 1)


def read_yaml(text: str, *, name: str, start_from: str) -> Source:
    """Read a file that is a mapping.

    :param start_from: the file of the repository that a person may start from, for the error
    :raises Misconfigured: when it is no YAML, or is empty
    """
    try:
        root, document = _parsed(text)
    except yaml.YAMLError as error:
        raise Misconfigured(f"{name} is not YAML: {error}", hint="mend the line that is named") from error
    if not isinstance(document, dict) or root is None:
        raise Misconfigured(f"{name} is empty", hint=f"start from {start_from} of the repository")
    return Source(name=name, document=document, lines=dict(_lines(root, ())), twice=tuple(_duplicates(root)))


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """Give the nodes and the values of a file."""
    try:
        return yaml.compose(text, Loader=LOADER), yaml.load(text, Loader=LOADER)  # noqa: S506  # it is a safe one
    except yaml.YAMLError:  # again, for the error: the other one shows the line
        return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)


def mistakes_of(error: ValidationError, prefix: Where) -> list[Mistake]:
    """Say what pydantic found below *prefix*, each mistake with the place of its key."""
    told: list[Mistake] = []
    for mistake in error.errors():
        where = (*prefix, *mistake["loc"])
        key = ".".join(map(str, where))
        message = {
            "extra_forbidden": "unknown key",
            "missing": "is required",
        }.get(mistake["type"], mistake["msg"].removeprefix("Value error, "))
        told.append((where, f"{key}: {message}"))
    return told


def _lines(node: yaml.Node, path: Where) -> Iterator[tuple[Where, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from ((p, n) for p, n in _lines(value, (*path, key.value)) if p != (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))


def _duplicates(node: yaml.Node) -> Iterator[tuple[int, str]]:
    # YAML keeps the last of two equal keys and says nothing: a second `main:` would silently replace the first target.
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, f"{key.value}: given twice"
            seen.add(key.value)
            yield from _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _duplicates(value)
