"""Where the demo's inventory is.  Every command asks; what the demo is made of is loaded by those that start or stop it."""

from __future__ import annotations

from pathlib import Path

from include.engine.sandbox.home import Home
from include.engine.wiring import PROJECT

NAME = "demo"
INVENTORY = PROJECT / "include" / "config" / "inventory.yaml"


def existing_inventory() -> Path | None:
    """Give the inventory of the demo when it was made on this machine."""
    path = Home.of(PROJECT).root / "sandboxes" / NAME / "inventory.yaml"
    return path if path.exists() else None
