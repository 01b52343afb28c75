"""The demo with three Cassandra nodes: started, seen, backed up, short of one, and stopped without a trace."""

from __future__ import annotations

import json
import os

import pytest

from tests.integration.test_demo import Demo, demo

__all__ = ["demo"]  # a fixture
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UP = ("up", "--no-airflow", "--no-stream")
NODES = ("cassandra-main-1", "cassandra-main-2", "cassandra-main-3")


def test_a_demo_of_three_nodes_is_started_seen_backed_up_and_stopped(demo: Demo) -> None:
    assert "1 or 3" in demo.run(*UP, "--cassandra-nodes", "2", code=1).stderr
    demo.run(*UP, "--cassandra-nodes", "3")
    first = demo.status()
    assert set(NODES) <= set(first)
    assert {first[name]["seen"] for name in NODES} == {"answers; it knows 3 node(s)"}
    assert all(server["healthy"] for server in first.values())

    demo.run(*UP)  # it stays what it was made
    assert {name: demo.status()[name]["pid"] for name in NODES} == {name: first[name]["pid"] for name in NODES}
    assert "was made with 3" in demo.run(*UP, "--cassandra-nodes", "1", code=1).stderr

    done = json.loads(demo.run("backup", "cassandra/events", "--json", code=None).stdout)
    assert [one["verdict"] for one in done["verifications"]] == ["PASS"]

    os.kill(first[NODES[1]]["pid"], 9)
    seen = demo.status(code=1)
    assert [seen[name]["healthy"] for name in NODES] == [True, False, True]
    assert "1 of 3 nodes are down" in demo.run("backup", "cassandra/events", code=None).stderr
    demo.run(*UP)
    assert all(demo.status()[name]["healthy"] for name in NODES)

    demo.run("down")
    assert demo.processes() == []
    assert not any(server["healthy"] for server in demo.status(code=1).values())
