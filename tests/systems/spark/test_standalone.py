"""Several masters: the one that leads is asked, and what changes something is said to it alone, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.sandbox.ports import free_port
from include.engine.streaming import Life
from include.engine.systems.spark.standalone import StandaloneEngine
from tests.systems.http.serving import Serving, serving
from tests.systems.spark.test_submission import made

STANDS_BY = {
    "success": False,
    "message": "Exception from the cluster:\njava.lang.Exception: Current state is not alive: STANDBY. Can only ...",
    "status": "STANDBY",
    "activeapps": [],
}
LEADS = {
    "success": True,
    "driverState": "RUNNING",
    "submissionId": "driver-7",
    "status": "ALIVE",
    "activeapps": [{"name": "mainstay-main-7"}],
}


@pytest.fixture
def masters() -> Iterator[list[Serving]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving()) for _ in range(2)]


def told(masters: list[Serving], *documents: dict[str, Any]) -> None:
    for master, document in zip(masters, documents, strict=True):
        master.body = json.dumps(document).encode()
        master.seen.clear()


def engine(*ports: int) -> StandaloneEngine:
    extra = {
        "master": ",".join(f"spark://127.0.0.1:{port}" for port in ports),
        "page": ", ".join(f"http://127.0.0.1:{port}/" for port in ports),
    }
    return StandaloneEngine(Connection(host=",".join(f"127.0.0.1:{port}" for port in ports), extra=extra))


def test_the_master_that_leads_is_asked_whichever_it_is(masters: list[Serving]) -> None:
    ports = [master.port for master in masters]
    for documents in ((STANDS_BY, LEADS), (LEADS, STANDS_BY)):
        told(masters, *documents)
        found = engine(*ports)
        assert found.life("mainstay-main-7", "driver-7") is Life.RUNNING
        assert found.life("mainstay-main-7", None) is Life.RUNNING
        assert found.life("mainstay-other-1", None) is Life.ABSENT
    assert engine(free_port(), ports[0]).life("mainstay-main-7", "driver-7") is Life.RUNNING  # the other one is gone


def test_a_launch_is_sent_to_the_leader_and_to_nobody_else(masters: list[Serving]) -> None:
    told(masters, STANDS_BY, LEADS)
    assert engine(*(master.port for master in masters)).launch(made()) == "driver-7"
    posts = [[path for path, headers, body in master.seen if body] for master in masters]
    assert posts == [[], ["/v1/submissions/create"]]


def test_while_no_master_leads_nothing_is_known(masters: list[Serving]) -> None:
    told(masters, STANDS_BY, STANDS_BY)
    found = engine(*(master.port for master in masters))
    for handle in ("driver-7", None):
        with pytest.raises(Unreachable, match=r"no Spark master leads.*stands by"):
            found.life("mainstay-main-7", handle)
    with pytest.raises(Unreachable, match="no Spark master leads"):
        found.launch(made())
    assert all(not body for master in masters for _, _, body in master.seen)
