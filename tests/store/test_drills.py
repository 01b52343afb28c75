"""What earlier drills have measured says how long a restore should take."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from include.engine.model import (
    Destination,
    DestinationKind,
    Drilled,
    RecoveryPoint,
    RestorePlan,
    SetPlan,
    Target,
    Verdict,
    backup_id,
)
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.drills import measured
from include.engine.verbs.restore import expected
from tests.store.making import drill_report

KAFKA, ROWS, STREAM = (Target.parse(f"{name}/main") for name in ("kafka", "cassandra", "spark"))
AT = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(Bucket.open(f"memory://{uuid.uuid4().hex}"))


def part(target: Target, seconds: float, bytes_: int = 100) -> Drilled:
    return Drilled(target=target, backup=backup_id(AT), bytes=bytes_, seconds=seconds)


def record(catalog: Catalog, hour: int, *parts: Drilled) -> None:
    report = drill_report(AT + timedelta(hours=hour), Verdict.PASS)
    assert catalog.record_drill(msgspec.structs.replace(report, parts=parts))


def test_drills_of_a_whole_pipeline_tell_what_each_target_took_the_newest_five_first(catalog: Catalog) -> None:
    for hour in range(9):
        record(catalog, hour, part(KAFKA, hour), part(ROWS, 50))
    record(catalog, 9, part(ROWS, 50))
    assert [one.seconds for one in measured(catalog, KAFKA)] == [8, 7, 6, 5, 4]
    assert measured(catalog, STREAM) == []


def test_a_drill_of_one_target_by_an_earlier_mainstay_counts_too(catalog: Catalog) -> None:
    old = msgspec.structs.replace(
        drill_report(AT, Verdict.PASS, KAFKA), backup=backup_id(AT), bytes=7, rto_seconds=3.0
    )  # fmt: skip
    assert catalog.record_drill(old)
    failed = drill_report(AT + timedelta(hours=1), Verdict.FAIL, KAFKA)
    assert catalog.record_drill(failed)  # nothing came back: nothing was measured
    assert measured(catalog, KAFKA) == [part(KAFKA, 3.0, 7)]


@pytest.mark.parametrize(
    ("size", "drilled", "seconds"),
    [
        (100, [], None),
        (100, [part(KAFKA, 4)], 4),
        (100, [part(KAFKA, 4), part(KAFKA, 5), part(KAFKA, 60)], 5),
        (1000, [part(KAFKA, 4)], 40),
        (10, [part(KAFKA, 4)], 4),
        (10, [part(KAFKA, 4, 0)], 4),
    ],
    ids=["no drill", "one", "the median", "ten times as much", "a tenth", "a drill of nothing"],
)
def test_more_data_takes_longer_and_less_not_shorter(size: int, drilled: list[Drilled], seconds: float | None) -> None:
    assert expected(size, drilled) == seconds


def plan(target: Target, seconds: float | None) -> RestorePlan:
    return RestorePlan(
        target=target,
        backup=backup_id(AT),
        chain=(backup_id(AT),),
        destination=Destination(kind=DestinationKind.SANDBOX),
        point=RecoveryPoint.parse("latest"),
        steps=(),
        bytes_to_fetch=1,
        bytes_needed=1,
        seconds_expected=seconds,
    )


def test_a_set_takes_as_long_as_the_slowest_of_each_wave() -> None:
    parts = (plan(KAFKA, 5), plan(ROWS, 20), plan(STREAM, 30))
    assert SetPlan(set_id="s", parts=parts).seconds_expected == 50
    assert SetPlan(set_id="s", parts=(*parts[:1], plan(ROWS, None))).seconds_expected is None
