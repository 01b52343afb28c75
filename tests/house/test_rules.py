"""The rules of the house, as far as no tool knows them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine.cli import reference

PROJECT = Path(__file__).resolve().parents[2]
LONGEST_MODULE, LONGEST_DAG, LONGEST_FUNCTION = 300, 80, 60
BANNED = {"util", "utils", "common", "helper", "helpers", "manager", "misc", "stuff", "base"}


def python_files(*folders: str) -> list[Path]:
    found = [file for folder in folders for file in sorted((PROJECT / folder).rglob("*.py"))]
    assert found, f"no Python below {folders}"
    return found


def named(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


ENGINE = python_files("include", "plugins")


@pytest.mark.parametrize("file", ENGINE, ids=named)
def test_a_module_has_at_most_300_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("file", sorted((PROJECT / "dags").glob("*.py")), ids=named)
def test_a_dag_file_has_at_most_80_lines_besides_its_doc(file: Path) -> None:
    text = file.read_text()
    doc = ast.get_docstring(ast.parse(text), clean=False) or ""
    assert len(text.splitlines()) - doc.count("\n") <= LONGEST_DAG


@pytest.mark.parametrize("file", ENGINE, ids=named)
def test_a_function_fits_on_a_screen(file: Path) -> None:
    long = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # Of what it does, not of what it takes and promises: options of the command line carry their help with them.
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > LONGEST_FUNCTION:
                long.append(f"{node.name} ({lines})")
    assert not long


@pytest.mark.parametrize("file", [*ENGINE, *python_files("tests", "bench")], ids=named)
def test_nothing_is_named_after_nothing(file: Path) -> None:
    names = [file.stem, *file.relative_to(PROJECT).parent.parts]
    names += [
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not [name for name in names if words(name) & BANNED]


@pytest.mark.parametrize(
    "file", [file for file in ENGINE if PROJECT / "include/engine/cli" not in file.parents], ids=named
)
def test_only_the_command_line_talks_to_people(file: Path) -> None:
    """The engine returns, raises and reports progress; what is said is decided above it.

    A default for a progress line on standard error is the one exception, and says so where it is.
    """
    text = file.read_text().splitlines()
    printed = [line for line, name in calls(ast.parse("\n".join(text))) if name == "print"]
    assert not [line for line in printed if "noqa: T20" not in text[line - 1]]


@pytest.mark.parametrize("file", python_files("include/engine"), ids=named)
def test_the_engine_asks_for_the_time_nowhere(file: Path) -> None:
    """The clock is an argument.  The shell's own clock is the one place that reads it."""
    if file == PROJECT / "include/engine/cli/clock.py":
        return
    assert not [
        line for line, name in calls(ast.parse(file.read_text())) if name in ("datetime.now", "datetime.utcnow")
    ]


@pytest.mark.parametrize("file", [*ENGINE, *python_files("dags")], ids=named)
def test_no_work_is_left_for_later(file: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", file.read_text())


@pytest.mark.parametrize("file", ENGINE, ids=named)
def test_a_module_says_what_it_is_for_in_its_first_line(file: Path) -> None:
    doc = ast.get_docstring(ast.parse(file.read_text()))
    assert doc
    assert len(doc.splitlines()[0]) > 15


@pytest.mark.parametrize("file", ENGINE, ids=named)
def test_an_error_says_what_to_do(file: Path) -> None:
    """Every one of our errors has a hint; an empty one is no hint."""
    without = [
        node.lineno
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "hint" and isinstance(keyword.value, ast.Constant) and not keyword.value.value
    ]
    assert not without


@pytest.mark.parametrize(
    ("page", "render"),
    [("inventory.md", reference.inventory_page), ("command-line.md", reference.command_page)],
    ids=["inventory", "command line"],
)
def test_a_reference_page_is_current(page: str, render: object) -> None:
    assert callable(render)
    assert (PROJECT / "docs" / page).read_text(encoding="utf-8") == render(), (
        "write it anew: python -m include.engine.cli.reference"
    )


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [
        *PROJECT.glob("*.md"),
        *(PROJECT / "docs").rglob("*.md"),
        *(PROJECT / "include" / "runbooks").rglob("*.md"),
    ]
    broken = []
    for page in pages:
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not (page.parent / link).exists():
                broken.append(f"{named(page)}: {link}")
    assert not broken
