"""Connections for the shell: from the environment, and for the demo's own inventory from the demo that is there."""

from __future__ import annotations

import os
from pathlib import Path

from include.engine import wiring
from include.engine.cli.whence import notice
from include.engine.contracts import Connection


class ShellConnections:
    """The environment first; what it lacks comes from the demo's sandbox, and that is said.

    Only the repository's own inventory, and what the demo made of it, describe the demo: another inventory never gets the
    demo's connections, or a forgotten variable would send a restore to the wrong servers.

    :param inventory: the inventory whose connections are asked for
    """

    def __init__(self, inventory: Path) -> None:
        self._environment = wiring.EnvironmentConnections()
        self._demo = _describes_the_demo(inventory)
        self._told = False

    def get(self, name: str) -> Connection:
        """Give the connection *name*.

        :raises Misconfigured: when neither has it
        """
        if self._demo and not os.environ.get(f"AIRFLOW_CONN_{name.upper()}"):
            from include.engine.cli.demo_sandbox import existing_connections
            from include.engine.connection_forms import parse

            value = existing_connections().get(name)
            if value is not None:
                self._tell()
                return parse(value, name)
        return self._environment.get(name)

    def _tell(self) -> None:
        if not self._told:
            notice("Using the connections of the demo (`./mainstay env` prints them)")
            self._told = True


def _describes_the_demo(inventory: Path) -> bool:
    from include.engine.cli.demo_place import INVENTORY, existing_inventory

    return inventory.resolve() in {INVENTORY.resolve(), existing_inventory()}
