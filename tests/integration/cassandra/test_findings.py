"""The default rules of Cassandra on a real node: make a condition true, see the finding, undo it, see it close."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine import lookout
from include.engine.systems.cassandra.client import Cql
from tests.estate import eventually
from tests.integration.cassandra.estate import Estate
from tests.integration.sweeping import Sweeping

pytestmark = pytest.mark.integration


@pytest.fixture
def sweeping(estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeping:
    """Sweeps of the shared node; what they find of other tests' keyspaces is none of this test's business."""
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    settings: dict[str, object] = {
        "cassandra": {"main": {"connection": "cassandra_main", **estate.server.target_settings()}},
        "expect": {"cassandra": {"nodes": 1}},
        "sweep": {"timeout": "60s"},
    }
    return Sweeping(tmp_path, estate.connections.known, settings)


def test_a_snapshot_that_was_left_behind_is_found_until_it_is_cleared(
    estate: Estate, sweeping: Sweeping, keyspace: str, cql: Cql
) -> None:
    cql.rows(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY)")
    cql.rows(f"INSERT INTO {keyspace}.t (k) VALUES (1)")
    node = estate.server.nodes[0]
    before = [one.value for one in sweeping.found("cassandra-snapshots", "cassandra")]
    node.nodetool("snapshot", "-t", f"left-{keyspace}", "--", keyspace)
    (finding,) = sweeping.awaited("cassandra-snapshots", "cassandra")
    assert finding.value == sum(one or 0 for one in before) + 1
    assert str(finding.severity) == "this-week"
    node.nodetool("clearsnapshot", "-t", f"left-{keyspace}")
    assert [one.value for one in sweeping.found("cassandra-snapshots", "cassandra")] == before


def test_copies_other_than_declared_and_tables_that_were_never_repaired_are_found(
    estate: Estate, sweeping: Sweeping, keyspace: str, cql: Cql
) -> None:
    cql.rows(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY)")
    target = {"connection": "cassandra_main", **estate.server.target_settings(), "replication": {keyspace: {"dc1": 2}}}
    sweeping.declare("cassandra", main=target)
    sweeping.declare("expect", cassandra={"nodes": 1, "replication_factor": 2, "repair_within": "7d"})
    assert sweeping.awaited("cassandra-replication", "cassandra", keyspace=keyspace)
    found = sweeping.until(lambda rules: "cassandra-keyspaces" in rules, "cassandra")
    assert "cassandra-never-repaired" not in found  # one copy needs no repair
    strategy = "{{'class': 'NetworkTopologyStrategy', 'dc1': {copies}}}"
    cql.rows(f"ALTER KEYSPACE {keyspace} WITH replication = {strategy.format(copies=2)}")
    try:
        sweeping.gone("cassandra-replication", "cassandra", keyspace=keyspace)
        sweeping.until(
            lambda rules: "cassandra-keyspaces" not in rules and "cassandra-never-repaired" in rules, "cassandra"
        )
    finally:
        cql.rows(f"ALTER KEYSPACE {keyspace} WITH replication = {strategy.format(copies=1)}")
    sweeping.until(lambda rules: "cassandra-never-repaired" not in rules, "cassandra")


def test_fewer_nodes_than_were_declared_are_found(sweeping: Sweeping) -> None:
    few = {"cassandra-nodes", "cassandra-node"}
    sweeping.until(lambda rules: not rules & few, "cassandra")
    sweeping.declare("expect", cassandra={"nodes": 2})
    sweeping.until(lambda rules: rules & few == {"cassandra-nodes"}, "cassandra")
    sweeping.declare("expect", cassandra={"nodes": 1})
    sweeping.until(lambda rules: not rules & few, "cassandra")


def test_a_keyspace_that_nobody_saves_is_found_until_it_is_covered(
    estate: Estate, sweeping: Sweeping, keyspace: str, cql: Cql
) -> None:
    target = {"connection": "cassandra_main", **estate.server.target_settings()}

    def uncovered() -> list[str]:
        return [one.labels["what"] for one in sweeping.found("coverage", "backups") if keyspace in one.labels["what"]]

    assert uncovered() == []  # all are taken
    sweeping.declare("cassandra", main=target | {"keyspaces": ["user_events"]})
    eventually(lambda: uncovered() == [f"keyspace {keyspace}"], what="it is found")
    sweeping.declare("cassandra", main=target | {"keyspaces": ["user_events", keyspace]})
    eventually(lambda: uncovered() == [], what="it is covered")
    sweeping.declare("cassandra", main=target | {"keyspaces": ["user_events"], "exclude": [keyspace]})
    eventually(lambda: uncovered() == [], what="it is left out on purpose")


def test_a_disk_of_a_node_is_told_with_its_place(sweeping: Sweeping) -> None:
    sweeping.tolerate("cassandra-disk", 0)
    (finding,) = sweeping.awaited("cassandra-disk", "cassandra")
    assert set(finding.labels) == {"node", "mount"}
    assert finding.unit == "%"
    sweeping.tolerate("cassandra-disk", 100)
    sweeping.gone("cassandra-disk", "cassandra")
