"""Sets taken at random moments under traffic: each comes back whole.  Twenty are the proof; ``MAINSTAY_SETS`` says another number.

The log has lost its first records before the first set is taken, so what is restored has other offsets than what was saved, and
the checkpoint goes on at the right record only when it is translated.  Half-way the topic of users gets more partitions.
"""

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
COUNT = int(os.environ.get("MAINSTAY_SETS", "20"))
SEED = 20261123
FORGOTTEN = 29  # records that retention takes from the first partition


@pytest.fixture(scope="module")
def river(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[River]:
    with Brook(stage.kafka, stage.cassandra) as brook:
        yield River(stage, brook, tmp_path_factory.mktemp("river"), events=True)


def test_every_set_of_many_comes_back_with_equal_rows(river: River) -> None:
    dice = random.Random(SEED)
    brook, pipeline = river.brook, river.pipeline()
    stream = brook.stream()
    river.send(300)
    stream.launch(reason="a test", clock=clock)
    brook.caught_up(stream, 600)
    river.forget(FORGOTTEN)
    taken = []
    with river.traffic():
        for number in range(COUNT):
            time.sleep(dice.random() * 3)  # anywhere in a batch, and between two
            if number == COUNT // 2:  # and once while the job is down
                stream.end(kill=True)
                taken.append(river.take(pipeline))
                stream.launch(reason="it was killed", clock=clock)
                brook.grow(brook.users, 5)
            else:
                taken.append(river.take(pipeline))
    stream.end(kill=True)
    wrong = [(sealed.id, line) for sealed in taken for line in failed(sealed.checks) if "coverage" not in line]
    assert wrong == []
    logs = [part.cut for sealed in taken for part in sealed.parts if str(part.target) == "kafka/main"]
    assert {cut.begins[brook.users][0] for cut in logs} == {FORGOTTEN}
    assert [len(cut.offsets[brook.users]) for cut in logs] == [3] * (COUNT // 2 + 1) + [5] * (COUNT - COUNT // 2 - 1)
    if COUNT > 1:
        assert all(end for end in logs[-1].offsets[brook.users].values())  # records came to the new ones as well
    good = 0
    for sealed in taken:
        report = river.drill(pipeline, sealed)
        assert failed(report.checks) == [], sealed.id
        assert report.verdict is Verdict.PASS
        good += 1
    assert good == COUNT
