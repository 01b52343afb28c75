"""Renders the reference pages from the code: ``docs/inventory.md`` from the schemas, ``docs/command-line.md`` from the commands.

``python -m include.engine.cli.reference`` writes both; a house rule fails when they are not current.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from include.engine import wiring
from include.engine.inventory import Inventory
from include.engine.model import System

if TYPE_CHECKING:
    from typer.core import TyperGroup

DOCS = wiring.PROJECT / "docs"
_GENERATED = "<!-- Written by `python -m include.engine.cli.reference`. Change the code, not this page. -->"
_UNITS = ((604_800, "w"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


_ABOUT_THE_INVENTORY = """\
One YAML file says what the pipeline consists of. It is `include/config/inventory.yaml`, or the file that
`MAINSTAY_INVENTORY` names. `./mainstay inventory check` reads it and tells every mistake with its line; unknown keys are
mistakes. It names connections and never holds a secret: each connection is `AIRFLOW_CONN_<NAME>` in the environment, or
one of Airflow's own.

A duration is a number and a unit: `30s`, `15m`, `2h`, `7d`, `4w`. A schedule is five fields of cron, or `@daily` and the
like, or `null` for only by hand.

The smallest one:

```yaml
pipeline: shop
store:
  url: s3://backups/shop
  connection: backup_store
postgres:
  main:
    connection: postgres_main
```"""

_ABOUT_THE_COMMANDS = """\
Tables go to standard output, or one JSON document with `--json`; progress and notices go to standard error. Exit codes:
0 pass, 1 fail or error, 2 a command line that cannot be understood, 3 unverified. `MAINSTAY_DEBUG=1` shows where an
error comes from. SIGINT and SIGTERM stop in good order, a second one kills.

`restore`, `catalog`, `verify` and `drill` need the bucket only: with `--bucket` they ask for no inventory and no Airflow."""


def inventory_page() -> str:
    """Render the reference of the inventory."""
    sections = ["# The inventory", _GENERATED, _ABOUT_THE_INVENTORY, "## The whole file", _table(_keys(Inventory))]
    for system in System:
        settings = _settings(system)
        if settings is not None:
            sections += [f"## {system}: a mapping of names to settings", _table(_keys(settings))]
    return "\n\n".join(sections) + "\n"


def command_page() -> str:
    """Render the reference of the command line."""
    from include.engine.cli.app import app

    group: Any = typer.main.get_command(app)
    sections = ["# The command line", _GENERATED, _ABOUT_THE_COMMANDS, *_commands(group, "./mainstay")]
    return "\n\n".join(sections) + "\n"


def write() -> list[Path]:
    """Write both pages and give their paths."""
    pages = {"inventory.md": inventory_page(), "command-line.md": command_page()}
    for name, text in pages.items():
        (DOCS / name).write_text(text, encoding="utf-8")
    return [DOCS / name for name in pages]


def _settings(system: System) -> type[BaseModel] | None:
    """Give what the inventory may say about a target of *system*; None while this Mainstay does not know it."""
    try:
        module = import_module(f"include.engine.systems.{system}.settings")
    except ModuleNotFoundError:
        return None
    found: type[BaseModel] = module.Settings
    return found


Key = tuple[str, str, str, str]


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """Give path, type, default and meaning of every key below *model*."""
    for name, field in model.model_fields.items():
        if field.exclude:
            continue  # what is read from a place of its own
        path = f"{prefix}{name}"
        inner = _section(field.annotation)
        if inner is None:
            yield path, _type(field.annotation), _default(field), field.description or _kind(field.annotation)
            continue
        mapping = get_origin(field.annotation) is dict
        yield path, "mapping of names" if mapping else "section", _default(field), field.description or _summary(inner)
        yield from _keys(inner, f"{path}.{'<name>.' if mapping else ''}")


def _section(annotation: Any) -> type[BaseModel] | None:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _kind(annotation: Any) -> str:
    """Give what the values of a key are, when the key itself has nothing to add."""
    listed = isinstance(annotation, type) and issubclass(annotation, StrEnum)
    return _summary(annotation) if listed else ""


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join("null" if part is types.NoneType else _type(part) for part in get_args(annotation))
    if get_origin(annotation) is dict:
        return f"mapping of names to {_type(get_args(annotation)[1])}"
    if get_origin(annotation) is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " or ".join(f"`{value}`" for value in annotation)
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        timedelta: "duration",
        Path: "path",
    }
    return names.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, BaseModel) or value in ((), {}):
        return ""
    if isinstance(value, timedelta):
        return f"`{_duration(value)}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"


def _summary(model: type) -> str:
    return (model.__doc__ or "").strip().split("\n", 1)[0]


def _table(keys: Iterator[Key]) -> str:
    rows = [f"| `{path}` | {_escaped(kind)} | {default} | {_escaped(text)} |" for path, kind, default, text in keys]
    return "\n".join(["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _commands(group: TyperGroup, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        if inner is not None:
            yield from _commands(command, f"{path} {name}")  # type: ignore[arg-type]
        else:
            yield f"## {path} {name}"
            yield (command.help or "").strip()
            rows = [_parameter(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
            if rows:
                yield "\n".join(["| | |", "| --- | --- |", *rows])


def _parameter(parameter: Any) -> str:
    options = [*parameter.opts, *parameter.secondary_opts]
    shown = ", ".join(f"`{option}`" for option in options) if parameter.param_type_name == "option" else None
    if shown is None:
        shown = f"`{parameter.metavar or parameter.name.upper()}`"
    variable = f" (or `{parameter.envvar}`)" if isinstance(getattr(parameter, "envvar", None), str) else ""
    return f"| {shown} | {_escaped(parameter.help or '')}{variable} |"


def _escaped(text: str) -> str:
    """Write text so that a cell of a table shows it as it is."""
    return text.replace("<", "&lt;").replace("|", "&#124;")


if __name__ == "__main__":
    for page in write():
        print(page)
