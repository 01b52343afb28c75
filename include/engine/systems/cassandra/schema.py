"""A cluster's schema as CQL that can be run again: elsewhere, in part, and under another keyspace name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from include.engine.loading.naming import is_of_a_test
from include.engine.systems.cassandra.client import Cql, Node, quoted
from include.engine.systems.cassandra.threads import side_by_side

SYSTEM_KEYSPACES = frozenset(
    {
        "system",
        "system_auth",
        "system_distributed",
        "system_schema",
        "system_traces",
        "system_views",
        "system_virtual_schema",
        "system_cluster_metadata",
    }
)
_PROPERTIES = re.compile(r"^\) WITH ", re.MULTILINE)
_TABLE_ID = re.compile(r"\bID = [0-9a-f-]{36}\s+AND\s+")
# Strings, $$ bodies $$, quoted names, words, and everything else one character at a time.
_PIECES = re.compile(r"'(?:[^']|'')*'|\$\$.*?\$\$|\"(?:[^\"]|\"\")*\"|\w+|.", re.DOTALL)
_DROPPED = re.compile(r"^ALTER TABLE .+? DROP (\"(?:[^\"]|\"\")+\"|\w+) USING TIMESTAMP (\d+)$", re.DOTALL)
_ADDED = re.compile(r"^ALTER TABLE .+? ADD (.+)$", re.DOTALL)
_ORDER = re.compile(r"\bCLUSTERING ORDER BY \([^)]*\)")
_FIRST = ("keyspace", "type", "function", "aggregate", "table")
_AFTER_ROWS = ("index", "materialized_view")


class Statement(Struct, frozen=True, kw_only=True):
    """One thing of a schema, and the CQL that makes it."""

    keyspace: str
    type: str  # as DESCRIBE has it: keyspace, type, function, aggregate, table, index, materialized_view
    name: str
    cql: str


class Columns(Struct, frozen=True):
    """What decides which cells of an SSTable a table takes: its other properties do not matter to its rows.

    :param there: the definitions of its columns and keys
    :param dropped: when columns were dropped, in microseconds: the server takes no cell of theirs that is older, also of one that
        was added again
    """

    there: frozenset[str]
    dropped: frozenset[tuple[str, str]]


class Schema(Struct, frozen=True):
    """Keyspaces with all that is in them, in an order in which it can be made."""

    statements: tuple[Statement, ...]

    @property
    def keyspaces(self) -> tuple[str, ...]:
        """The names of the keyspaces."""
        return tuple(one.keyspace for one in self.statements if one.type == "keyspace")

    def tables(self, keyspace: str | None = None) -> list[tuple[str, str]]:
        """Keyspace and name of each table; views are none."""
        return self._named("table", keyspace)

    def views(self) -> list[tuple[str, str]]:
        """Keyspace and name of each materialised view."""
        return self._named("materialized_view", None)

    def indexes(self, keyspace: str, table: str) -> list[Statement]:
        """The indexes of one table."""
        # DESCRIBE quotes a name that is a word of CQL, too: both ways of writing it are the same table.
        on = re.compile(rf"\bON {_either(keyspace)}\.{_either(table)}\s*\(")
        return [one for one in self.statements if one.type == "index" and on.search(one.cql)]

    def derived(self, keyspace: str, table: str) -> list[Statement]:
        """What is built from the rows of one table: its indexes and its materialised views."""
        of = re.compile(rf"\bFROM {_either(keyspace)}\.{_either(table)}\s")
        views = [one for one in self.statements if one.type == "materialized_view" and of.search(one.cql)]
        return self.indexes(keyspace, table) + views

    def unlogged(self) -> list[str]:
        """Name the keyspaces with tables whose writes go to no commit log: `durable_writes = false`."""
        volatile = {one.keyspace for one in self.statements if one.type == "keyspace" and not _is_durable(one)}
        return sorted(volatile & {keyspace for keyspace, _ in self.tables()})

    def tableless(self) -> list[str]:
        """Name the keyspaces without a table: they may hold types and functions."""
        return sorted(set(self.keyspaces) - {keyspace for keyspace, _ in self.tables()})

    def only(self, tables: Iterable[tuple[str, str]], tableless: Iterable[str] = ()) -> Schema:
        """Give the part for some tables, with what is derived from them, and for some keyspaces without any.

        Each brings its keyspace along, with the keyspace's types and functions.
        """
        kept = set(tables)
        chosen = {keyspace for keyspace, _ in kept} | set(tableless)
        derived = {id(one) for keyspace, table in kept for one in self.derived(keyspace, table)}
        return Schema(
            tuple(
                one
                for one in self.statements
                if (one.keyspace in chosen and one.type in ("keyspace", "type", "function", "aggregate"))
                or (one.type == "table" and (one.keyspace, one.name) in kept)
                or id(one) in derived
            )
        )

    def renamed(self, names: Mapping[str, str]) -> Schema:
        """Give the schema with keyspaces renamed: *names* maps old to new."""
        return Schema(
            tuple(
                Statement(
                    keyspace=names.get(one.keyspace, one.keyspace),
                    type=one.type,
                    name=names.get(one.keyspace, one.keyspace) if one.type == "keyspace" else one.name,
                    cql=_renamed(one, names),
                )
                for one in self.statements
            )
        )

    def before_rows(self) -> list[Statement]:
        """What must be there before rows can come: keyspaces, types, functions, tables."""
        return [one for kind in _FIRST for one in self.statements if one.type == kind]

    def after_rows(self) -> list[Statement]:
        """What is built from rows: indexes and views.  Loading would fail on some of them, and is quicker without all."""
        return [one for kind in _AFTER_ROWS for one in self.statements if one.type == kind]

    def fingerprint(self) -> str:
        """A digest by which a change is noticed."""
        text = "\n".join(sorted(f"{one.type} {one.keyspace} {one.name} {one.cql}" for one in self.statements))
        return hashlib.sha256(text.encode()).hexdigest()

    def text(self) -> str:
        """All of it as a file for ``cqlsh -f``."""
        return "\n\n".join(one.cql for one in (*self.before_rows(), *self.after_rows())) + "\n"

    def _named(self, kind: str, keyspace: str | None) -> list[tuple[str, str]]:
        return [(s.keyspace, s.name) for s in self.statements if s.type == kind and keyspace in (None, s.keyspace)]


def read_schema(cql: Cql, keyspaces: Sequence[str], *, at: Node | None = None) -> Schema:
    """Ask for the schema of *keyspaces*, with what only the server knows: dropped columns and when they were dropped.

    Table ids are left out: a table that is made again is another table.
    """
    described = side_by_side(
        lambda keyspace: cql.rows(f"DESCRIBE KEYSPACE {quoted(keyspace)} WITH INTERNALS", at=at), keyspaces, at_once=8
    )
    return Schema(
        tuple(
            Statement(
                keyspace=_plain(row["keyspace_name"]),
                type=row["type"],
                name=_plain(row["name"]),
                cql=_TABLE_ID.sub("", row["create_statement"]),
            )
            for rows in described
            for row in rows
        )
    )


def user_keyspaces(cql: Cql, *, at: Node | None = None) -> list[str]:
    """Name all keyspaces that are neither the system's nor a load test's, which is gone before a copy of it is made.

    :param at: the node that is asked; any when it is None
    """
    names = (row["keyspace_name"] for row in cql.rows("SELECT keyspace_name FROM system_schema.keyspaces", at=at))
    return sorted(name for name in names if name not in SYSTEM_KEYSPACES and not is_of_a_test(name))


def commands(statement: Statement) -> list[str]:
    """Split a statement's CQL into what can be sent one by one: a table may bring its dropped columns along."""
    parts: list[str] = [""]
    for piece in _PIECES.findall(statement.cql):
        if piece == ";" and statement.type not in ("function", "aggregate"):
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts if part.strip()]


