"""The scaling table: what binds, golden, and what was not read is not green."""

from __future__ import annotations

import pytest

from include.engine import lookout
from include.engine.health.history import SeriesName
from include.engine.health.rules import load
from include.engine.health.scaling import scaling
from include.engine.model import Reading, Verdict
from tests.health.making import DOWN, NOW, look, reading

QUEUE = {"waiting": 600, "queued": 100, "scheduled": 500, "running": 4}


def table(*readings: Reading, subject: str = "airflow/main", **points: float) -> dict[str, object]:
    book = load([lookout.RULES], runbooks=lookout.RUNBOOKS)
    rows = scaling(book, [look(*readings, subject=subject, metrics=())], {}, limits=lambda *_: None)
    return {row.name: row for row in rows}


def queue(**more: float) -> list[Reading]:
    return [reading(value, f"airflow.tasks.{name}") for name, value in {**QUEUE, **more}.items()]


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        ([reading(0, "airflow.component.up", component="scheduler")], "the scheduler's loop: it sends no heartbeat"),
        (
            [reading(100, "airflow.pool.used", pool="backup"), reading(9, "airflow.pool.waiting", pool="backup")],
            "the pool backup: all its slots are taken",
        ),
        ([reading(4, "airflow.parallelism")], "parallelism: 4 tasks run, and 4 may"),
        ([reading(1, "airflow.runs.capped")], "the active-run cap of a DAG (max_active_runs)"),
        (
            [],
            "the scheduler's loop, or max_active_tasks of a DAG: tasks are scheduled and not queued, and no pool is full",
        ),
    ],
)
def test_the_cause_that_binds_the_queue_is_named(found: list[Reading], cause: str) -> None:
    row = table(*queue(), *found)["airflow-queue"]
    assert row.cause == cause  # type: ignore[attr-defined]


def test_tasks_that_are_queued_and_not_taken_wait_for_workers() -> None:
    row = table(*queue(queued=550, scheduled=50))["airflow-queue"]
    assert row.cause.startswith("the executor's slots")  # type: ignore[attr-defined]


def test_what_was_not_read_is_not_green() -> None:
    book = load([lookout.RULES], runbooks=lookout.RUNBOOKS)
    rows = scaling(book, [look(trouble=DOWN, subject="cassandra/events")], {}, limits=lambda *_: None)
    assert [(row.name, row.verdict) for row in rows] == [("cassandra-disk", Verdict.UNVERIFIED)]


def test_a_limit_that_nobody_declared_is_not_green_and_says_what_to_set() -> None:
    row = table(reading(1.4, "spark.flow.batch_duration", unit="s"), subject="spark/pipeline")["spark-batch"]
    assert (row.verdict, row.limit) == (Verdict.UNVERIFIED, None)  # type: ignore[attr-defined]
    assert row.cause == "no limit is declared: set expect.spark.batch_seconds in the inventory"  # type: ignore[attr-defined]


def test_a_disk_that_fills_says_when_it_will_be_full() -> None:
    book = load([lookout.RULES], runbooks=lookout.RUNBOOKS)
    seen = look(reading(70, "cassandra.disk.used", unit="%", node="a"), subject="cassandra/events", metrics=())
    name = SeriesName("cassandra/events", "cassandra.disk.used", '{"node":"a"}', "%")
    hour = 3600.0
    points = [(NOW.timestamp() - (48 - step) * hour, 22.0 + step) for step in range(49)]
    (row,) = scaling(book, [seen], {name: points}, limits=lambda *_: None)
    assert row.trend is not None
    assert row.trend.slope * hour == pytest.approx(1.0)
    assert row.breach is not None
    assert row.breach.seconds == pytest.approx(10 * hour)
    assert row.verdict is Verdict.PASS
