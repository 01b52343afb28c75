"""How many processes a rate takes, by what one of them can do."""

from __future__ import annotations

import msgspec
import pytest

from include.engine.contracts import Stop
from include.engine.loading import crew
from include.engine.loading.contracts import LoadRun
from include.engine.loading.crew import Crew, processes_for
from include.engine.model import GeneratorLimit
from tests.loading.paper import STEADY, Paper, PaperRange
from tests.loading.range import Told, clock


@pytest.mark.parametrize(
    ("rate", "each", "most", "count"),
    [(70, 100, 8, 1), (70.1, 100, 8, 2), (140, 100, 8, 2), (1000, 100, 8, 8), (1, 0, 8, 1), (5, 1e6, 8, 1)],
    ids=["what one can", "a little more", "what two can", "more than there may be", "nobody knows", "next to nothing"],
)
def test_a_process_is_asked_for_seventy_per_cent_of_what_it_can(
    rate: float, each: float, most: int, count: int
) -> None:
    assert processes_for(rate, GeneratorLimit(rate=each, processes=1, how=""), most=most) == count
    assert processes_for(rate, None, most=most) == 1


def test_what_is_worked_out_by_cost_is_worked_out_once_and_more_processes_come_with_the_rates_of_a_search(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "processors", lambda: 8)

    class Costly(Paper):
        def limit(self, run: LoadRun, *, rate: float) -> GeneratorLimit | None:
            found = super().limit(run, rate=rate)
            return found and msgspec.structs.replace(found, by_cost=True)

    paper = Costly(each=100)
    profile = PaperRange(tmp_path_factory.mktemp("range"), paper).profile(**STEADY, most_processes=4)
    chosen = Crew(paper, profile)
    run = LoadRun(name="n", progress=Told(), stop=Stop(), clock=clock)
    assert [chosen.chosen(run, rate).processes for rate in (50, 100, 200, 900, 70)] == [1, 2, 3, 4, 1]
    assert paper.asked == [1]
    assert chosen.limit is not None
    assert chosen.limit.processes == 4


def test_processes_that_can_do_less_beside_each_other_are_joined_by_more(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "processors", lambda: 8)

    class Crowded(Paper):
        def limit(self, run: LoadRun, *, rate: float) -> GeneratorLimit | None:
            self.each = 100 if run.processes == 1 else 60
            return super().limit(run, rate=rate)

    paper = Crowded(each=100)
    profile = PaperRange(tmp_path_factory.mktemp("range"), paper).profile(**STEADY)
    run = LoadRun(name="n", progress=Told(), stop=Stop(), clock=clock)
    assert Crew(paper, profile).chosen(run, 126).processes == 3
    assert paper.asked == [1, 2, 3]
