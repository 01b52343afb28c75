"""Sets taken at random moments under traffic: each comes back whole.  ``MAINSTAY_SETS`` says how many; twenty are the proof."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest

from include.engine.model import Verdict
from tests.estate import clock
from tests.integration.sets.conftest import stage
from tests.integration.sets.stage import Stage
from tests.integration.sets.test_stream import River, failed
from tests.integration.spark.brook import Brook

__all__ = ["stage"]  # a fixture of the sets' tests
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
COUNT = int(os.environ.get("MAINSTAY_SETS", "5"))
SEED = 20261123


@pytest.fixture(scope="module")
def river(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[River]:
    with Brook(stage.kafka, stage.cassandra) as brook:
        yield River(stage, brook, tmp_path_factory.mktemp("river"))


def test_every_set_of_many_comes_back_with_equal_rows(river: River) -> None:
    dice = random.Random(SEED)
    brook, pipeline = river.brook, river.pipeline()
    stream = brook.stream(flows={"users": {"shape": "users", "topic": brook.users, "table": brook.users_table}})
    river.send(300)
    stream.launch(reason="a test", clock=clock)
    brook.caught_up(stream, 300)
    taken = []
    with river.traffic():
        for number in range(COUNT):
            time.sleep(dice.random() * 3)  # anywhere in a batch, and between two
            if number == COUNT // 2:  # and once while the job is down
                stream.end(kill=True)
                taken.append(river.take(pipeline))
                stream.launch(reason="it was killed", clock=clock)
            else:
                taken.append(river.take(pipeline))
    stream.end(kill=True)
    wrong = [(sealed.id, line) for sealed in taken for line in failed(sealed.checks) if "coverage" not in line]
    assert wrong == []
    river.forget(29)  # what is restored has other offsets than what was saved
    good = 0
    for sealed in taken:
        report = river.drill(pipeline, sealed)
        assert failed(report.checks) == [], sealed.id
        assert report.verdict is Verdict.PASS
        good += 1
    assert good == COUNT
