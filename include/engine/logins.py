"""Begins to log in to live systems that take their time over it, beside whatever a command does next.

A node checks a password for about as long as Python loads what validates the inventory.  So the file is believed here, unread, in
which connection is whose.  What is wrong with either is told a moment later, by whoever reads them in earnest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from include.engine.contracts import Connections
from include.engine.errors import MainstayError
from include.engine.quick_yaml import LOADER

# Systems whose login takes long, and the modules with ``log_in``, which begins and does not wait.
_SLOW: Mapping[str, str] = {"cassandra": "include.engine.systems.cassandra.ahead"}


def begin(inventory: Path, connections: Connections, targets: Sequence[str]) -> None:
    """Begin to log in to the servers of *targets*, of all that the file *inventory* has when none is named."""
    try:
        document = yaml.load(inventory.read_text(encoding="utf-8"), Loader=LOADER)  # noqa: S506  # it is a safe one
    except (OSError, ValueError, yaml.YAMLError):
        return
    for system, connection in _named(document, targets):
        with suppress(MainstayError):
            import_module(_SLOW[system]).log_in(connections.get(connection))


def _named(document: Any, targets: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give systems and the names of connections, as far as what nobody has validated has any."""
    for system in _SLOW:
        section = document.get(system) if isinstance(document, dict) else None
        for name, settings in section.items() if isinstance(section, dict) else ():
            wanted = not targets or f"{system}/{name}" in targets
            if wanted and isinstance(settings, dict) and "connection" in settings:
                yield system, str(settings["connection"])
