"""The rules of the house, as far as no tool knows them.  Each test lists every place that breaks its rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from include.engine.cli import reference

PROJECT = Path(__file__).resolve().parents[2]
LONGEST_MODULE, LONGEST_DAG, LONGEST_FUNCTION = 300, 80, 60
BANNED = {"util", "utils", "common", "helper", "helpers", "manager", "misc", "stuff"}
BANNED_FILES = {"base", "core", "data"}

Functions = (ast.FunctionDef, ast.AsyncFunctionDef)


def python_files(*folders: str) -> list[Path]:
    found = [file for folder in folders for file in sorted((PROJECT / folder).rglob("*.py")) if file.stat().st_size]
    assert found, f"no Python below {folders}"
    return found


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def named(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def calls(file: Path, *names: str) -> Iterator[int]:
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            yield node.lineno


def told(broken: list[str]) -> str:
    return "\n  " + "\n  ".join(broken)


ENGINE = python_files("include", "plugins")


def test_a_module_has_at_most_300_lines() -> None:
    lengths = {named(file): len(file.read_text().splitlines()) for file in ENGINE}
    broken = [f"{name}: {length} lines" for name, length in lengths.items() if length > LONGEST_MODULE]
    assert not broken, told(broken)


def test_a_dag_file_has_at_most_80_lines_besides_its_doc() -> None:
    broken = []
    for file in python_files("dags"):
        doc = ast.get_docstring(parsed(file), clean=False) or ""
        lines = len(file.read_text().splitlines()) - doc.count("\n")
        if lines > LONGEST_DAG:
            broken.append(f"{named(file)}: {lines} lines")
    assert not broken, told(broken)


def test_a_function_fits_on_a_screen() -> None:
    """Of what it does, not of what it takes and promises: options of the command line carry their help with them."""
    broken = []
    for file in ENGINE:
        for node in ast.walk(parsed(file)):
            if isinstance(node, Functions):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > LONGEST_FUNCTION:
                    broken.append(f"{named(file)}:{node.lineno} {node.name}: {lines} lines")
    assert not broken, told(broken)


def test_nothing_is_named_after_nothing() -> None:
    broken = []
    for file in [*ENGINE, *python_files("tests", "bench")]:
        names = [file.stem, *file.relative_to(PROJECT).parent.parts]
        names += [node.name for node in ast.walk(parsed(file)) if isinstance(node, (ast.ClassDef, *Functions))]
        broken += [f"{named(file)}: {name}" for name in names if words(name) & BANNED]
        broken += [named(file)] if file.stem in BANNED_FILES else []
    assert not broken, told(broken)


def test_only_the_command_line_talks_to_people() -> None:
    """The engine returns, raises and reports progress; what is said is decided above it.

    A default for a progress line on standard error is the one exception, and says so where it is.
    """
    broken = []
    for file in ENGINE:
        if PROJECT / "include/engine/cli" not in file.parents:
            text = file.read_text().splitlines()
            lines = [line for line in calls(file, "print") if "noqa: T20" not in text[line - 1]]
            broken += [f"{named(file)}:{line}" for line in lines]
    assert not broken, told(broken)


def test_the_engine_asks_for_the_time_nowhere() -> None:
    """The clock is an argument.  The shell's own clock is the one place that reads it."""
    files = [file for file in python_files("include") if file != PROJECT / "include/engine/cli/clock.py"]
    broken = [f"{named(file)}:{line}" for file in files for line in calls(file, "datetime.now", "datetime.utcnow")]
    assert not broken, told(broken)


def test_no_work_is_left_for_later() -> None:
    files = [*ENGINE, *python_files("dags", "bench")]
    broken = [named(file) for file in files if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", file.read_text())]
    assert not broken, told(broken)


def test_a_module_says_what_it_is_for_in_its_first_line() -> None:
    docs = {named(file): ast.get_docstring(parsed(file)) or "" for file in ENGINE}
    broken = [name for name, doc in docs.items() if len(doc.split("\n", 1)[0]) <= 15]
    assert not broken, told(broken)


def test_an_error_says_what_to_do() -> None:
    """Every one of our errors takes a hint; an empty one is none."""
    broken = [
        f"{named(file)}:{node.lineno}"
        for file in ENGINE
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "hint" and isinstance(keyword.value, ast.Constant) and not keyword.value.value
    ]
    assert not broken, told(broken)


@pytest.mark.parametrize(
    ("page", "render"),
    [("inventory.md", reference.inventory_page), ("command-line.md", reference.command_page)],
    ids=["inventory", "command line"],
)
def test_a_reference_page_is_current(page: str, render: Callable[[], str]) -> None:
    current = (PROJECT / "docs" / page).read_text(encoding="utf-8") == render()
    assert current, f"write docs/{page} anew: python -m include.engine.cli.reference"


def test_every_key_of_the_inventory_has_a_meaning() -> None:
    rows = re.findall(r"^\| `(\S+)` \|.*\|([^|]*)\|$", reference.inventory_page(), re.MULTILINE)
    assert len(rows) > 30
    # A schedule is of the DAG that it is named after; there is nothing to add.
    broken = [key for key, meaning in rows if not meaning.strip() and not key.startswith("schedule.")]
    assert not broken, told(broken)


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [
        *PROJECT.glob("*.md"),
        *(PROJECT / "docs").rglob("*.md"),
        *(PROJECT / "include" / "runbooks").rglob("*.md"),
    ]
    broken = [
        f"{named(page)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert not broken, told(broken)
