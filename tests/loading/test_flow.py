"""From end to end, without servers: which batch a record was in, whether freshness is stable, and how both are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.engine.contracts import Connection
from include.engine.loading import report
from include.engine.loading.driving import Driver
from include.engine.loading.gates import Bound, Gates, judged
from include.engine.loading.recording import Recording, step_of
from include.engine.loading.schedule import SECOND, Schedule
from include.engine.model import LoadStep, Verdict
from include.engine.systems.airflow.load import url_of
from include.engine.systems.spark.batch_times import BatchTimes
from include.engine.systems.spark.load import growth_of, rate_of
from tests.loading.test_driving import MS, Toy
from tests.loading.test_judging import result


def note(folder: Path, batch: int, at_ms: int, **ends: int) -> None:
    offsets = json.dumps({"topic": {key.removeprefix("p"): end for key, end in ends.items()}})
    settings = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": at_ms, "conf": {}})
    (folder / str(batch)).write_text(f"v1\n{settings}\n{offsets}")


def test_a_record_belongs_to_the_first_batch_that_ends_after_it(tmp_path: Path) -> None:
    folder = tmp_path / "events" / "offsets"
    folder.mkdir(parents=True)
    note(folder, 0, 1_000, p0=2, p1=0)
    note(folder, 2, 3_000, p0=5, p1=7)
    note(folder, 1, 2_000, p0=2, p1=4)
    (folder / ".0.crc").write_bytes(b"\0")
    found = BatchTimes.read(folder, epoch=500 * MS)
    assert [found.begun(0, offset) for offset in (0, 1, 2, 4, 5)] == [500 * MS, 500 * MS, 2_500 * MS, 2_500 * MS, None]
    assert [found.begun(1, offset) for offset in (0, 3, 4)] == [1_500 * MS, 1_500 * MS, 2_500 * MS]
    assert found.begun(9, 0) is None
    assert BatchTimes.read(tmp_path / "nowhere").begun(0, 0) is None


def batched(capacity: float, rate: float, seconds: float, *, every: int = 1) -> LoadStep:
    """A toy job that does *capacity* records a second, in a batch every *every* seconds."""

    class Batches(Toy):
        def submit(self, index: int, done: object) -> None:
            apart = every * SECOND
            done_at = max((self.at // apart + 1) * apart, int(index / capacity * SECOND))
            self._service = done_at - self.at
            super().submit(index, done)  # type: ignore[arg-type]

    toy = Batches()
    schedule = Schedule.steady(rate, seconds)
    recording = Driver(toy, schedule, begin=0, bound=100_000, grace=60.0, now=toy.now).run()
    return step_of(recording, schedule)


@pytest.mark.parametrize(("capacity", "rate"), [(200, 100), (200, 190), (100, 110), (100, 200)])
def test_latency_grows_at_a_rate_beyond_what_a_job_can_do_and_only_then(capacity: float, rate: float) -> None:
    found = growth_of(batched(capacity, rate, 20.0))["latency_growth"]
    assert found == pytest.approx(max(0.0, rate / capacity - 1), abs=0.02)


@pytest.mark.parametrize(("capacity", "rate"), [(200, 100), (80, 100)])
@pytest.mark.parametrize("seconds", [28, 29, 30, 31, 32, 33])
def test_the_rate_reached_does_not_depend_on_whether_one_batch_more_is_in_the_time(
    capacity: float, rate: float, seconds: float
) -> None:
    step = batched(capacity, rate, seconds, every=5)
    assert rate_of(step, growth_of(step)) == pytest.approx(min(capacity, rate), rel=0.05)
    if capacity > rate and seconds < 30:
        assert step.achieved_rate < 0.95 * rate  # by the clock, the last batch came too late


def test_a_rate_that_freshness_does_not_keep_fails_its_gate_and_too_short_a_test_proves_nothing() -> None:
    gates = Gates(errors=0.0, figures={"latency_growth": Bound(most=0.05)})
    for step, verdict in [
        (batched(100, 90, 20.0), Verdict.PASS),
        (batched(100, 120, 20.0), Verdict.FAIL),
        (batched(100, 90, 3.0), Verdict.UNVERIFIED),
    ]:
        whole = LoadStep(**{n: getattr(step, n) for n in step.__struct_fields__} | {"figures": growth_of(step)})
        (check,) = [one for one in judged(whole, gates).checks if one.name == "latency_growth"]
        assert check.verdict is verdict


def test_where_the_time_went_is_merged_cut_to_the_test_and_drawn() -> None:
    schedule = Schedule.steady(10, 2, warm_up=1)
    whole = Recording()
    for number in range(2):
        one = Recording()
        for at in range(number, 30, 2):
            due = at * SECOND // 10
            one.add(due, due, due + 40 * MS)
            one.add_phases([(due, "there", 30 * MS), (due, "<back>", 10 * MS)])
        whole.merge(Recording.of_frame(one.to_frame()))
    step = step_of(whole, schedule)
    assert {name: (one.count, round(one.mean)) for name, one in step.phases.items()} == {
        "there": (20, 30),
        "<back>": (20, 10),
    }
    made = result("20261123T030000Z", 10, seed=1)
    page = report.page(
        type(made)(**{name: getattr(made, name) for name in made.__struct_fields__} | {"steps": (step,)})
    )
    assert "there: 75%" in page
    assert "&lt;back&gt;: 25%" in page


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("http://a", 8081, "http://a:8081"),
        ("http://a:9", 8081, "http://a:9"),
        ("https://a", None, "https://a"),
        ("a", None, "http://a:8080"),
        ("a", 81, "http://a:81"),
    ],
)
def test_an_airflow_is_reached_however_its_connection_says_the_port(host: str, port: int | None, url: str) -> None:
    assert url_of(Connection(host=host, port=port)) == url
