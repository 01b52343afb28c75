"""A table of ten thousand SSTables is backed up and comes back."""

from __future__ import annotations

import pytest

from include.engine.systems.cassandra.client import Cql
from tests.integration.cassandra.conftest import cassandra, cql, estate, keyspace
from tests.integration.cassandra.estate import Estate
from tests.integration.cassandra.test_many_sstables import come_back

__all__ = ["cassandra", "cql", "estate", "keyspace"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_ten_thousand_small_sstables_are_backed_up_and_come_back(estate: Estate, keyspace: str, cql: Cql) -> None:
    come_back(estate, f"{keyspace}.t", cql, flushes=100, copies=99)
