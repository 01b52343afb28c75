"""What the pages of a cluster's masters tell: a healthy pair, one that is dead, one that is silent, none that leads."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.systems.spark.probes import Cluster
from include.engine.systems.spark.settings import Settings
from tests.integration.sweeping import Known
from tests.systems.http.serving import Serving, serving

TIMEOUT = 3.0  # seconds that a probe may take

# As Spark 4's masters answer on /json/, shortened.
WORKER = {"state": "ALIVE", "cores": 4, "coresused": 1}
LEADER = {"status": "ALIVE", "workers": [WORKER, WORKER | {"state": "DEAD"}], "activeapps": [{}]}
STANDBY = {"status": "STANDBY", "workers": [], "activeapps": []}
WHOLE = {
    "spark.masters.alive": 2,
    "spark.masters.leading": 1,
    "spark.workers.alive": 1,
    "spark.cores.total": 4,
    "spark.cores.used": 1,
    "spark.applications": 1,
}
SETTINGS = Settings.model_validate(
    {
        "connection": "store",
        "checkpoint": "s3://streams/main",
        "kafka": "kafka_main",
        "cassandra": "cassandra_events",
        "flows": {"users": {"shape": "users", "topic": "users", "table": "a.users"}},
        "engine": "standalone",
        "cluster": "cluster",
    }
)


@pytest.fixture
def pair() -> Iterator[tuple[Serving, Serving]]:
    with serving() as first, serving() as second:
        tells(first, LEADER)
        tells(second, STANDBY)
        yield first, second


def tells(server: Serving, page: Any) -> None:
    server.body = json.dumps(page).encode()


def read(ports: Sequence[int]) -> dict[str, float]:
    pages = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    probe = Cluster(SETTINGS, Known({"cluster": Connection(extra={"page": pages})}))
    return {one.metric: one.value for one in probe.read(lambda: datetime.now(UTC), timeout=TIMEOUT)}


def nobody() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_of_a_healthy_pair_both_are_alive_and_one_leads(pair: tuple[Serving, Serving]) -> None:
    assert read([one.port for one in pair]) == WHOLE


def test_the_standby_counts_until_it_is_dead(pair: tuple[Serving, Serving]) -> None:
    assert read([pair[0].port, nobody()]) == WHOLE | {"spark.masters.alive": 1}


def test_a_standby_alone_leads_nobody_and_nothing_is_said_of_workers(pair: tuple[Serving, Serving]) -> None:
    assert read([nobody(), pair[1].port]) == {"spark.masters.alive": 1, "spark.masters.leading": 0}


def test_machines_that_refuse_are_masters_that_are_dead() -> None:
    assert read([nobody(), nobody()]) == {"spark.masters.alive": 0, "spark.masters.leading": 0}


@pytest.mark.parametrize("page", [[], {"workers": []}, "nonsense"])
def test_a_page_that_is_no_masters_counts_for_nothing(pair: tuple[Serving, Serving], page: Any) -> None:
    tells(pair[1], page)
    assert read([one.port for one in pair])["spark.masters.alive"] == 1


def test_masters_that_are_silent_take_no_time_from_one_that_answers(pair: tuple[Serving, Serving]) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(8)]
        began = time.monotonic()
        found = read([*(one.getsockname()[1] for one in silent), pair[0].port])
        assert time.monotonic() - began < 4 * TIMEOUT  # of eight, were they asked one after the other
    assert found == WHOLE | {"spark.masters.alive": 1}


def test_of_masters_that_are_silent_nothing_is_known() -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        with pytest.raises(Unreachable, match="no Spark master answers"):
            read([silent.getsockname()[1], nobody()])
