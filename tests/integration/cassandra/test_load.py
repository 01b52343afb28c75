"""Load on a real Cassandra."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine.systems.cassandra.server import CassandraServer
from tests.loading.range import SHORT, WIDE, Range

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
