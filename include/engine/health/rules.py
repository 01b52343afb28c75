"""Rules as data: what is tolerable, what it means when it is not, and what a person does then.

::

    rules:
      postgres-connections:
        metric: postgres.connections.used
        is: above
        warning: 80
        critical: 95
        for: 2m
        severity: page
        means: new sessions will soon be refused
        action: end the sessions that idle in a transaction, then put a pooler in between
        costs: whoever is ended loses what was not committed
        runbook: postgres-connections

    probes:
      orders-unshipped:
        target: postgres/main
        sql: select count(*) from orders where shipped_at is null
        metric: shop.orders.unshipped

A file is read strictly: every mistake is told at once, with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from include.engine.errors import NotFound
from include.engine.sections import Duration, Mistake, Section, mistakes_of, read_yaml, seconds_of
from include.engine.watching import ExpectSection, Severity

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_METRIC = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+){1,4}$"
_REFERENCE = re.compile(r"(expect|objective)\.([a-z_.]+)")
_NO_LIMIT = "{!r} is no limit; write a number, 30s, 2GiB, expect.<system>.<key> or objective.rpo"
_OBJECTIVES = ("rpo", "rto")
_SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|TiB)")


class Comparison(StrEnum):
    """When a value is beyond its limit."""

    ABOVE = "above"
    BELOW = "below"
    EQUAL = "equal"
    DIFFERENT = "different"

    def holds(self, value: float, limit: float) -> bool:
        """Say whether *value* is beyond *limit*."""
        match self:
            case Comparison.ABOVE:
                return value > limit
            case Comparison.BELOW:
                return value < limit
            case Comparison.EQUAL:
                return value == limit
            case Comparison.DIFFERENT:
                return value != limit


def _limit(value: object) -> object:
    if isinstance(value, str):
        size = _SIZE.fullmatch(value.strip())
        if size:
            return float(size[1]) * _SIZES[size[2]]
        seconds = seconds_of(value)
        if seconds is not None:
            return seconds
        reference = _REFERENCE.fullmatch(value)
        if reference is None:
            raise ValueError(
                f"{value!r} is no limit; write a number, 30s, 2GiB, expect.<system>.<key> or objective.rpo"
            )
        _known(reference[1], reference[2])
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(_NO_LIMIT.format(value))  # noqa: TRY004 - pydantic takes no TypeError
    return value


def _known(kind: str, name: str) -> None:
    if kind == "objective" and name not in _OBJECTIVES:
        raise ValueError(f"there is no objective {name!r}; there are {', '.join(_OBJECTIVES)}")
    if kind == "expect":
        try:
            ExpectSection().value(name)
        except KeyError:
            raise ValueError(
                f"the inventory can declare no expect.{name}: docs/inventory.md lists what it can"
            ) from None


Limit = Annotated[float | str, BeforeValidator(_limit)]


class Rule(Section):
    """What is tolerable of one metric."""

    name: str
    metric: str = Field(pattern=_METRIC)
    compare: Comparison = Field(alias="is")
    warning: Limit | None = None
    critical: Limit | None = None
    where: dict[str, str] = Field(default_factory=dict)
    hold: Duration = Field(timedelta(0), alias="for")
    severity: Severity
    team: str | None = None
    optional: bool = False
    means: str = Field(min_length=10)
    action: str = Field(min_length=10)
    costs: str = Field(min_length=4)
    runbook: str = Field(pattern=r"^[a-z][a-z0-9-]*$")

    @model_validator(mode="after")
    def _is_judged(self) -> Rule:
        if self.warning is None and self.critical is None:
            msg = "neither warning nor critical is given: it would never be judged"
            raise ValueError(msg)
        low, high = self.warning, self.critical
        if isinstance(low, float) and isinstance(high, float):
            wrong = {Comparison.ABOVE: high < low, Comparison.BELOW: high > low}.get(self.compare, False)
            if wrong:
                msg = f"critical ({high:g}) is reached before warning ({low:g}), because it `is: {self.compare}`"
                raise ValueError(msg)
        return self


class CustomProbe(Section):
    """A probe that is declared, not programmed: exactly one of ``sql``, ``cql``, ``url`` and ``command``."""

    name: str
    target: str | None = Field(None, description="target whose connection is used, for sql and cql")
    sql: str | None = None
    cql: str | None = None
    url: str | None = Field(None, pattern=r"^https?://")
    command: tuple[str, ...] | None = Field(None, min_length=1)
    pattern: str | None = Field(None, description="what finds the number in the answer of a url or a command")
    metric: str = Field(pattern=_METRIC)
    unit: str = "1"

    @model_validator(mode="after")
    def _asks_once(self) -> CustomProbe:
        asked = [name for name in ("sql", "cql", "url", "command") if getattr(self, name) is not None]
        if len(asked) != 1:
            msg = f"give exactly one of sql, cql, url and command, not {' and '.join(asked) or 'none'}"
            raise ValueError(msg)
        if asked[0] in ("sql", "cql") and not self.target:
            msg = f"{asked[0]} needs `target: <system>/<name>`, whose connection it uses"
            raise ValueError(msg)
        if self.pattern is not None:
            try:
                groups = re.compile(self.pattern).groups
            except re.error as error:
                msg = f"pattern is no regular expression: {error}"
                raise ValueError(msg) from error
            if groups != 1:
                msg = "pattern needs one group in brackets: the number"
                raise ValueError(msg)
        return self

    @property
    def kind(self) -> str:
        """Say how it asks."""
        return next(name for name in ("sql", "cql", "url", "command") if getattr(self, name) is not None)


class Scaling(Section):
    """A row of the scaling table."""

    name: str
    title: str = Field(min_length=3)
    metric: str = Field(pattern=_METRIC)
    limit: Limit
    cause: str = ""
    action: str = Field(min_length=10)
    costs: str = Field(min_length=4)


class RuleBook(Section):
    """All rules, declared probes and rows of the scaling table, by name."""

    rules: dict[str, Rule] = Field(default_factory=dict)
    probes: dict[str, CustomProbe] = Field(default_factory=dict)
    scaling: dict[str, Scaling] = Field(default_factory=dict)

    def over(self, others: RuleBook) -> RuleBook:
        """Give these rules and *others*; of two of the same name, this one's."""
        return RuleBook(
            rules={**others.rules, **self.rules},
            probes={**others.probes, **self.probes},
            scaling={**others.scaling, **self.scaling},
        )


