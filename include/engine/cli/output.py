"""What a command says on standard output: tables for people, or exactly one JSON document for machines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from include.engine.cli.boundary import AS_JSON
from include.engine.model import Check, Verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.UNVERIFIED: "yellow"}
_WIDE = 200  # columns, when nobody looks: a table in a file or a pipe is not folded


def _noted(context: typer.Context, value: bool) -> bool:
    context.meta[AS_JSON] = value
    return value


Json = Annotated[
    bool,
    typer.Option("--json", help="print one JSON document, for machines", callback=_noted, is_eager=True),
]


def emit_json(document: Any) -> None:
    """Print *document*, a Struct or what JSON can carry, as the one JSON document of this call."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")
    sys.stdout.flush()


def load_ahead() -> None:
    """Begin to load the table library, for a command that waits for servers before it has something to show."""

    def load() -> None:
        import rich.console
        import rich.table  # noqa: F401

    threading.Thread(target=load, name="import", daemon=True).start()


def show(*parts: RenderableType) -> None:
    """Print *parts* for people."""
    screen = console()
    for part in parts:
        screen.print(part)


def console() -> Console:
    """A console on standard output, as it is now."""
    from rich.console import Console

    # What a name has between two colons is no picture; the list of those takes longer to load than most tables to draw.
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> RenderableType:
    """Lay *rows* out below *columns*; a column whose name begins with ``>`` is of numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    laid = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        laid.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        laid.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return laid


def coloured(verdict: Verdict) -> RenderableType:
    """Write a verdict in its colour."""
    from rich.text import Text

    return Text(str(verdict), style=_COLOURS[verdict])


def checks_table(checks: Iterable[Check], *, title: str | None = None) -> RenderableType:
    """Lay out checks: what was looked at, the verdict, what was seen."""
    return table(
        ("check", "verdict", "seen", ">s"),
        [(check.name, coloured(check.verdict), check.detail, f"{check.seconds:.1f}") for check in checks],
        title=title,
    )


def leave(verdict: Verdict) -> None:
    """End the command with the exit code of *verdict*."""
    raise typer.Exit(verdict.exit_code)
