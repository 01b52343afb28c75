"""What a cluster is asked, and that the answers are numbers that were seen."""

from __future__ import annotations

import pytest

from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.model import Reading, System
from include.engine.probing import Probe
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.probes import open_probes
from include.engine.systems.cassandra.settings import Settings
from tests.integration.cassandra.estate import TARGET, Estate, now

pytestmark = pytest.mark.integration


def probes_of(estate: Estate, **settings: object) -> dict[str, Probe]:
    known = Settings.model_validate({"connection": "cassandra_main", **estate.server.target_settings(), **settings})
    return {probe.name: probe for probe in open_probes(TARGET, known, estate.connections)}


def read(probe: Probe, timeout: float = 30) -> list[Reading]:
    return list(probe.read(now, timeout=timeout))


def test_a_healthy_node_gives_every_metric_that_its_probes_name(estate: Estate) -> None:
    found: dict[str, list[Reading]] = {}
    for probe in probes_of(estate).values():
        readings = read(probe)
        assert set(probe.metrics) <= {reading.metric for reading in readings}, probe.name
        for reading in readings:
            assert reading.metric.startswith(f"{System.CASSANDRA}.")
            found.setdefault(reading.metric, []).append(reading)
    values = {metric: sum(reading.value for reading in readings) for metric, readings in found.items()}
    expected = {
        "cassandra.node.up": 1,
        "cassandra.nodes.down": 0,
        "cassandra.nodes.unreachable": 0,
        "cassandra.schema.versions": 1,
        "cassandra.hints.bytes": 0,
        "cassandra.streams": 0,
        "cassandra.repair.never": 0,  # one copy needs no repair
        "cassandra.replication.differing": 0,
    }
    assert {metric: values[metric] for metric in expected} == expected
    assert values["cassandra.load"] > 10_000
    assert all(0 < reading.value < 100 for reading in found["cassandra.disk.used"])


def test_a_snapshot_that_nobody_clears_and_a_keyspace_of_other_copies_are_seen(
    estate: Estate, keyspace: str, cql: Cql
) -> None:
    probes = probes_of(estate, replication={keyspace: {"dc1": 3}, "gone": {"dc1": 1}})
    (differing,) = [one for one in read(probes["replication"]) if one.metric == "cassandra.replication.differing"]
    assert differing.value == 2
    cql.rows(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY)")
    cql.rows(f"INSERT INTO {keyspace}.t (k) VALUES (1)")
    before = {one.metric: one.value for one in read(probes["snapshots"])}
    estate.server.nodes[0].nodetool("snapshot", "-t", f"kept-{keyspace}", "--", keyspace)
    after = {one.metric: one.value for one in read(probes["snapshots"])}
    estate.server.nodes[0].nodetool("clearsnapshot", "-t", f"kept-{keyspace}")
    assert after["cassandra.snapshots.lasting"] == before["cassandra.snapshots.lasting"] + 1


def test_tables_of_several_copies_that_were_never_repaired_are_counted(estate: Estate, keyspace: str, cql: Cql) -> None:
    cql.rows(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY)")
    cql.rows(f"ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 2}}")
    try:
        (never,) = read(probes_of(estate)["repairs"])
        assert (never.metric, never.value) == ("cassandra.repair.never", 1)
    finally:  # the node is alone: nobody reads at ALL while a second copy is asked for
        cql.rows(f"ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}}")


def test_what_only_jolokia_tells_is_never_guessed(estate: Estate) -> None:
    assert "jolokia" not in probes_of(estate, jolokia=False)
    nodes = estate.server.target_settings()["nodes"]
    nodes["127.0.0.1"]["jolokia_port"] = 1
    with pytest.raises(Unreachable, match="did not answer"):
        read(probes_of(estate, nodes=nodes)["jolokia"])


def test_a_cluster_that_is_not_there_is_an_error_and_no_zero(estate: Estate) -> None:
    estate.connections.known["cassandra_main"] = Connection(host="127.0.0.1", port=1)
    for name in ("nodes", "pools", "repairs"):
        with pytest.raises(Unreachable):
            read(probes_of(estate)[name], timeout=5)
