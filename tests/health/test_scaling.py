"""The scaling table: what binds, golden, and what was not read is not green."""

from __future__ import annotations

import pytest

from include.engine import lookout
from include.engine.health.causes import CAUSES
from include.engine.health.history import SeriesName
from include.engine.health.looks import Look
from include.engine.health.rules import load
from include.engine.health.scaling import ScalingRow, scaling
from include.engine.health.trends import Breach, soon
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
        ([reading(104, "airflow.parallelism")], "parallelism: 104 tasks run or are queued, and 104 may"),
        ([reading(1, "airflow.runs.capped")], "the active-run cap of a DAG (max_active_runs)"),
        (
            [reading(105, "airflow.parallelism")],
            "the scheduler's loop, or max_active_tasks of a DAG: tasks are scheduled and not queued, and no pool is full",
        ),
        (
            [],
            (
                "the scheduler's loop, or max_active_tasks of a DAG: tasks are scheduled and not queued, and no pool is full"
                "; or parallelism, which this Airflow shows to nobody (api.expose_config)"
            ),
        ),
    ],
)
def test_the_cause_that_binds_the_queue_is_named(found: list[Reading], cause: str) -> None:
    row = table(*queue(), *found)["airflow-queue"]
    assert row.cause == cause  # type: ignore[attr-defined]


def test_tasks_that_are_queued_and_not_taken_wait_for_workers() -> None:
    row = table(*queue(queued=550, scheduled=50))["airflow-queue"]
    assert row.cause.startswith("the executor's slots")  # type: ignore[attr-defined]


LAG = "kafka.group.lag_seconds"


def lag(seconds: float, partition: int, group: str = "g") -> Reading:
    return reading(seconds, LAG, unit="s", group=group, topic="t", partition=str(partition))


@pytest.mark.parametrize(
    ("row", "subject", "found", "cause"),
    [
        ("kafka-lag", "kafka/main", [lag(90, 0), lag(1, 1), lag(2, 2), lag(80, 0, "other")], "partition 0 alone of 3"),
        (
            "kafka-lag",
            "kafka/main",
            [lag(90, 0), lag(80, 1), lag(2, 2)],
            "2 of 3 partitions are late: the consumer is too slow",
        ),
        ("cassandra-disk", "cassandra/events", [], "nobody knows: no reading tells what binds"),
        (
            "cassandra-disk",
            "cassandra/events",
            [
                reading(6 << 30, "cassandra.snapshots.bytes", node="a"),
                reading(10 << 30, "cassandra.load", node="a"),
                reading(0, "cassandra.snapshots.bytes", node="b"),
            ],
            "snapshots hold 6.0 GiB",
        ),
        (
            "cassandra-disk",
            "cassandra/events",
            [
                reading(0, "cassandra.snapshots.bytes", node="a"),
                reading(10 << 30, "cassandra.load", node="a"),
                reading(400, "cassandra.compactions.pending", node="a"),
            ],
            "400 compactions wait",
        ),
        (
            "spark-batch",
            "spark/main",
            [reading(9, "spark.flow.input_rate", flow="users"), reading(4, "spark.flow.processed_rate", flow="users")],
            "9 records come in a second, and 4 are worked on",
        ),
        (
            "spark-batch",
            "spark/main",
            [reading(8, "spark.cores.total"), reading(8, "spark.cores.used")],
            "the cluster's cores: all 8 are taken",
        ),
    ],
)
def test_what_binds_is_named_for_every_row(row: str, subject: str, found: list[Reading], cause: str) -> None:
    beyond = {
        "kafka-lag": [],
        "cassandra-disk": [reading(85, "cassandra.disk.used", unit="%", node="a")],
        "spark-batch": [reading(40, "spark.flow.batch_duration", unit="s", flow="users")],
    }
    book = load([lookout.RULES], runbooks=lookout.RUNBOOKS)
    seen = look(*beyond[row], *found, subject=subject, metrics=())
    (made,) = scaling(book, [seen], {}, limits=lambda *_: 30.0)
    assert (made.name, made.verdict) == (row, Verdict.FAIL)
    assert made.cause.startswith(cause)


def test_while_less_than_half_is_used_nothing_binds() -> None:
    assert table(lag(10, 0), subject="kafka/main")["kafka-lag"].cause == ""  # type: ignore[attr-defined]


def test_every_row_of_the_table_has_a_cause_that_is_looked_for() -> None:
    book = load([lookout.RULES], runbooks=lookout.RUNBOOKS)
    assert {row.cause for row in book.scaling.values()} == set(CAUSES)


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
    assert soon(row.breach) == "in 10.0 h (10.0 to 10.0 h)"
    assert (soon(None), soon(Breach(seconds=0, earliest=0, latest=0))) == ("", "now")
    assert row.verdict is Verdict.PASS


@pytest.mark.parametrize(
    "other",
    [
        look(trouble=DOWN, subject="cassandra/other", metrics=("cassandra.disk.used",)),
        look(trouble=DOWN, subject="cassandra/other", metrics=(), probe="connection"),
        look(reading(float("nan"), "cassandra.disk.used", node="b"), subject="cassandra/events", metrics=()),
    ],
    ids=["down", "not defined", "no number"],
)
def test_one_target_within_its_limit_says_nothing_about_one_that_was_not_read(other: Look) -> None:
    book = load([lookout.RULES], runbooks=lookout.RUNBOOKS)

    def row(used: float) -> ScalingRow:
        seen = look(reading(used, "cassandra.disk.used", node="a"), subject="cassandra/events", metrics=())
        (made,) = scaling(book, [other, seen], {}, limits=lambda *_: None)
        return made

    assert (row(10).verdict, row(10).value) == (Verdict.UNVERIFIED, 10)
    assert "could not be read" in row(10).cause
    assert row(99).verdict is Verdict.FAIL
