"""Only a table whose directories are as they were, on every node, is taken to have stood still."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from include.engine.systems.cassandra.stillness import Look, looking, read_look, still
from include.engine.systems.cassandra.transport import CommandTransport

T, U = (f"/d/ks/{name}-{'0' * 32}" for name in "tu")
OTHER_DISK = T.replace("/d/", "/e/")


def look(at: int = 100, busy: frozenset[str] = frozenset(), **changed: int) -> Look:
    return Look(
        at=at, changed={{"t": T, "u": U, "o": OTHER_DISK}[name]: time for name, time in changed.items()}, busy=busy
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (look(t=10, u=10), look(t=10, u=10), "tu"),
        (look(t=10, u=10), look(t=10, u=101), "t"),
        (look(t=98, u=10), look(t=98, u=10), "u"),
        (look(t=10, o=10), look(t=10, o=101), ""),
        (look(t=10), look(t=10, o=10), ""),
        (look(t=10), look(), ""),
        (look(t=10, u=10, busy=frozenset([T])), look(t=10, u=10), "u"),
        (look(t=10, u=10), look(t=10, u=10, busy=frozenset([U])), "t"),
    ],
    ids=[
        "nothing changed",
        "a file came",
        "changed a moment ago",
        "a file came on another disk",
        "a directory more",
        "a directory less",
        "files were being brought",
        "files are being taken away",
    ],
)
def test_tables_of_one_node(before: Look, after: Look, expected: str) -> None:
    assert still({"n1": before}, {"n1": after}) == {("ks", name) for name in expected}


def test_a_table_must_stand_still_on_every_node() -> None:
    quiet, busy = look(t=10), look(t=101)
    assert still({"n1": quiet, "n2": quiet}, {"n1": quiet, "n2": busy}) == set()
    assert still({"n1": quiet, "n2": quiet}, {"n1": quiet}) == set()
    assert still({"n1": quiet, "n2": look(u=10)}, {"n1": quiet, "n2": look(u=10)}) == set()
    assert still({}, {}) == set()


def test_directories_are_looked_at_on_the_node(tmp_path: Path) -> None:
    table = tmp_path / "it's data" / "ks" / f"t-{'0' * 32}"
    (table / "snapshots" / "tag").mkdir(parents=True)
    (table / "oa-1-big-Data.db").touch()
    os.utime(table, (1000, 1000))
    script = looking([str(tmp_path / "it's data"), "/nowhere"], ["ks", "none"])
    shell = CommandTransport("sh", ["sh", "-s"])

    def seen() -> Look:
        return read_look(shell.run(script, timeout=30))

    first = seen()
    assert first.changed == {str(table): 1000}
    assert still({"n": first}, {"n": seen()}) == {("ks", "t")}
    (table / "oa_txn_flush_1.log").touch()
    assert seen().busy == {str(table)}
    (table / "oa_txn_flush_1.log").unlink()
    assert still({"n": first}, {"n": seen()}) == set()
