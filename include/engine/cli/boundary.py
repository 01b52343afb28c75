"""Where errors end and signals begin: one block instead of a traceback, exit codes, and a Stop for every verb.

``MAINSTAY_DEBUG=1`` shows the traceback.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from include.engine.cli.redaction import redacted
from include.engine.contracts import Stop
from include.engine.errors import Interrupted, MainstayError, PermanentError, TransientError

AS_JSON = "include.engine.cli.as_json"  # in the context's meta, which all commands of one call share
FAILED = 1


class Boundary(TyperGroup):
    """The root command.  No error passes it as a traceback, and none changes the exit codes that are promised."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (MainstayError, KeyboardInterrupt) as error:
            if _debugging():
                raise
            tell(_ours(error), as_json=bool(ctx.meta.get(AS_JSON)))
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise  # typer's own, and a reader that closed the pipe
        except Exception as error:
            if _debugging() or _is_usage(error):
                raise
            tell(_unexpected(error), as_json=bool(ctx.meta.get(AS_JSON)))
        raise typer.Exit(FAILED)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands by section, without the cost of importing a table library for ``--help``."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                section = getattr(command, "rich_help_panel", None)
                title = section if isinstance(section, str) else "Commands"
                sections.setdefault(title, []).append((name, command.get_short_help_str(limit=90)))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def tell(error: MainstayError, *, as_json: bool) -> None:
    """Show *error* as one block on standard error; with *as_json* also as the JSON document that machines wait for."""
    message, hint = redacted(error.message), redacted(error.hint)
    if as_json:
        document = {
            "kind": type(error).__name__,
            "message": message,
            "hint": hint,
            "retry": isinstance(error, TransientError),
        }
        print(json.dumps({"error": document}, indent=2))
    again = (
        " (trying again may help)" if isinstance(error, TransientError) and not isinstance(error, Interrupted) else ""
    )
    print(f"\nerror: {message}{again}", file=sys.stderr)
    if hint:
        print("hint:  " + hint.replace("\n", "\n       "), file=sys.stderr)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Give a Stop that SIGINT and SIGTERM pull; a second signal ends the process at once.

    What a killed process leaves behind is found later by name: sandboxes are swept, uploads are no backups.
    """
    stop = Stop()

    def asked(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.stopped:
            os._exit(128 + number)
        print(f"\n{name}: stopping in good order; once more kills", file=sys.stderr, flush=True)
        # In a thread: the code that was interrupted may hold the lock that stop() needs.
        threading.Thread(target=stop.stop, args=(f"by {name}",), name="stop").start()

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ours(error: MainstayError | KeyboardInterrupt) -> MainstayError:
    if isinstance(error, MainstayError):
        return error
    return Interrupted("stopped: by SIGINT", hint="run it again: what was done is found by its name")


def _unexpected(error: Exception) -> MainstayError:
    first = str(error).strip().split("\n", 1)[0][:500]
    return PermanentError(
        f"{type(error).__name__}: {first}" if first else type(error).__name__,
        hint="Mainstay did not expect this; MAINSTAY_DEBUG=1 shows where it happened, please report it",
    )


def _is_usage(error: Exception) -> bool:
    # typer brings its own copy of click, whose exceptions have no public name: they carry how to show themselves.
    return hasattr(error, "exit_code") and hasattr(error, "show")


def _debugging() -> bool:
    return os.environ.get("MAINSTAY_DEBUG", "") not in ("", "0")
