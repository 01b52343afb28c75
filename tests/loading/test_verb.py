"""What the verb does around a load, on paper: what is refused, what is watched, and that a result is never lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from include.engine.errors import NotFound, Refused
from include.engine.loading import report
from include.engine.model import Verdict
from tests.loading.paper import STEADY, Paper, PaperRange
from tests.loading.range import names


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


def test_what_was_measured_until_a_guard_tripped_is_shown_and_not_judged(tmp_path: Path) -> None:
    begun: list[float] = []

    def ask() -> float:
        if paper.schedules:
            begun.append(time.monotonic())
        return 60.0 if begun and begun[-1] - begun[0] > 4 else 0.001

    paper = Paper(ask=ask)
    range_ = PaperRange(tmp_path, paper)
    profile = range_.profile(**STEADY | {"stages": [{"rate": 100, "lasts": "60s"}], "gates": {"p99": 0.000001}})
    result = range_.run(profile, permission={"guard_every": "0.2s"})
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
