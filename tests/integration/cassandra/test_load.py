"""Load on a real Cassandra."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.schema import user_keyspaces
from include.engine.systems.cassandra.server import CassandraServer
from tests.loading.range import SHORT, WIDE, Range, Told

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
    assert cassandra_range.engine(profile).leftovers("mainstay_load") == []


def test_the_keyspace_of_a_load_test_is_in_no_backup_and_leaves_no_snapshot_when_it_is_dropped(
    cassandra_range: Range, cql: Cql
) -> None:
    seen: list[tuple[str, bool]] = []

    def look() -> None:
        rows = cql.rows("SELECT keyspace_name, allow_auto_snapshot FROM system_schema.tables")
        seen.extend((row["keyspace_name"], row["allow_auto_snapshot"]) for row in rows)
        backed_up.extend(user_keyspaces(cql))

    backed_up: list[str] = []
    cassandra_range.run(cassandra_range.profile(stages=SHORT, gates=WIDE), progress=Told({"load": look}))
    ((name, snapshot),) = [one for one in seen if one[0].startswith("mainstay_load")]
    assert snapshot is False
    assert name not in backed_up
    assert backed_up
