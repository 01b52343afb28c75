"""What the pages name is there: commands and their options, files, the layers.  Each test lists every place that is stale."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from include.engine.cli.app import app
from tests.house.test_rules import PROJECT, named, told

PAGES = [
    *(page for page in PROJECT.glob("*.md") if page.name != "CHANGELOG.md"),  # it tells of what has been
    *(PROJECT / "docs").glob("*.md"),
    *(PROJECT / "include" / "runbooks").glob("*.md"),
]
OF_THE_SCRIPT = {"lock"}  # what ./mainstay does before there is a Python
ROOTS = "include|plugins|dags|docs|tests|bench|deploy"
NEEDS_BUCKET = "with --bucket"


def commands() -> dict[str, Any]:
    """Every command by its name, those of a group with both words."""

    def below(group: Any, before: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            yield before + name, command
            if hasattr(command, "commands"):
                yield from below(command, f"{before}{name} ")

    return dict(below(typer.main.get_command(app), ""))


def typed(page: Path) -> Iterator[str]:
    """What a page says to type behind ``./mainstay``, without comments."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    for line in re.findall(r"\./mainstay ([^`\n]+)", text):
        yield line.partition(" #")[0]


def test_every_command_that_a_page_names_is_one_and_has_these_options() -> None:
    known, broken = commands(), []
    for page in PAGES:
        for line in typed(page):
            words = re.findall(r"[a-z-]+", line)
            name = next((one for one in (" ".join(words[:2]), words[0]) if one in known), "") if words else ""
            if not name:
                broken += [f"{named(page)}: {line}"] if words and words[0] not in OF_THE_SCRIPT else []
                continue
            options = {one: param for param in known[name].params for one in (*param.opts, *param.secondary_opts)}
            if known[name].context_settings.get("ignore_unknown_options"):
                continue  # they are pytest's
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]+", line):
                help_ = getattr(options.get(option), "help", None) or ""
                if option not in options and option != "--help":
                    broken.append(f"{named(page)}: {name} has no {option}: {line}")
                elif help_.startswith(NEEDS_BUCKET) and "--bucket" not in line:
                    broken.append(f"{named(page)}: {option} goes with --bucket: {line}")
    assert not broken, told(broken)


def test_every_file_that_a_page_names_is_there() -> None:
    broken = [
        f"{named(page)}: {path}"
        for page in PAGES
        for path in re.findall(rf"`((?:{ROOTS})/[\w./-]+)`", page.read_text(encoding="utf-8"))
        if not (PROJECT / path).exists() and not path.endswith("/own.yaml")  # the reader's
    ]
    assert not broken, told(broken)


def test_the_page_of_the_architecture_shows_the_layers_that_are_held() -> None:
    text = re.sub(r"[\s()]+", " ", (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert len(layers) == 2
    for held in layers:
        arrow = " → ".join(re.sub(r"[()]", "", one).strip() for one in held)
        assert arrow in text, f"docs/architecture.md lacks: {arrow}"