def load(paths: Iterable[Path], *, runbooks: Path) -> RuleBook:
    """Read rule files; a later one's rule takes the place of an earlier one's of the same name.

    :param runbooks: folder of the runbooks: a rule whose runbook is not there is a mistake
    :raises NotFound: when a file is not there
    :raises Misconfigured: listing every mistake of a file with its line
    """
    known = frozenset(page.stem for page in runbooks.glob("*.md"))
    book = RuleBook()
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise NotFound(f"there is no rule file at {path}", hint="see sweep.rules in the inventory") from error
        book = parse(text, name=path.name, runbooks=known).over(book)
    return book


def parse(text: str, *, name: str = "rules.yaml", runbooks: frozenset[str] | None = None) -> RuleBook:
    """Read a rule file from its text (see :func:`load`)."""
    source = read_yaml(text, name=name, start_from="include/config/rules.yaml")
    wrong: list[Mistake] = [
        ((key,), f"{key}: unknown key; there are {', '.join(_KINDS)}") for key in source.document if key not in _KINDS
    ]
    found: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    for kind, model in _KINDS.items():
        section = source.document.get(kind, {})
        if not isinstance(section, Mapping):
            wrong.append(((kind,), f"{kind}: expected a mapping of names to settings"))
            continue
        for key, settings in section.items():
            where = (kind, key)
            if not isinstance(key, str) or not _NAME.fullmatch(key):
                wrong.append((where, f"{kind}.{key}: a name is of a-z, 0-9 and -"))
            elif not isinstance(settings, Mapping) or "name" in settings:
                wrong.append((where, f"{kind}.{key}: expected settings, without a name of their own"))
            else:
                try:
                    found[kind][key] = model.model_validate({"name": key, **settings})
                except ValidationError as error:
                    wrong += mistakes_of(error, where)
    for key, rule in found["rules"].items():
        if runbooks is not None and rule.runbook not in runbooks:
            wrong.append(
                (("rules", key, "runbook"), f"rules.{key}.runbook: there is no include/runbooks/{rule.runbook}.md")
            )
    source.refuse(wrong, hint="docs/health.md explains each key")
    return RuleBook(**found)


_KINDS: Mapping[str, type[Rule | CustomProbe | Scaling]] = {"rules": Rule, "probes": CustomProbe, "scaling": Scaling}
