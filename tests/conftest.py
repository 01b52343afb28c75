"""Real servers, shared by all tests of a run: each is started when the first test asks for it.

``./mainstay test`` runs two such runs side by side, for most tests wait more than they compute: what shares servers stays
together, and what is heavy keeps out of the way of the live Airflow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from include.engine.sandbox.home import Home, Sandbox
from include.engine.sandbox.ports import RANGE, halves
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.server import PostgresServer

PROJECT = Path(__file__).resolve().parent.parent
# How long an example takes is the machine's, not the code's: two runs go on side by side, with servers.
hypothesis.settings.register_profile("mainstay", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("mainstay")
# The live Airflow runs beside what needs no servers: a scheduler that is slow answers too late (systems/airflow/client.py).
_FIRST = "e2e"
_LAST = ("kafka", "postgres", "cassandra", "spark", "sets", "sabotage")


def pytest_configure(config: pytest.Config) -> None:
    """Give each of the runs side by side ports of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker:
        os.environ[RANGE] = halves(int(worker.removeprefix("gw")))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares servers, and apart what disturbs each other."""

    def rank(item: pytest.Item) -> int:
        group = _group(item)
        return -1 if group == _FIRST else 1 + _LAST.index(group) if group in _LAST else 0

    for item in items:
        if _group(item) == "e2e":  # the first of them starts everything
            item.add_marker(pytest.mark.timeout(900))
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=rank)


def _group(item: pytest.Item) -> str:
    where = item.path.relative_to(PROJECT / "tests").parts
    if where[0] == "integration":
        return where[1]
    return where[0] if where[0] in (_FIRST, *_LAST) else "/".join(where)


@pytest.fixture(scope="session")
def home() -> Home:
    """Where the tests' sandboxes live; what a killed run has left is gone."""
    home = Home.of(PROJECT)
    home.sweep()
    return home


@pytest.fixture(scope="session")
def sandbox(home: Home) -> Iterator[Sandbox]:
    """The one sandbox of this run."""
    with home.sandbox(f"test-{os.getpid()}") as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def postgres(sandbox: Sandbox) -> PostgresServer:
    """A running PostgreSQL 17 primary; tests that stop or break one start their own."""
    return PostgresServer(sandbox, "shared").start()


@pytest.fixture(scope="session")
def object_store(sandbox: Sandbox) -> ObjectStoreServer:
    """A running S3 server."""
    return ObjectStoreServer(sandbox, "shared").start()


@pytest.fixture
def bucket(object_store: ObjectStoreServer, request: pytest.FixtureRequest) -> str:
    """The name of an empty bucket of :func:`object_store`, this test's own."""
    return object_store.create_bucket(_unique(request.node.nodeid, "-"))


@pytest.fixture
def database(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an empty database of :func:`postgres`, this test's own."""
    name = _unique(request.node.nodeid, "_")
    with postgres.connect() as connection:
        connection.execute(f'create database "{name}"')
        yield name
        connection.execute(f'drop database "{name}" with (force)')


def _unique(text: str, joint: str) -> str:
    """A name of at most 63 characters that tells which test it belongs to."""
    words = re.sub("[^a-z0-9]+", joint, text.lower().rpartition("::test_")[2]).strip(joint)
    return f"{words[:50].strip(joint)}{joint}{os.urandom(4).hex()}"
