"""What the verb does around a load, on paper: what is refused, what is watched, and that a result is never lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Clock
from include.engine.errors import NotFound, PermanentError, Refused
from include.engine.loading import crew, report
from include.engine.model import Reading, Verdict
from include.engine.verbs import load_course
from include.engine.verbs.load_page import with_page
from tests.loading.paper import STEADY, Paper, PaperRange
from tests.loading.range import UnderWay, names
from tests.loading.test_judging import result


def test_a_baseline_that_is_not_there_is_told_before_the_load(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper())
    with pytest.raises(NotFound, match="no load test 20200101T000000Z"):
        range_.run(range_.profile(**STEADY), baseline="20200101T000000Z")
    assert range_.paper.runs == []


def test_an_earlier_result_that_is_damaged_costs_the_comparison_and_not_the_result(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper())
    range_.bucket.create("loads/20200101T000000Z.json", b"{")
    result = range_.run(range_.profile(**STEADY))
    assert range_.loads.get(result.id) == result
    assert result.step is not None
    assert any(
        note.startswith("the page has less than it should: loads/20200101T000000Z.json") for note in result.notes
    )
    assert "<svg" in range_.loads.page(result.id)


def test_a_page_that_cannot_be_drawn_costs_the_page_and_not_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(report, "page", broken)
    range_ = PaperRange(tmp_path, Paper())
    result = range_.run(range_.profile(**STEADY))
    assert range_.loads.get(result.id).step == result.step
    assert any("ZeroDivisionError" in note for note in result.notes)
    assert result.id in range_.loads.page(result.id)


def test_a_guard_whose_reading_breaks_in_an_unknown_way_ends_the_load_and_proves_nothing(tmp_path: Path) -> None:
    looks = iter([0.001, 0.001])

    def ask() -> float:
        try:
            return next(looks)
        except StopIteration:
            raise ZeroDivisionError("of a driver") from None

    range_ = PaperRange(tmp_path, Paper(ask=ask))
    began = time.monotonic()
    profile = range_.profile(**STEADY | {"stages": [{"rate": 100, "lasts": "60s"}]})
    result = range_.run(profile, permission={"guard_every": "0.5s"})
    assert time.monotonic() - began < 30
    assert "guards" in names(Verdict.UNVERIFIED, result.checks)
    assert "ZeroDivisionError: of a driver" in result.stopped
    assert result.verdict is Verdict.UNVERIFIED


def test_production_that_hangs_with_its_question_ends_the_load_and_is_never_a_guard_that_held(tmp_path: Path) -> None:
    released = threading.Event()

    def ask() -> float:
        if paper.schedules:
            released.wait(120)  # a client without a timeout of its own
        return 0.001

    paper = Paper(ask=ask)
    range_ = PaperRange(tmp_path, paper)
    profile = range_.profile(**STEADY | {"stages": [{"rate": 100, "lasts": "60s"}]})
    began = time.monotonic()
    try:
        result = range_.run(profile, permission={"guard_every": "0.2s", "guards": {"load.canary": {"above": 1}}})
    finally:
        released.set()
    assert time.monotonic() - began < 30
    assert result.stopped == "guard: production gave no answer within 4 s"
    assert "guards" in names(Verdict.FAIL, result.checks)


def test_a_load_that_is_shorter_than_the_pause_between_two_looks_is_looked_at_all_the_same(tmp_path: Path) -> None:
    looks = iter([0.001, 60.0])
    range_ = PaperRange(tmp_path, Paper(ask=lambda: next(looks)))
    result = range_.run(range_.profile(**STEADY), permission={"guard_every": "1h"})
    assert "guards" in names(Verdict.FAIL, result.checks)


def test_what_cannot_be_prepared_in_time_is_not_loaded_and_the_result_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_course, "PREPARED_WITHIN", timedelta(seconds=0.6))
    paper = Paper()

    def fill() -> None:
        filled = threading.Event()
        paper.runs[-1].stop.on_stop(filled.set)
        assert filled.wait(30)

    paper.preparing = fill
    range_ = PaperRange(tmp_path, paper)
    result = range_.run(range_.profile(**STEADY))
    assert result.stopped == "it was not prepared within 0.01 minutes"
    assert result.verdict is Verdict.UNVERIFIED
    assert (paper.schedules, paper.there) == ([], [])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("by nought"), "could not be removed: ZeroDivisionError: by nought"),
        (PermanentError("permission denied", hint="grant it"), "could not be removed: permission denied"),
        (None, "mainstay_load_test_20261123t000001z is still there"),
    ],
)
def test_what_breaks_while_it_is_removed_costs_the_removal_and_not_the_result(
    tmp_path: Path, error: Exception | None, told: str
) -> None:
    class Sticky(Paper):
        def remove(self, names: Sequence[str]) -> None:
            if error is not None:
                raise error

    range_ = PaperRange(tmp_path, Sticky())
    result = range_.run(range_.profile(**STEADY), id_="20261123T000001Z")
    assert range_.loads.get(result.id).step is not None
    (removed,) = (check for check in result.checks if check.name == "removed")
    assert removed.verdict is Verdict.UNVERIFIED
    assert told in removed.detail


def test_the_page_of_an_attempt_that_died_before_its_result_is_not_that_of_the_next(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper())
    id_ = range_.id()
    range_.bucket.create(f"loads/{id_}.html", b"of a dead attempt")
    range_.run(range_.profile(**STEADY), id_=id_)
    assert "<svg" in range_.loads.page(id_)


def test_a_baseline_is_measured_by_the_noise_before_it_and_not_by_the_change_that_is_looked_for(
    tmp_path: Path,
) -> None:
    loads = PaperRange(tmp_path, Paper()).loads
    days = [10, 11, 10.5, 20, 20, 20]  # the target became slow, and stayed so
    done = [result(f"2026110{day}T000000Z", latency, seed=day) for day, latency in enumerate(days, start=1)]
    for one in done:
        loads.commit(one, "")
    _, page = with_page(loads, done[-1], done[0].id)
    assert f"Compared with {done[0].id}" in page
    assert "worse by" in page


@pytest.mark.parametrize(("rate", "processes"), [(70, 1), (71, 2), (2000, 3)])
def test_the_generator_takes_as_many_processes_as_the_rate_needs_and_the_result_tells_it(
    rate: float, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "processors", lambda: 3)
    range_ = PaperRange(tmp_path, Paper(each=100))
    result = range_.run(range_.profile(**STEADY | {"stages": [{"rate": rate, "lasts": "1s"}]}))
    assert result.step is not None
    assert result.step.processes == processes
    assert result.limit is not None
    assert result.limit.processes == processes  # measured with all of them
    assert range_.paper.asked == ([1] if processes == 1 else [1, processes])
    assert any("limit of 300 a second is near" in note for note in result.notes) == (rate == 2000)


def test_the_number_of_processes_in_a_profile_comes_before_what_the_rate_needs(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper(each=100))
    result = range_.run(range_.profile(**STEADY, processes=2))
    assert result.step is not None
    assert result.step.processes == 2
    assert range_.paper.asked == [2]


def test_what_was_measured_until_a_guard_tripped_is_shown_and_not_judged(tmp_path: Path) -> None:
    begun: list[float] = []  # when the generator was at work

    def ask() -> float:
        return 60.0 if begun and time.monotonic() - begun[0] > 4 else 0.001

    paper = Paper(ask=ask)
    range_ = PaperRange(tmp_path, paper)
    profile = range_.profile(**STEADY | {"stages": [{"rate": 100, "lasts": "60s"}], "gates": {"p99": 0.000001}})
    under_way = UnderWay(lambda: begun.append(time.monotonic()))
    result = range_.run(profile, permission={"guard_every": "0.2s"}, progress=under_way)
    assert result.stopped.startswith("guard: load.canary")
    step = result.step
    assert step is not None
    assert 1 < step.seconds < 30
    assert step.target_rate == pytest.approx(100, rel=0.1)
    assert step.from_intended.count == pytest.approx(100 * step.seconds, rel=0.2)
    assert step.checks == ()
    assert {check.name for check in result.checks} == {"finished", "guards", "removed"}
    assert names(Verdict.FAIL, result.checks) == {"guards"}
    page = range_.loads.page(result.id)
    assert page.count("<svg") >= 2
    begun.clear()
    paper.schedules.clear()
    again = range_.run(range_.profile(**STEADY))
    assert f"Compared with {result.id}" not in range_.loads.page(again.id)  # half a test is no measure


def test_production_is_watched_while_the_load_is_prepared(tmp_path: Path) -> None:
    filling = threading.Event()
    paper = Paper(ask=lambda: 60.0 if filling.is_set() else 0.001)

    def fill() -> None:
        filling.set()
        paper.runs[-1].stop.on_stop(filled.set)
        assert filled.wait(30)

    filled = threading.Event()
    paper.preparing = fill
    range_ = PaperRange(tmp_path, paper)
    result = range_.run(range_.profile(**STEADY), permission={"guard_every": "0.2s"})
    assert result.stopped == "guard: load.canary is 60 s, above 30"
    assert "guards" in names(Verdict.FAIL, result.checks)
    assert paper.schedules == []
    assert paper.there == []


def test_how_long_a_guards_question_may_take_depends_on_its_own_limit_and_on_no_others(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper())
    guards = {"load.canary": {"above": 3}, "kafka.queue": {"above": 50}}
    with pytest.raises(Refused, match=r"kafka\.queue was not read"):
        range_.run(range_.profile(**STEADY), permission={"guards": guards})
    assert range_.paper.timeouts == [6.0]


def test_the_time_that_late_answers_have_counts_against_the_longest_that_is_allowed(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper())
    profile = range_.profile(**STEADY | {"grace": "120s"})
    with pytest.raises(Refused, match=r"122 s are longer than max_seconds \(60\)"):
        range_.run(profile, permission={"max_seconds": "60s"})
    assert range_.paper.runs == []


def test_the_highest_rate_that_is_allowed_is_told_to_the_engine(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper())
    range_.run(range_.profile(**STEADY), permission={"max_rate": 500})
    assert range_.paper.runs[0].most == 500


def test_a_search_on_a_target_that_holds_everything_ends_at_the_highest_rate_that_is_allowed(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper(clockwork=True))
    search = {"begin": 250, "end": 5000, "factor": 4, "step": "1s", "limit": "60s"}
    result = range_.run(range_.profile(**STEADY, search=search), search=True, permission={"max_rate": 1000})
    assert [round(step.target_rate) for step in result.steps] == [250, 1000]
    assert result.judged == 1
    assert [schedule.seconds for schedule in range_.paper.schedules] == [3.0, 2.0]  # 500 operations for a p99


def test_a_search_that_could_say_nothing_about_its_first_rate_is_refused(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper())
    search = {"begin": 5, "end": 100, "step": "1s", "limit": "60s"}
    with pytest.raises(Refused, match="5 operations a second takes 101 s, and the search ends after 60 s"):
        range_.run(range_.profile(**STEADY, search=search), search=True)
    with pytest.raises(Refused, match="from the profile"):
        range_.run(range_.profile(**STEADY), search=True, rate=50)


def test_a_guard_may_be_a_metric_that_its_probe_gives_only_at_times(tmp_path: Path) -> None:
    """As a group's lag is, of which there is none before there is a group."""

    class Lag:
        name = source = "groups"
        metrics: Sequence[str] = ("kafka.groups.known",)
        sometimes: Sequence[str] = ("kafka.group.lag_seconds",)

        def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
            return [Reading(metric="kafka.group.lag_seconds", value=lag, unit="s", at=clock())]

    lag = 1.0
    range_ = PaperRange(tmp_path, Paper())
    guards = {"load.canary": {"above": 30}, "kafka.group.lag_seconds": {"above": 60}}
    result = range_.run(range_.profile(**STEADY), permission={"guards": guards}, probes=[Lag()])
    assert "guards" in names(Verdict.PASS, result.checks)
    lag = 61.0
    with pytest.raises(Refused, match=r"kafka\.group\.lag_seconds is 61 s, above 60"):
        range_.run(range_.profile(**STEADY), permission={"guards": guards}, probes=[Lag()])
