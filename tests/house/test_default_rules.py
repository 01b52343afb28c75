"""Each rule that ships is made true on a real server by a test that undoes it, too; or it is said here why that cannot be done."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from include.engine import lookout
from include.engine.health.rules import load

TESTS = Path(__file__).resolve().parents[1]

POSTGRES = "integration/test_sweep.py"
KAFKA, MIRROR, BROKERS = (f"integration/kafka/test_{name}.py" for name in ("findings", "mirror", "clusters"))
CASSANDRA, RING = "integration/cassandra/test_findings.py", "slow/test_cassandra_ring.py"
SPARK, STREAM, STANDALONE = (
    "integration/spark/test_findings.py",
    "integration/spark/test_stream.py",
    "slow/test_standalone_stream.py",
)
AIRFLOW, HTTP, HOST = "e2e/test_sweeps.py", "systems/http/test_endpoint.py", "systems/host/test_host.py"

# Where a rule is made true: the test names it.
LIVE = {
    POSTGRES: (
        "postgres-connections",
        "postgres-idle-in-transaction",
        "postgres-idle-transaction-age",
        "postgres-long-transaction",
        "postgres-lock-waits",
        "postgres-standbys",
        "postgres-synchronous-standbys",
        "postgres-replication-lag",
        "postgres-replication-lag-bytes",
        "postgres-slots-retained",
        "postgres-slots-inactive",
        "postgres-slots-losing",
        "postgres-archiver-failing",
        "postgres-archiver-age",
        "postgres-bloat",
        "postgres-checkpoints",
        "postgres-pending-restart",
        "postgres-clock",
        "backups-set-age",
        "backups-age",
        "backups-unreadable",
        "backups-verified",
        "backups-log-gap",
        "drills-age",
        "drills-passed",
    ),
    KAFKA: (
        "coverage",
        "kafka-brokers",
        "kafka-single-replicas",
        "kafka-lag",
        "kafka-group-lost",
        "kafka-group-still",
        "kafka-unsaved",
        "kafka-lost",
        "kafka-transaction",
    ),
    MIRROR: ("kafka-mirror-failed", "kafka-mirror-lag"),
    BROKERS: (
        "kafka-fenced",
        "kafka-offline",
        "kafka-under-replicated",
        "kafka-under-min-isr",
        "kafka-narrow-topics",
        "kafka-quorum-lag",
    ),
    CASSANDRA: (
        "cassandra-nodes",
        "cassandra-snapshots",
        "cassandra-replication",
        "cassandra-keyspaces",
        "cassandra-never-repaired",
    ),
    RING: ("cassandra-node", "cassandra-hints", "cassandra-dropped", "cassandra-repair-age"),
    SPARK: ("spark-late", "spark-lost"),
    STREAM: ("spark-batch",),
    STANDALONE: ("spark-masters", "spark-workers"),
    AIRFLOW: (
        "airflow-component",
        "airflow-schedulers",
        "airflow-triggerers",
        "airflow-dag-processors",
        "airflow-paused",
        "airflow-failed-runs",
        "airflow-overdue",
        "airflow-late",
    ),
    "e2e/test_retries.py": ("airflow-queue",),
    HTTP: ("http-up", "http-latency", "http-certificate", "http-certificate-trusted"),
    HOST: ("host-disk", "host-inodes", "host-memory"),
}

# Why it is judged on readings that were made up, and on no others (tests/health/test_shipped_rules.py).
NOT_HERE = {
    "postgres-wraparound": "it takes a billion transactions",
    "airflow-import-errors": "it takes a broken file in the project's own dags/, which other tests read",
    "kafka-disk": "it takes a full disk of the machine that the tests run on",
    "cassandra-disk": "it takes a full disk of the machine that the tests run on",
    "cassandra-schema": "nodes of one machine agree within a second, and nothing stable keeps them from it",
    "cassandra-pending": "it takes more load for longer than a test may make",
    "cassandra-blocked": "it takes more load for longer than a test may make",
    "cassandra-compactions": "it takes more load for longer than a test may make",
}


def rules() -> set[str]:
    return set(load([lookout.RULES], runbooks=lookout.RUNBOOKS).rules)


def test_a_rule_is_made_true_somewhere_or_has_a_reason_why_not_and_never_both() -> None:
    live = [rule for names in LIVE.values() for rule in names]
    assert len(live) == len(set(live))
    assert set(live) & set(NOT_HERE) == set()
    told = {*live, *NOT_HERE}
    assert rules() - told == set(), "a new rule: make it true in a test, and name the test here"
    assert told - rules() == set(), "these are no rules any more"


@pytest.mark.parametrize("file", LIVE)
def test_a_test_that_makes_rules_true_names_each(file: str) -> None:
    tree = ast.parse((TESTS / file).read_text())
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef)]
    said = {one.value for at in functions for one in ast.walk(at) if isinstance(one, ast.Constant)}
    assert [rule for rule in LIVE[file] if rule not in said] == []


def test_most_rules_are_made_true() -> None:
    assert len(NOT_HERE) * 8 <= len(rules())
