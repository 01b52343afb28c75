"""A plan says what a person would not expect of the rows that come back."""

from __future__ import annotations

from typing import Any

import pytest

from include.engine.contracts import PlanRequest
from include.engine.model import DestinationKind
from include.engine.systems.cassandra.cut import BackupDetail, SnapshotCut
from include.engine.systems.cassandra.planning import plan_steps, plan_warnings
from include.engine.systems.cassandra.schema import Schema, Statement
from include.engine.systems.cassandra.selection import Method, Selection

TABLE = Statement(keyspace="shop", type="table", name="orders", cql="CREATE TABLE shop.orders (id int PRIMARY KEY);")
VIEW = Statement(keyspace="shop", type="materialized_view", name="by_day", cql="CREATE MATERIALIZED VIEW shop.by_day;")
SELECTION = Selection(tables=(("shop", "orders"),), rename={})


def detail(*statements: Statement) -> BackupDetail:
    cut = SnapshotCut(
        tag="t",
        cluster="c",
        nodes=(),
        keyspaces=("shop",),
        schema=Schema(statements),
        samples=(),
        skew_seconds=0.0,
    )
    return BackupDetail(cut=cut, files={}, schema_entry="", sent_objects=0, sent_bytes=0, hashed_bytes=0)


def warnings(selection: Selection = SELECTION, *statements: Statement, **wishes: Any) -> list[str]:
    asked = {"backup": None, "destination_kind": "server", "path": "", "server": "s", "point": "latest", "confirm": ""}
    request = PlanRequest(manifests=(), **{**asked, **wishes})
    return list(plan_warnings(selection, detail(TABLE, *statements), request))


def test_every_plan_says_that_rows_with_a_ttl_went_on_ageing() -> None:
    (told,) = warnings()
    assert told == "rows with a TTL kept ageing in the store: what has expired does not come back"


def test_a_plan_that_merges_says_that_deleted_rows_may_come_back_and_what_to_do() -> None:
    ttl, told = warnings(append=True)
    assert "TTL" in ttl
    assert "deleted longer than gc_grace_seconds ago can come back" in told
    assert "run a repair" in told


def test_a_plan_names_the_views_that_are_built_again_and_the_keyspaces_that_get_other_names() -> None:
    renamed = Selection(tables=SELECTION.tables, rename={"shop": "copy"})
    assert warnings(renamed, VIEW)[1:] == ["shop.by_day are built again from their tables", "shop comes back as copy"]


def test_a_plan_to_a_time_says_what_commit_logs_do_not_hold() -> None:
    assert "truncated after the backup come back" in warnings(point="2026-11-23T02:00:00Z")[1]


@pytest.mark.parametrize(
    ("method", "way"),
    [(Method.IMPORT, "nodetool import"), (Method.LOADER, "stream them with sstableloader")],
    ids=["import", "sstableloader"],
)
def test_the_steps_name_the_way_in(method: Method, way: str) -> None:
    steps = plan_steps(method, DestinationKind.SERVER, SELECTION, "")
    assert any(step.startswith(way) for step in steps)
    assert steps[0] == "make 1 tables of shop, as far as they are not there"
