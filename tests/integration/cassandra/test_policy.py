"""The agent's policy is least privilege: what Mainstay needs and nothing else, asked with Mainstay's own certificate."""

from __future__ import annotations

import pytest

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Unauthorized
from include.engine.systems.cassandra.control import Jolokia
from include.engine.systems.cassandra.node_configuration import STORAGE_SERVICE
from include.engine.systems.cassandra.server import CassandraServer

pytestmark = pytest.mark.integration

REFUSED = {
    "drain": {"type": "exec", "mbean": STORAGE_SERVICE, "operation": "drain"},
    "decommission": {
        "type": "exec",
        "mbean": STORAGE_SERVICE,
        "operation": "decommission(boolean)",
        "arguments": [True],
    },
    "an attribute write": {
        "type": "write",
        "mbean": STORAGE_SERVICE,
        "attribute": "IncrementalBackupsEnabled",
        "value": True,
    },
    "Java itself": {"type": "read", "mbean": "java.lang:type=Runtime", "attribute": "SystemProperties"},
    "a search of all": {"type": "search", "mbean": "*:*"},
}


@pytest.fixture
def agent(cassandra: CassandraServer) -> Jolokia:
    node = cassandra.nodes[0]
    return Jolokia(node.address, node.jolokia_port, cassandra.backup_connection())


def test_what_is_needed_is_allowed(agent: Jolokia) -> None:
    assert agent.answer() == "NORMAL"


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_everything_else_is_refused(agent: Jolokia, request_: dict[str, object]) -> None:
    with pytest.raises(Unauthorized):
        agent.ask(**request_)
    assert agent.answer() == "NORMAL"


def test_without_a_certificate_nobody_gets_in(cassandra: CassandraServer) -> None:
    node = cassandra.nodes[0]
    with pytest.raises(MainstayError):
        Jolokia(node.address, node.jolokia_port, Connection(host=node.address)).answer()
