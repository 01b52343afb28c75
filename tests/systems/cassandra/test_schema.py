"""A schema can be made again: elsewhere, in part, under other names."""

from __future__ import annotations

import pytest

from include.engine.systems.cassandra.schema import (
    Schema,
    Statement,
    columns_of,
    commands,
    fitted,
    replication_of,
    with_replication,
)


def statement(kind: str, name: str, cql: str, keyspace: str = "shop") -> Statement:
    return Statement(keyspace=keyspace, type=kind, name=name, cql=cql)


SHOP = Schema(
    (
        statement(
            "keyspace",
            "shop",
            "CREATE KEYSPACE shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': '3', 'shop': '2'};",
        ),
        statement("type", "place", "CREATE TYPE shop.place (street text);"),
        statement(
            "table",
            "orders",
            "CREATE TABLE shop.orders (id int PRIMARY KEY, shop text, at frozen<place>) WITH comment = 'in shop.orders; yes';",
        ),
        statement("table", "items", "CREATE TABLE shop.items (id int PRIMARY KEY);"),
        statement("index", "by_shop", "CREATE INDEX by_shop ON shop.orders (shop);"),
        statement(
            "function",
            "f",
            "CREATE FUNCTION shop.f(a int) CALLED ON NULL INPUT RETURNS int LANGUAGE java AS $$ shop.g(); return a; $$;",
        ),
    )
)


def test_a_keyspace_is_renamed_where_it_is_a_keyspace_and_nowhere_else() -> None:
    renamed = {one.name: one.cql for one in SHOP.renamed({"shop": "Shop 2"}).statements}
    assert renamed["Shop 2"].startswith('CREATE KEYSPACE "Shop 2" WITH')
    assert "'shop': '2'" in renamed["Shop 2"]
    assert renamed["orders"].startswith('CREATE TABLE "Shop 2".orders (id int PRIMARY KEY, shop text')
    assert "comment = 'in shop.orders; yes'" in renamed["orders"]
    assert renamed["by_shop"] == 'CREATE INDEX by_shop ON "Shop 2".orders (shop);'
    assert "$$ shop.g(); return a; $$" in renamed["f"]


def test_one_table_brings_its_types_and_indexes_along() -> None:
    part = SHOP.only(tables=[("shop", "orders")])
    assert [one.name for one in part.statements] == ["shop", "place", "orders", "by_shop", "f"]


def test_a_table_brings_its_views_along_and_no_others() -> None:
    view = (
        "CREATE MATERIALIZED VIEW shop.{} AS\n    SELECT *\n    FROM {}\n    WHERE id IS NOT NULL\n PRIMARY KEY (id);"
    )
    with_views = Schema(
        (
            *SHOP.statements,
            statement("materialized_view", "mine", view.format("mine", "shop.orders")),
            statement("materialized_view", "quoted", view.format("quoted", 'shop."orders"')),
            statement("materialized_view", "others", view.format("others", "shop.items")),
        )
    )
    assert [one.name for one in with_views.derived("shop", "orders")] == ["by_shop", "mine", "quoted"]
    names = {one.name for one in with_views.only(tables=[("shop", "orders")]).statements}
    assert {"mine", "quoted"} <= names
    assert "others" not in names


def test_a_keyspace_without_tables_is_kept_when_it_is_asked_for() -> None:
    bare = statement("keyspace", "bare", "CREATE KEYSPACE bare;", keyspace="bare")
    its_type = statement("type", "t", "CREATE TYPE bare.t (a int);", keyspace="bare")
    whole = Schema((*SHOP.statements, bare, its_type))
    assert whole.tableless() == ["bare"]
    assert [one.name for one in whole.only([], ["bare"]).statements] == ["bare", "t"]
    assert "bare" not in whole.only([("shop", "items")]).keyspaces


def test_indexes_and_views_come_after_the_rows() -> None:
    assert [one.type for one in SHOP.before_rows()] == ["keyspace", "type", "function", "table", "table"]
    assert [one.name for one in SHOP.after_rows()] == ["by_shop"]


