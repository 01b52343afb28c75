"""The demo's inventory: the repository's, with what only this machine knows, and the connections that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from include.engine.cli import demo_load
from include.engine.contracts import Connection
from include.engine.errors import PermanentError

_HEADER = "# Written by `./mainstay up` from include/config/inventory.yaml: change that one.\n"


class DemoConnections:
    """The demo's connections by name, whatever the environment says."""

    def __init__(self, known: Mapping[str, Connection], inventory: Path) -> None:
        self._known, self._inventory = known, inventory

    def get(self, name: str) -> Connection:
        """Give one.

        :raises PermanentError: the demo has none of that name
        """
        try:
            return self._known[name]
        except KeyError:
            raise PermanentError(
                f"the demo has no connection {name}",
                hint=f"use {self._inventory} as it is, or run `./mainstay up` with your own",
            ) from None


def write_inventory(
    path: Path,
    base: Path,
    settings: Mapping[str, Mapping[str, Any]],
    left_out: Sequence[str] = (),
    *,
    sandbox: Path,
    cassandra_nodes: int,
    kafka_brokers: int,
) -> None:
    """Write the demo's inventory: *base* with *settings*, by target, added, and without the targets *left_out*.

    :param sandbox: of the demo, whose servers the sweep looks at
    :param cassandra_nodes: how many there are, each with a copy
    :param kafka_brokers: how many there are
    """
    document = yaml.safe_load(base.read_text(encoding="utf-8"))
    for target, added in settings.items():
        system, _, name = target.partition("/")
        document[system][name] |= added
    for target in left_out:
        system, _, name = target.partition("/")
        del document[system][name]
        if not document[system]:
            del document[system]  # a system without a target is a mistake
    document["sweep"]["hosts"]["worker"]["sandbox"] = str(sandbox)
    document["expect"]["cassandra"] |= {"nodes": cassandra_nodes, "replication_factor": cassandra_nodes}
    document["expect"]["kafka"]["brokers"] = kafka_brokers
    if kafka_brokers > 1:
        del document["expect"]["kafka"]["partitions_per_broker"]  # what a mirror keeps for itself has one partition
    demo_load.allow(document)
    draft = path.with_suffix(".draft")
    draft.write_text(_HEADER + yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    draft.replace(path)  # Airflow may be reading it
