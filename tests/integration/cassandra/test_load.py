"""Load on a real Cassandra."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import pytest

from include.engine.contracts import Stop
from include.engine.errors import Unreachable
from include.engine.loading.contracts import LoadRun
from include.engine.model import Verdict
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.schema import user_keyspaces
from include.engine.systems.cassandra.server import CassandraServer
from tests.estate import eventually
from tests.loading.range import SHORT, WIDE, Range, Told, UnderWay, clock, names
from tests.loading.stalling import run_with_a_stall

pytestmark = pytest.mark.integration


@pytest.fixture
def cassandra_range(cassandra: CassandraServer, tmp_path: Path) -> Range:
    return Range("cassandra", cassandra.connection(), tmp_path)


def test_a_load_on_cassandra_tells_writes_from_reads(cassandra_range: Range) -> None:
    profile = cassandra_range.profile(stages=SHORT, gates=WIDE, workload={"rows": 500})
    result = cassandra_range.run(profile)
    step = result.step
    assert step is not None
    assert step.errors == {}
    assert step.from_intended.count == 300
    assert {kind: one.count for kind, one in step.kinds.items()} == {"write": 225, "read": 75}
    # What one process can do was found out with the driver itself: far less than the bare loop's 100,000 and more.
    assert result.limit is not None
    assert result.limit.by_cost
    assert result.limit.rate < 50_000
    assert (step.processes == 1) == (result.limit.rate >= 150 / 0.7)
    assert cassandra_range.engine(profile).leftovers("mainstay_load") == []


def test_the_rows_that_will_be_read_are_written_no_faster_than_the_load_may_be(cassandra_range: Range) -> None:
    engine = cassandra_range.engine(cassandra_range.profile(workload={"rows": 650}))
    run = LoadRun(name="mainstay_load_test_filled", progress=Told(), stop=Stop(), clock=clock, most=200)
    began = time.monotonic()
    try:
        engine.prepare(run)
        took = time.monotonic() - began
    finally:
        engine.remove([run.name])
    assert took >= 3  # 200 in each of the first three seconds


def test_a_node_that_stands_still_is_in_the_percentiles_though_few_may_be_in_flight(
    cassandra_range: Range, cassandra: CassandraServer
) -> None:
    seconds = 16.0
    profile = cassandra_range.profile(
        stages=[{"rate": 100, "lasts": f"{seconds:g}s"}], gates={"p99": 1000}, in_flight=20, workload={"rows": 100}
    )
    # So long that a tenth of it is more than a busy machine needs to take up what has piled up.
    result, took = run_with_a_stall(
        cassandra_range, profile, lambda: cassandra.nodes[0].pid or 0, seconds=5.0, after=3.0
    )
    step = result.step
    assert step is not None
    assert step.errors == {}
    # Of T seconds at a steady rate, one stall of S: a share of q waits longer than S - q T.
    assert step.from_intended.p99 / 1000 == pytest.approx(took - 0.01 * seconds, rel=0.1)
    assert step.waited > 0.1  # no more than 20 could be in flight: the target's doing, not the generator's
    assert step.behind < 0.05
    assert names(Verdict.FAIL, result.checks) == {"p99"}


def test_a_node_that_refuses_connections_in_the_middle_ends_the_load_and_the_next_one_clears_up(
    cassandra_range: Range, cassandra: CassandraServer, cql: Cql
) -> None:
    (node,) = cassandra.nodes
    profile = cassandra_range.profile(stages=[{"rate": 50, "lasts": "60s"}], gates=WIDE, workload={"rows": 100})
    refusing = threading.Timer(2.0, node.nodetool, args=("disablebinary",))
    try:
        result = cassandra_range.run(profile, progress=UnderWay(refusing.start))
    finally:
        if refusing.ident is not None:
            refusing.join()
        node.nodetool("enablebinary")
        eventually(partial(_answers, cql), what="the session that all tests share finds its node again")
    assert result.verdict is Verdict.FAIL
    assert "guards" in names(Verdict.FAIL, result.checks)
    assert "production could not be asked" in result.stopped
    assert "removed" in names(Verdict.UNVERIFIED, result.checks)
    assert result.step is not None  # until then
    assert result.step.from_intended.count > 50
    after = cassandra_range.run(cassandra_range.profile(stages=SHORT, gates=WIDE, workload={"rows": 100}))
    assert any("a test that died had left mainstay_load_test_" in note for note in after.notes)
    assert cassandra_range.engine(profile).leftovers("mainstay_load") == []


def _answers(cql: Cql) -> bool:
    try:
        return bool(cql.rows("SELECT key FROM system.local"))
    except Unreachable:
        return False


def test_the_keyspace_of_a_load_test_is_in_no_backup_and_leaves_no_snapshot_when_it_is_dropped(
    cassandra_range: Range, cql: Cql
) -> None:
    seen: list[tuple[str, bool]] = []

    def look() -> None:
        rows = cql.rows("SELECT keyspace_name, allow_auto_snapshot FROM system_schema.tables")
        seen.extend((row["keyspace_name"], row["allow_auto_snapshot"]) for row in rows)
        backed_up.extend(user_keyspaces(cql))

    backed_up: list[str] = []
    result = cassandra_range.run(cassandra_range.profile(stages=SHORT, gates=WIDE), progress=Told({"load": look}))
    assert result.stopped == ""  # what `look` raises is taken for a target that died
    ((name, snapshot),) = [one for one in seen if one[0].startswith("mainstay_load")]
    assert snapshot is False
    assert name not in backed_up
    assert backed_up