def test_a_table_brings_its_dropped_columns_as_commands_of_their_own() -> None:
    table = statement(
        "table", "t", "CREATE TABLE shop.t (id int, z int) WITH comment = 'a;b';\nALTER TABLE shop.t DROP z USING TIMESTAMP 1;"
    )  # fmt: skip
    assert commands(table) == [
        "CREATE TABLE shop.t (id int, z int) WITH comment = 'a;b'",
        "ALTER TABLE shop.t DROP z USING TIMESTAMP 1",
    ]
    assert len(commands(SHOP.statements[-1])) == 1


@pytest.mark.parametrize(
    ("wanted", "nodes", "expected"),
    [
        ({"dc1": 3}, {"dc1": 3}, {"dc1": 3}),
        ({"dc1": 3}, {"dc1": 1}, {"dc1": 1}),
        ({"dc1": 3, "dc2": 2}, {"dc1": 5}, {"dc1": 3}),
        ({"east": 3}, {"dc1": 1}, {"dc1": 1}),
        ({"*": 2}, {"dc1": 4}, {"dc1": 2}),
    ],
    ids=["the same ring", "a smaller ring", "a datacenter less", "other names", "SimpleStrategy"],
)
def test_copies_fit_the_ring(wanted: dict[str, int], nodes: dict[str, int], expected: dict[str, int]) -> None:
    assert fitted(wanted, nodes) == expected


def test_replication_is_read_and_written() -> None:
    assert replication_of(SHOP.statements[0]) == {"dc1": 3, "shop": 2}
    simple = statement(
        "keyspace", "shop", "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': '2'};"
    )  # fmt: skip
    assert replication_of(simple) == {"*": 2}
    assert "'dc1': 1" in with_replication(SHOP.statements[0], {"dc1": 1})
    assert "durable_writes = true" in with_replication(SHOP.statements[0], {"dc1": 1})
    fleeting = statement("keyspace", "shop", "CREATE KEYSPACE shop WITH replication = {} AND durable_writes = false;")
    assert "durable_writes = false" in with_replication(fleeting, {"dc1": 1})


def test_a_change_shows_in_the_fingerprint() -> None:
    assert SHOP.fingerprint() != SHOP.only(tables=[("shop", "orders")]).fingerprint()


# As Cassandra 5.0.9 describes it.
DESCRIBED = """CREATE TABLE shop.t (
    k int,
    c int,
    a text,
    "On" frozen<map<int, text>>,
    PRIMARY KEY (k, c)
) WITH CLUSTERING ORDER BY (c ASC)
    AND comment = ''
    AND gc_grace_seconds = 864000;"""
_DROP = '\nALTER TABLE shop.t DROP "On" USING TIMESTAMP {};'
_ADD = '\nALTER TABLE shop.t ADD "On" frozen<map<int, text>>;'


@pytest.mark.parametrize(
    ("cql", "same"),
    [
        (DESCRIBED, True),
        (DESCRIBED.replace("864000", "60").replace("comment = ''", "comment = 'ALTER TABLE shop.t DROP a'"), True),
        (DESCRIBED + _DROP.format(5), False),
        (DESCRIBED + _DROP.format(5) + _ADD, False),
        (DESCRIBED.replace("a text", "a int"), False),
        (DESCRIBED.replace("(k, c)", "((k, c))"), False),
        (DESCRIBED.replace("c ASC", "c DESC"), False),
    ],
    ids=["the same", "another property", "dropped", "added again", "another type", "another key", "another order"],
)
def test_a_table_has_the_same_columns_when_it_takes_the_same_cells(cql: str, same: bool) -> None:
    assert (columns_of(statement("table", "t", cql)) == columns_of(statement("table", "t", DESCRIBED))) is same


def test_what_was_dropped_is_no_column_and_what_was_added_again_is_one() -> None:
    now = columns_of(statement("table", "t", DESCRIBED))
    dropped = columns_of(statement("table", "t", DESCRIBED + _DROP.format(5)))
    again = columns_of(statement("table", "t", DESCRIBED + _DROP.format(5) + _ADD))
    assert now.there - dropped.there == {'"On" frozen<map<int, text>>'}
    assert dropped.dropped == again.dropped == {('"On"', "5")}
    assert again.there == now.there
    later = columns_of(statement("table", "t", DESCRIBED + _DROP.format(6) + _ADD))
    assert later.there == again.there
    assert later.dropped != again.dropped
