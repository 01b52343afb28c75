"""Logins begin before the inventory is read in earnest, and what is wrong is told by whoever does that."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine import logins
from include.engine.contracts import Connection
from include.engine.errors import Misconfigured
from include.engine.systems.cassandra import ahead

INVENTORY = """
pipeline: shop
store: {url: s3://backups/shop}
postgres: {main: {connection: postgres_main}}
cassandra: {one: {connection: first}, two: {connection: second}, lost: {connection: undefined}}
"""


class Known:
    """The connections ``first`` and ``second``."""

    def get(self, name: str) -> Connection:
        if name not in ("first", "second"):
            raise Misconfigured(f"the connection {name} is not defined", hint="define it")
        return Connection(host=name)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that a login was begun to."""
    hosts: list[str] = []
    monkeypatch.setattr(ahead, "log_in", lambda connection: hosts.append(connection.host))
    return hosts


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    file = tmp_path / "inventory.yaml"
    file.write_text(INVENTORY)
    return file


def test_all_are_logged_in_to_when_no_target_is_named(begun: list[str], inventory: Path) -> None:
    logins.begin(inventory, Known(), [])
    assert begun == ["first", "second"]


def test_only_the_targets_that_are_named_are_logged_in_to(begun: list[str], inventory: Path) -> None:
    logins.begin(inventory, Known(), ["cassandra/two", "postgres/main"])
    assert begun == ["second"]


@pytest.mark.parametrize(
    "text", ["", "[1, 2", "- a list", "cassandra: [one]", "cassandra: {one: first}", "cassandra: {one: {}}"]
)
def test_what_is_no_inventory_is_left_to_whoever_reads_it_in_earnest(
    begun: list[str], inventory: Path, text: str
) -> None:
    inventory.write_text(text)
    logins.begin(inventory, Known(), [])
    logins.begin(inventory.with_name("nowhere.yaml"), Known(), [])
    assert begun == []
