"""All commands, by section.  Client libraries, tables and pydantic are imported by the commands that need them:
``./mainstay --help`` answers at once, and a command does not wait for the others to be built."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import typer

from include.engine.cli.boundary import Boundary

_DEMO, _VERBS, _KEEPING, _PROJECT = "The demo", "Verbs", "What is kept", "The project"

# Each command: its module in this package, what it is called there, its section.
_COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "demo": ("demo", "demo", _DEMO),
    "up": ("demo", "up", _DEMO),
    "down": ("demo", "down", _DEMO),
    "status": ("demo", "status", _DEMO),
    "env": ("demo", "env", _DEMO),
    "sweep": ("sweep", "sweep", _VERBS),
    "checklist": ("checklist", "checklist", _VERBS),
    "backup": ("backup", "backup", _VERBS),
    "catalog": ("catalog", "catalog", _VERBS),
    "verify": ("verify", "verify", _VERBS),
    "restore": ("restore", "restore", _VERBS),
    "drill": ("drill", "drill", _VERBS),
    "mirror": ("mirror", "mirror", _VERBS),
    "failover": ("mirror", "failover", _VERBS),
    "stream": ("stream", "stream", _VERBS),
    "wal-archive": ("wal_archive", "wal_archive", _VERBS),
    "commit-log-archive": ("commit_log_archive", "commit_log_archive", _VERBS),
    "retention": ("retention", "retention", _KEEPING),
    "expire": ("retention", "expire", _KEEPING),
    "keep": ("retention", "keep", _KEEPING),
    "unkeep": ("retention", "unkeep", _KEEPING),
    "upkeep": ("upkeep", "upkeep", _KEEPING),
    "test": ("quality", "run_tests", _PROJECT),
    "check": ("quality", "check", _PROJECT),
}
_GROUPS: Mapping[str, tuple[str, str, str]] = {
    "sandbox": ("sandboxes", "sandboxes", _VERBS),
    "load": ("load", "load", _VERBS),
    "key": ("keys", "keys", _KEEPING),
    "evidence": ("evidence", "evidence", _KEEPING),
    "inventory": ("inventory", "inventory", _PROJECT),
}
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def build(only: str | None = None) -> typer.Typer:
    """Give the command line.

    :param only: the one command that will be asked for; all when it is None, or none that is known
    """
    made = typer.Typer(
        cls=Boundary,
        help="Restore the pipeline, not a database.",
        epilog="Exit codes: 0 pass, 1 fail or error, 2 not understood, 3 unverified.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    made.callback()(_no_options)  # or typer would take a command that is alone for the whole command line
    every = only not in _COMMANDS and only not in _GROUPS
    for name, (module, attribute, section) in _COMMANDS.items():
        if every or name == only:
            settings = _PASS_ON if name == "test" else None
            command = getattr(import_module(f"{__package__}.{module}"), attribute)
            made.command(name, rich_help_panel=section, context_settings=settings)(command)
    for name, (module, attribute, section) in _GROUPS.items():
        if every or name == only:
            group = getattr(import_module(f"{__package__}.{module}"), attribute)
            made.add_typer(group, name=name, rich_help_panel=section)
    return made


def _no_options() -> None:
    pass


def __getattr__(name: str) -> typer.Typer:
    """Give ``app``, with all commands, to whoever asks for it."""
    if name != "app":
        raise AttributeError(name)
    made = globals()["app"] = build()
    return made