def columns_of(statement: Statement) -> Columns:
    """Read the columns of a table that was described with what only the server knows.

    A dropped column is listed among the others, and dropped by a command behind; one that was added again is added behind that.
    """
    made, *altered = commands(statement)
    listed = [line.strip().rstrip(",") for line in _PROPERTIES.split(made, maxsplit=1)[0].splitlines()]
    dropped = {(found[1], found[2]) for found in map(_DROPPED.match, altered) if found}
    added = {found[1] for found in map(_ADDED.match, altered) if found}
    there = {line for line in listed if not any(line.startswith(f"{name} ") for name, _ in dropped)}
    return Columns(frozenset({*there, *added, *_ORDER.findall(made)}), frozenset(dropped))


def with_id(statement: Statement, table_id: str | None) -> Statement:
    """Give a table's statement so that it makes the table with this id."""
    if statement.type != "table" or table_id is None:
        return statement
    made = _PROPERTIES.sub(f") WITH ID = {table_id} AND ", statement.cql, count=1)
    return msgspec.structs.replace(statement, cql=made)


def with_replication(statement: Statement, replication: Mapping[str, int]) -> str:
    """Give the CQL that makes a keyspace with *replication*: copies by datacenter."""
    copies = ", ".join(f"'{name}': {count}" for name, count in sorted(replication.items()))
    return (
        f"CREATE KEYSPACE IF NOT EXISTS {quoted(statement.keyspace)} WITH replication ="
        f" {{'class': 'NetworkTopologyStrategy', {copies}}} AND durable_writes = {str(_is_durable(statement)).lower()}"
    )


def replication_of(statement: Statement) -> dict[str, int]:
    """Read how many copies a keyspace has, by datacenter; under ``*`` when it says so for all together."""
    found = dict(re.findall(r"'([^']+)': '?(\d+)", statement.cql.partition("}")[0]))
    if "replication_factor" in found:
        return {"*": int(found["replication_factor"])}
    return {name: int(count) for name, count in found.items()}


def fitted(wanted: Mapping[str, int], nodes: Mapping[str, int]) -> dict[str, int]:
    """Fit replication to a ring: *nodes* counts them by datacenter.  Copies beyond the nodes there are would only block.

    Datacenters that the ring has keep their number; a ring with none of them gets the largest in each of its own.
    """
    if set(wanted) & set(nodes):
        return {name: min(count, nodes[name]) for name, count in wanted.items() if name in nodes}
    largest = max(wanted.values(), default=1)
    return {name: min(largest, count) for name, count in nodes.items()}


def _is_durable(statement: Statement) -> bool:
    return not re.search(r"\bdurable_writes = false\b", statement.cql)


def _renamed(statement: Statement, names: Mapping[str, str]) -> str:
    if not names:
        return statement.cql
    pieces = _PIECES.findall(statement.cql)
    found = []
    for number, piece in enumerate(pieces):
        new = None if piece[0] in "'$" else names.get(_plain(piece))
        qualifies = number + 1 < len(pieces) and pieces[number + 1] == "."
        is_itself = statement.type == "keyspace" and "".join(pieces[:number]).split()[-1:] == ["KEYSPACE"]
        found.append(_cql_name(new) if new is not None and (qualifies or is_itself) else piece)
    return "".join(found)


def _cql_name(name: str) -> str:
    """Write a name as DESCRIBE does: quoted only when it must be."""
    return name if re.fullmatch(r"[a-z][a-z0-9_]*", name) else quoted(name)


def _either(name: str) -> str:
    return f"(?:{re.escape(name)}|{re.escape(quoted(name))})"


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
