"""What is derived from rows comes back with them: views and indexes, whether they were there or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from include.engine.errors import PermanentError
from include.engine.model import Verdict
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.sstableloader import Loader
from tests.integration.cassandra.estate import Estate, rows

pytestmark = pytest.mark.integration


@pytest.fixture
def table(keyspace: str, cql: Cql) -> str:
    """A table of 60 rows with a view and an SAI index."""
    name = f"{keyspace}.t"
    cql.rows(f"CREATE TABLE {name} (k int PRIMARY KEY, v int, w text)")
    cql.rows(
        f"CREATE MATERIALIZED VIEW {keyspace}.by_v AS SELECT * FROM {name}"
        " WHERE v IS NOT NULL AND k IS NOT NULL PRIMARY KEY (v, k)"
    )
    cql.rows(f"CREATE INDEX by_w ON {name} (w) USING 'sai'")
    cql.many(f"INSERT INTO {name} (k, v, w) VALUES (?, ?, ?)", [(n, n % 7, f"w{n % 5}") for n in range(60)])
    return name


@pytest.fixture
def copy(keyspace: str, cql: Cql) -> Iterator[str]:
    """The name of a keyspace to restore under."""
    name = f"{keyspace}_x"
    yield name
    cql.rows(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)


@pytest.fixture
def bare(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How to ask for a restore that reaches the nodes by the network alone: sstableloader is left then."""
    connection = msgspec.structs.replace(estate.server.connection(), extra={})
    uri = msgspec.json.encode({"conn_type": "cassandra", **msgspec.to_builtins(connection)}).decode()
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", uri)
    return {"server": "elsewhere", "pipeline": estate.bare()}


def indexed(cql: Cql, table: str) -> int:
    return len(cql.rows(f"SELECT k FROM {table} WHERE w = 'w3'"))


def test_views_come_back_under_another_name_and_are_part_of_what_is_compared(
    estate: Estate, table: str, keyspace: str, copy: str, cql: Cql
) -> None:
    estate.backup(keyspaces=[keyspace])
    restored = estate.restore(rename={keyspace: copy})
    assert restored.verdict is Verdict.PASS, restored.checks
    assert rows(cql, f"{copy}.by_v") == rows(cql, f"{keyspace}.by_v") != []
    schema = next(check for check in restored.checks if check.name == "schema")
    assert schema.detail.startswith("4 "), schema.detail  # the keyspace, its table, its index and its view


def test_a_view_that_is_there_shows_the_rows_that_came_back(
    estate: Estate, table: str, keyspace: str, cql: Cql
) -> None:
    estate.backup(keyspaces=[keyspace])
    then = rows(cql, f"{keyspace}.by_v")
    cql.rows(f"UPDATE {table} SET v = 1000 WHERE k = 1")
    cql.rows(
        f"CREATE MATERIALIZED VIEW {keyspace}.later AS SELECT * FROM {table}"
        " WHERE w IS NOT NULL AND k IS NOT NULL PRIMARY KEY (w, k)"
    )
    restored = estate.restore(confirm="cassandra_admin")
    assert restored.verdict is Verdict.PASS, restored.checks
    assert rows(cql, f"{keyspace}.by_v") == then
    assert len(rows(cql, f"{keyspace}.later")) == 60  # the backup does not know it


def test_views_come_back_by_sstableloader(
    estate: Estate, table: str, keyspace: str, copy: str, cql: Cql, bare: dict[str, Any]
) -> None:
    estate.backup(keyspaces=[keyspace])
    restored = estate.restore(rename={keyspace: copy}, **bare)
    assert restored.detail["method"] == "sstableloader"
    assert restored.verdict is Verdict.PASS, restored.checks
    assert rows(cql, f"{copy}.by_v") == rows(cql, f"{keyspace}.by_v") != []


def test_one_table_brings_only_its_own_views(estate: Estate, table: str, keyspace: str, copy: str, cql: Cql) -> None:
    cql.rows(f"CREATE TABLE {keyspace}.other (k int PRIMARY KEY)")
    cql.rows(f"INSERT INTO {keyspace}.other (k) VALUES (1)")
    estate.backup(keyspaces=[keyspace])
    estate.restore(rename={keyspace: copy}, only=[f"{keyspace}.other"])
    assert cql.rows("SELECT view_name FROM system_schema.views WHERE keyspace_name = %s", [copy]) == []


def test_a_keyspace_with_types_alone_comes_back(estate: Estate, table: str, keyspace: str, copy: str, cql: Cql) -> None:
    types = f"{keyspace}_types"
    cql.rows(f"CREATE KEYSPACE {types} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}}")
    try:
        cql.rows(f"CREATE TYPE {types}.place (street text)")
        estate.backup(keyspaces=[keyspace, types])
        cql.rows(f"DROP KEYSPACE {types}", timeout=60)
        restored = estate.restore(rename={keyspace: copy}, confirm="cassandra_admin")
        assert restored.verdict is Verdict.PASS, restored.checks
        found = cql.rows("SELECT type_name FROM system_schema.types WHERE keyspace_name = %s", [types])
        assert [row["type_name"] for row in found] == ["place"]
    finally:
        cql.rows(f"DROP KEYSPACE IF EXISTS {types}", timeout=60)


def test_an_index_made_after_the_backup_is_there_again_after_sstableloader(
    estate: Estate, table: str, keyspace: str, cql: Cql, bare: dict[str, Any]
) -> None:
    estate.backup(keyspaces=[keyspace])
    cql.rows(f"CREATE INDEX later ON {table} (v) USING 'sai'")
    estate.restore(append=True, confirm="elsewhere", **bare)
    assert len(cql.rows(f"SELECT k FROM {table} WHERE v = 3")) == sum(n % 7 == 3 for n in range(60))
    assert indexed(cql, table) == 12


def test_indexes_are_there_again_when_loading_fails(
    estate: Estate, table: str, keyspace: str, cql: Cql, bare: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    estate.backup(keyspaces=[keyspace])

    def fails(*_: object, **__: object) -> None:
        raise PermanentError("the loader fails", hint="it is a test")

    monkeypatch.setattr(Loader, "load", fails)
    with pytest.raises(PermanentError, match="the loader fails"):
        estate.restore(append=True, confirm="elsewhere", **bare)
    names = {
        row["index_name"]
        for row in cql.rows("SELECT index_name FROM system_schema.indexes WHERE keyspace_name = %s", [keyspace])
    }
    assert names == {"by_w"}
