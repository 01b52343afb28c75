"""Two sets of a pipeline with a stream, taken at the same time under traffic: neither disturbs the other, and both come back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from include.engine.model import Verdict, backup_id
from tests.estate import clock
from tests.integration.sets.conftest import stage
from tests.integration.sets.stage import Stage
from tests.integration.sets.test_stream import River, failed
from tests.integration.spark.brook import Brook

__all__ = ["stage"]  # a fixture of the sets' tests
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def river(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[River]:
    with Brook(stage.kafka, stage.cassandra) as brook:
        yield River(stage, brook, tmp_path_factory.mktemp("river"))


def test_two_sets_at_once_are_both_whole_and_both_come_back(river: River) -> None:
    brook = river.brook
    stream = brook.stream(flows={"users": {"shape": "users", "topic": brook.users, "table": brook.users_table}})
    river.send(300)
    stream.launch(reason="a test", clock=clock)
    brook.caught_up(stream, 300)
    at = clock()
    names = [backup_id(at + timedelta(seconds=number)) for number in range(2)]
    with river.traffic(), ThreadPoolExecutor(2) as pool:
        # As a DAG and a person would: each with a pipeline of its own.
        works = [pool.submit(river.take, river.pipeline(), name) for name in names]
        taken = [work.result(timeout=600) for work in works]
    stream.end(kill=True)
    for sealed in taken:
        assert [line for line in failed(sealed.checks) if "coverage" not in line] == []
        report = river.drill(river.pipeline(), sealed)
        assert failed(report.checks) == [], sealed.id
        assert report.verdict is Verdict.PASS
    assert not any(snapshot for name in names for snapshot in snapshots(river, name))


def snapshots(river: River, name: str) -> list[str]:
    """What a set has left on the node."""
    said = river.stage.cassandra.nodes[0].nodetool("listsnapshots")
    return [line for line in said.splitlines() if name in line or name.lower() in line]
