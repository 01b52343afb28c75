"""What a restore takes and how it gets there is decided before anything is touched."""

from __future__ import annotations

import msgspec
import pytest

from include.engine.errors import Contended, Misconfigured, NotFound, Refused, Unsupported
from include.engine.model import Entry
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.schema import Schema, Statement
from include.engine.systems.cassandra.selection import (
    Method,
    StoredFile,
    choose_method,
    require_readable,
    require_ring,
    require_taken,
    select,
)

SCHEMA = Schema(
    tuple(
        Statement(keyspace=keyspace, type="table", name=table, cql="")
        for keyspace, table in [("a", "one"), ("a", "two"), ("b", "one")]
    )
)


def node(host_id: str, *tokens: str) -> Node:
    return Node(host_id=host_id, address="", datacenter="dc1", rack="r", version="5.0.9", tokens=tokens)


def stored(name: str) -> StoredFile:
    entry = Entry(name=name, key="k", bytes=1, sha256="0" * 64)
    return StoredFile(entry=entry, host_id="h", keyspace="a", table="one", name=name)


@pytest.mark.parametrize(
    ("only", "expected"),
    [([], 3), (["a"], 2), (["a.one"], 1), (["a.one", "b"], 2)],
    ids=["all", "a keyspace", "a table", "both"],
)
def test_parts_are_keyspaces_or_tables(only: list[str], expected: int) -> None:
    assert len(select(SCHEMA, only, {}).tables) == expected


def test_every_unknown_part_is_named() -> None:
    with pytest.raises(NotFound, match=r"c, a\.three, d"):
        select(SCHEMA, ["c", "a.three"], {"d": "e"})


@pytest.mark.parametrize("rename", [{"a": "b"}, {"a": "system_auth"}], ids=["another's name", "the system's"])
def test_a_name_that_is_taken_is_refused(rename: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="is taken"):
        select(SCHEMA, [], rename)


def test_a_restore_is_refused_when_a_node_that_had_files_has_left_the_ring_since_it_was_planned() -> None:
    files = [msgspec.structs.replace(stored("a"), host_id=host_id) for host_id in ("x", "y", "z")]
    require_taken(files, ["x", "y", "z", "of nobody"])
    with pytest.raises(Refused, match="nobody takes the files of the node y, z") as told:
        require_taken(files, ["x", "in the place of y"])
    assert "plan the restore again" in told.value.hint


@pytest.mark.parametrize(
    ("now", "reachable", "expected"),
    [
        ([node("x", "1"), node("y", "2")], True, Method.IMPORT),
        ([node("x", "1"), node("y", "2")], False, Method.LOADER),
        ([node("x", "1"), node("y", "3")], True, Method.LOADER),
        ([node("x", "1"), node("z", "2")], True, Method.LOADER),
        ([node("z", "9")], True, Method.IMPORT),
        ([node("z", "9")], False, Method.LOADER),
    ],
    ids=["the same ring", "out of reach", "a token moved", "a node replaced", "one node owns all", "one out of reach"],
)
def test_the_method_follows_the_topology(now: list[Node], reachable: bool, expected: Method) -> None:
    assert choose_method([node("x", "1"), node("y", "2")], now, reachable=reachable) is expected


@pytest.mark.parametrize(
    ("name", "version"),
    [("oa-1-big-Data.db", "4.1.5"), ("da-1-bti-Data.db", "4.1.5"), ("zz-1-big-Data.db", "5.0.9")],
    ids=["5.0 into 4.1", "bti into 4.1", "from the future"],
)
def test_a_server_older_than_the_sstables_is_refused(name: str, version: str) -> None:
    with pytest.raises(Unsupported, match="cannot read"):
        require_readable([stored(name)], ["5.0.9", version])


def test_older_sstables_are_read_by_newer_servers() -> None:
    require_readable([stored("nb-1-big-Data.db"), stored("oa-1-big-Data.db")], ["5.0.9"])


def test_keyspaces_without_tables_are_taken_when_everything_is_or_they_are_named() -> None:
    bare = Schema((*SCHEMA.statements, Statement(keyspace="c", type="keyspace", name="c", cql="")))
    assert select(bare, [], {}).tableless == ("c",)
    assert select(bare, ["a"], {}).tableless == ()
    named = select(bare, ["c"], {"c": "d"})
    assert (named.tables, named.tableless, named.keyspaces) == ((), ("c",), ("c",))


def test_a_keyspace_that_got_more_copies_since_is_loaded_and_not_imported() -> None:
    ring = [node("a", "1"), node("b", "2")]
    assert choose_method(ring, ring, reachable=True, placed_alike=True) is Method.IMPORT
    assert choose_method(ring, ring, reachable=True, placed_alike=False) is Method.LOADER
    assert choose_method(ring, ring[:1], reachable=True, placed_alike=False) is Method.IMPORT


def test_an_import_is_refused_when_the_ring_is_not_the_one_that_was_backed_up() -> None:
    then = [node("x", "1"), node("y", "2")]
    require_ring(Method.IMPORT, then, then, then, placed_alike=True)
    alone = [node("z", "9")]
    require_ring(Method.IMPORT, then, alone, alone, placed_alike=False)  # it takes the files of all
    joined = msgspec.structs.replace(node("new", "3"), address="10.0.0.9")
    with pytest.raises(Refused, match=r"planned for, 10\.0\.0\.9 has joined it") as told:
        require_ring(Method.IMPORT, then, then, [*then, joined], placed_alike=True)
    assert "plan the restore again" in told.value.hint
    with pytest.raises(Refused):  # a retry that sees the newcomer from its beginning on
        require_ring(Method.IMPORT, then, [*then, joined], [*then, joined], placed_alike=True)
    with pytest.raises(Refused):  # by now there are more copies than then
        require_ring(Method.IMPORT, then, then, then, placed_alike=False)
    with pytest.raises(Refused):
        require_ring(Method.IMPORT, then, alone, [*alone, joined], placed_alike=True)


def test_a_ring_that_changes_while_files_are_fetched_for_sstableloader_is_begun_with_anew() -> None:
    then, first = [node("x", "1")], [node("a", "1"), node("b", "2")]
    require_ring(Method.LOADER, then, first, first, placed_alike=False)
    for now in ([*first, node("c", "3")], first[:1], [first[0], node("b", "5")]):
        with pytest.raises(Contended, match="has changed while files were fetched"):
            require_ring(Method.LOADER, then, first, now, placed_alike=False)
