"""What load tests may do in the demo: accounts of their own, and what the demo's inventory allows them."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from include.engine.contracts import Connection

if TYPE_CHECKING:
    from include.engine.cli.demo_sandbox import DemoSandbox

ROLE = "loader"
_GUARDS = {"load.canary": {"above": 20}}  # seconds: the demo shares two processors with everything that it shows
_CAPS = {"allowed": True, "max_seconds": "10m", "max_bytes": 1 << 30, "guards": _GUARDS}
_ALLOWED: dict[str, dict[str, Any]] = {
    "kafka/main": {"connection": "kafka_load", "max_rate": 20_000},
    "cassandra/events": {"connection": "cassandra_load", "max_rate": 5_000},
    "postgres/main": {"connection": "postgres_load", "max_rate": 2_000},
    "spark/main": {"connections": {"kafka": "kafka_load", "cassandra": "cassandra_load"}, "max_rate": 5_000},
}
_AIRFLOW = {"main": {"connection": "airflow_load", "load": _CAPS | {"max_rate": 50}}}


def allow(document: MutableMapping[str, Any]) -> None:
    """Allow load on what the demo's inventory *document* has.  The repository's own allows none: it is one to start from."""
    for target, limits in _ALLOWED.items():
        system, _, name = target.partition("/")
        settings = document.get(system, {}).get(name)
        if settings is not None:
            settings["load"] = _CAPS | limits
    document["load"] = {"airflow": _AIRFLOW}


def create_roles(demo: DemoSandbox) -> None:
    """Make the accounts that load tests use: they may create databases and keyspaces, and own nothing else."""
    demo.primary.create_role(ROLE, "createdb")
    password = _cassandra_password(demo)
    with demo.clusters.cassandra.connect() as cql:
        cql.rows(f"CREATE ROLE IF NOT EXISTS {ROLE} WITH LOGIN = true AND PASSWORD = '{password}'")
        # Whoever creates a keyspace has all rights on it, and nobody else's.
        cql.rows(f"GRANT CREATE ON ALL KEYSPACES TO {ROLE}")


def connections(demo: DemoSandbox) -> dict[str, Connection]:
    """Give the accounts of load tests, by name; with secrets."""
    clusters, primary = demo.clusters, demo.primary
    return {
        "kafka_load": clusters.kafka.connection(),
        "cassandra_load": clusters.cassandra.connection(ROLE, _cassandra_password(demo)),
        "postgres_load": Connection(
            host=primary.host,
            port=primary.port,
            login=ROLE,
            password=demo.sandbox.secret(f"{primary.label}-{ROLE}"),
            schema="postgres",
        ),
        "airflow_load": demo.airflow_connection("admin"),
    }


def _cassandra_password(demo: DemoSandbox) -> str:
    return demo.sandbox.secret(f"{demo.clusters.cassandra.label}-{ROLE}")
