"""What stock tools and servers say, read into the one form; and the page that is made of it."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from include.engine import load_wiring
from include.engine.contracts import Connection, Stop
from include.engine.errors import Corrupt, Unreachable
from include.engine.loading import report
from include.engine.loading.comparison import compare
from include.engine.loading.contracts import LoadRun, Measured, measured_until
from include.engine.loading.distribution import encoded, histogram
from include.engine.loading.payloads import payloads
from include.engine.loading.recording import Recording
from include.engine.loading.schedule import SECOND
from include.engine.model import Check, GeneratorLimit, LoadResult, Verdict
from include.engine.systems.airflow import load as airflow_load
from include.engine.systems.airflow import question_load
from include.engine.systems.airflow.load import figures_of, longest_silence
from include.engine.systems.postgres.load import note_held
from include.engine.systems.postgres.pgbench_log import Transaction, transactions
from tests.loading.range import Told, clock
from tests.loading.test_judging import result

# Written by pgbench 17 with --rate and two scripts; the third was refused by the server.
LOG = """\
0 1 2500 0 1700000001 002500 500
1 1 12000 1 1700000001 020000 11000
0 2 failed 0 1700000001 030000 200
"""


def test_a_log_of_pgbench_gives_both_latencies() -> None:
    found = list(transactions(LOG.splitlines(), began_us=1_700_000_001_000_000, scripts=["a", "b"]))
    assert found[0] == Transaction(due=0, sent=500_000, answered=2_500_000, kind="a")
    assert found[1] == Transaction(due=8_000_000, sent=19_000_000, answered=20_000_000, kind="b")
    # How long what failed took is not logged: it waited for at least as long as it was late.
    assert found[2] == Transaction(due=29_800_000, sent=30_000_000, answered=30_000_000, kind="a", error="failed")


def test_while_every_client_of_pgbench_is_busy_the_server_is_waited_for() -> None:
    recording = Recording()
    seconds = [(0.5, 2.0), (1.0, 3.0), (1.5, 2.5), (5.0, 5.5)]
    note_held(recording, [(int(due * SECOND), int(sent * SECOND)) for due, sent in seconds])
    assert {at: value / SECOND for at, value in recording.waited.items() if value} == {0: 0.5, 1: 1.0, 2: 1.0, 5: 0.5}


@pytest.mark.parametrize("line", ["progress: 1.0 s, 100 tps", "0 1 2500", "0 1 2500 7 1700000001 002500 1"])
def test_what_is_no_line_of_pgbench_is_refused(line: str) -> None:
    with pytest.raises(Corrupt, match="no line of its format"):
        list(transactions([line], began_us=0, scripts=["a", "b"]))


def test_tasks_of_a_run_are_summed_up_by_airflows_own_clock() -> None:
    def task(begin: int, end: int, state: str = "success", *, index: int = 0) -> dict[str, Any]:
        at = "2026-11-23T02:00:{:02d}Z"
        return {
            "start_date": at.format(begin),
            "end_date": at.format(end),
            "queued_when": at.format(begin - 1),
            "state": state,
            "map_index": index,
        }

    counted = task(2, 3, index=-1)  # what counts the others up is the run's first task, and none of those counted
    figures = figures_of("2026-11-23T02:00:00Z", [counted, task(5, 6), task(7, 9, "failed"), task(10, 35)])
    assert figures == {
        "tasks_failed": 1.0,
        "first_task_seconds": 2.0,
        "tasks_per_minute": 6.0,
        "all_tasks_seconds": 35.0,
        "queued_to_started_seconds": 1.0,
    }
    assert figures_of("2026-11-23T02:00:00Z", []) == {"tasks_failed": 0.0}


def test_what_airflow_has_answered_is_not_lost_to_tasks_that_are_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = load_wiring.load_profile("airflow-steady")
    engine = airflow_load.open_load(Connection(host="http://127.0.0.1:1"), profile)
    made = result("a", 10, seed=1)
    measured = Measured(step=made.steps[0], histograms={})

    def late(run: LoadRun) -> dict[str, float]:
        raise Unreachable("100 tasks were not done in time", hint="look at the scheduler")

    monkeypatch.setattr(airflow_load, "generate", lambda *_, **__: measured)
    monkeypatch.setattr(engine, "_run_tasks", late)
    run = LoadRun(name="n", progress=Told(), stop=Stop(), clock=clock)
    with pytest.raises(Unreachable, match="not done in time") as raised:
        engine.measure(run, profile.schedule())
    assert measured_until(raised.value) is measured


def test_a_question_that_breaks_in_an_unknown_way_is_answered_as_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *_: str) -> None: ...

        def bearer(self) -> None: ...

        def get(self, path: str) -> None:
            raise ZeroDivisionError(path)

    told: list[tuple[str | None, str]] = []
    answered = threading.Event()

    def done(error: str | None, kind: str = "") -> None:
        told.append((error, kind))
        answered.set()

    monkeypatch.setattr(question_load, "AirflowClient", Broken)
    place = {"url": "http://127.0.0.1:1", "username": "u", "password": "p"}
    question = question_load.open_operation({**place, "paths": {"dags?limit=5": 1}, "connections": 1})
    question.submit(0, done)
    assert answered.wait(10)
    question.close()
    assert told == [("ZeroDivisionError: dags", "dags")]


def test_the_longest_time_between_two_beats_of_the_scheduler_is_told_and_none_is_no_number() -> None:
    assert longest_silence([10.0, 10.0, 15.0, 15.0, 27.5, 30.0]) == {"scheduler_longest_silence_seconds": 12.5}
    assert longest_silence([0.0, 10.0, 10.0]) == {}


@pytest.mark.parametrize("shape", ["json", "random"])
def test_payloads_have_their_size_and_are_the_same_in_every_run(shape: str) -> None:
    found = payloads(200, shape=shape, count=8)
    assert {len(one) for one in found} == {200}
    assert len(set(found)) == 8
    assert found == payloads(200, shape=shape, count=8)


def full(id_: str, latency: float, seed: int) -> LoadResult:
    made = result(id_, latency, seed=seed)
    found = histogram({int(latency * 1000): 90, int(latency * 9000): 10})
    histograms = {"from_intended": encoded(found), "from_sent": encoded(found)}
    checks = (Check(name="p99", verdict=Verdict.FAIL, detail="<b>slow & sad</b>"),)
    limit = GeneratorLimit(rate=5000, processes=2, how="nothing")
    changes = {"histograms": histograms, "checks": checks, "limit": limit, "reason": '<script>alert("x")</script>'}
    return LoadResult(**{name: getattr(made, name) for name in made.__struct_fields__} | changes)


def test_the_page_is_one_file_whose_plots_are_well_formed_and_whose_words_are_escaped() -> None:
    before, after = full("20261116T030000Z", 10, 1), full("20261123T030000Z", 20, 2)
    page = report.page(after, earlier=[before], comparisons=[compare(before, after)])
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) == 4  # over time, throughput, histogram, the last tests
    for plot in plots:
        for shape in ET.fromstring(plot).iter():
            numbers = re.findall(
                r"-?\d+\.?\d*", " ".join(value for key, value in shape.attrib.items() if key in ("x", "y", "points"))
            )
            assert all(-5 <= float(number) <= 765 for number in numbers)
            assert "nan" not in str(shape.attrib)
    assert "&lt;b&gt;slow &amp; sad&lt;/b&gt;" in page
    assert "<script" not in page
    assert "worse by" in page


def test_a_page_of_a_test_that_measured_nothing_can_be_written() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    empty = LoadResult(
        id="20261123T030000Z",
        profile="p",
        target="kafka/main",
        started=now,
        finished=now,
        environment={},
        declared={},
        limit=None,
        steps=(),
        judged=None,
        histograms={},
        checks=(),
        verdict=Verdict.UNVERIFIED,
        stopped="guard: load.canary was not read",
    )
    assert "load.canary was not read" in report.page(empty)
