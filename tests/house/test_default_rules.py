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
AIRFLOW, HTTP, HOST = "e2e/test_sweeps.py", "systems/http/test_findings.py", "systems/host/test_host.py"

# Where a rule is made true: the test names it.  Those of three nodes and more are in the slow lane, which CI does not run.
SLOW = (BROKERS, RING, STANDALONE)
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
        "postgres-wraparound",
        "postgres-checkpoints",
        "postgres-pending-restart",
        "postgres-clock",
        "backups-set-age",
        "backups-set-inconsistent",
        "backups-age",
        "backups-unreadable",
        "backups-verified",
        "backups-log-gap",
        "drills-age",
        "drills-passed",
        "backups-unread",
        "backups-log-unproved",
    ),
    KAFKA: (
        "coverage",
        "kafka-brokers",
        "kafka-replicas",
        "kafka-min-isr",
        "kafka-narrow-topics",
        "kafka-lag",
        "kafka-group-lost",
        "kafka-group-still",
        "kafka-unsaved",
        "kafka-lost",
        "kafka-transaction",
        "kafka-disk",
    ),
    MIRROR: (
        "kafka-mirror-made",
        "kafka-mirror-idle",
        "kafka-mirror-stopped",
        "kafka-mirror-unproved",
        "kafka-mirror-proof",
        "kafka-mirror-heartbeat",
        "kafka-mirror-failed",
        "kafka-mirror-lag",
    ),
    BROKERS: (
        "kafka-fenced",
        "kafka-offline",
        "kafka-under-replicated",
        "kafka-under-min-isr",
        "kafka-quorum-lag",
    ),
    CASSANDRA: (
        "cassandra-nodes",
        "cassandra-snapshots",
        "cassandra-replication",
        "cassandra-keyspaces",
        "cassandra-never-repaired",
        "cassandra-disk",
    ),
    RING: ("cassandra-node", "cassandra-hints", "cassandra-dropped", "cassandra-repair-age"),
    SPARK: ("spark-late", "spark-lost", "spark-retention", "cassandra-quorum"),
    STREAM: ("spark-batch", "spark-stopped", "spark-dead-letters", "spark-audit"),
    STANDALONE: ("spark-masters", "spark-leader", "spark-workers"),
    AIRFLOW: (
        "airflow-component",
        "airflow-schedulers",
        "airflow-triggerers",
        "airflow-dag-processors",
        "airflow-api-servers",
        "airflow-paused",
        "airflow-failed-runs",
        "airflow-overdue",
        "airflow-late",
    ),
    "e2e/test_retries.py": ("airflow-queue",),
    HTTP: ("http-up", "http-latency", "http-certificate", "http-certificate-trusted"),
    HOST: ("host-disk", "host-inodes", "host-memory"),
}

# What CI makes true by what the inventory declares or promises: the servers stay as they are.  Beside each, the test of the slow
# lane in which something breaks for it; where there is none, nothing but a declaration makes it true anywhere.
DECLARED = {
    "kafka-brokers": BROKERS,
    "kafka-narrow-topics": BROKERS,
    "cassandra-nodes": RING,
    "kafka-replicas": "",
    "kafka-min-isr": "",
    "airflow-late": "",
}

# Why it is judged on readings that were made up, and on no others (tests/health/test_shipped_rules.py).
NOT_HERE = {
    "airflow-import-errors": "it takes a broken file in the project's own dags/, which other tests read",
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


def said(file: str) -> set[object]:
    """What the functions of a test file say."""
    tree = ast.parse((TESTS / file).read_text())
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef)]
    return {one.value for at in functions for one in ast.walk(at) if isinstance(one, ast.Constant)}


@pytest.mark.parametrize("file", LIVE)
def test_a_test_that_makes_rules_true_names_each(file: str) -> None:
    assert [rule for rule in LIVE[file] if rule not in said(file)] == []


def test_what_ci_only_declares_breaks_in_the_slow_lane_or_is_told_on_the_page() -> None:
    page = (TESTS.parent / "docs" / "health.md").read_text()
    assert [rule for rule in DECLARED if f"`{rule}`" not in page] == []
    assert [rule for rule, file in DECLARED.items() if file and rule not in said(file)] == []
    assert not {rule for file in SLOW for rule in LIVE[file]} & set(DECLARED)


def test_most_rules_are_made_true_and_most_of_these_in_ci() -> None:
    assert len(NOT_HERE) * 8 <= len(rules())
    assert sum(len(LIVE[file]) for file in SLOW) * 6 <= len(rules())


def test_what_the_page_says_of_the_slow_lane_is_so() -> None:
    page = (TESTS.parent / "docs" / "health.md").read_text()
    slow = sorted(rule for file in SLOW for rule in LIVE[file])
    assert [rule for rule in (*slow, *NOT_HERE) if f"`{rule}`" not in page] == []
