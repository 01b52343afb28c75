"""What the inventory allows a load test to do to a target.  Read at DAG parsing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

from pydantic import Field, model_validator

from include.engine.errors import Refused
from include.engine.loading.schedule import Schedule
from include.engine.model import Reading
from include.engine.sections import Duration, Section, unless_given

CANARY = "load.canary"  # seconds that a small question to production takes while the load is on


class GuardSection(Section):
    """A limit on something of production's: beyond it, the load stops at once."""

    above: float | None = Field(None, description="stop when a reading is higher")
    below: float | None = Field(None, description="stop when a reading is lower")

    @model_validator(mode="after")
    def _has_a_limit(self) -> GuardSection:
        if self.above is None and self.below is None:
            msg = "give `above`, `below` or both"
            raise ValueError(msg)
        return self


class LoadPermission(Section):
    """Whether load may be put on a target, and how much."""

    allowed: bool = Field(default=False, description="load tests may run against it")
    connection: str | None = Field(
        None,
        description="name of the connection of an account that may create topics, keyspaces or databases; the target's own "
        "when not given, which a backup's account seldom may",
    )
    connections: dict[str, str] = Field(
        default_factory=dict,
        description="of a stream, which has two sides: names of connections by `kafka` and `cassandra`, of accounts that may "
        "create a topic and a keyspace; the stream's own when not given",
    )
    max_rate: float = Field(1000.0, gt=0, description="operations per second, at most")
    max_bytes: int = Field(
        1 << 30, ge=1, description="bytes that one test may write, at most, with what it writes before the load begins"
    )
    max_seconds: Duration = Field(
        timedelta(minutes=10), description="how long the load may be on, at most, with the time that late answers have"
    )
    guards: dict[str, GuardSection] = Field(
        default_factory=lambda: {CANARY: {"above": 5.0}},
        validate_default=True,
        description="metrics, as the target's probes name them, that stop the load; `load.canary` is the time of a small question",
    )
    guard_every: Duration = Field(timedelta(seconds=1), description="how often they are read")


class AirflowLoad(Section):
    """An Airflow that may be loaded."""

    connection: str = Field(description="name of the connection to its API server: host (a URL), login, password")
    load: LoadPermission = unless_given("whether load tests may run against it, and how much")


class LoadTargets(Section):
    """What may be loaded and is no target of backups."""

    airflow: dict[str, AirflowLoad] = Field(default_factory=dict, description="Airflows that may be loaded, by name")


def admit(
    target: str,
    permission: LoadPermission,
    schedule: Schedule,
    *,
    bytes_each: int,
    prepared: int = 0,
    seconds: float | None = None,
) -> None:
    """Refuse a test that the inventory does not allow.

    :param bytes_each: what one operation writes, at most
    :param prepared: what is written before the load begins, at most
    :param seconds: how long it may take, when that is not the schedule's length
    :raises Refused: naming every limit that it would break
    """
    if not permission.allowed:
        raise Refused(
            f"load tests are not allowed on {target}",
            hint="a person who may decide it sets `load: {allowed: true}` for it in the inventory",
        )
    lasting = schedule.seconds if seconds is None else seconds
    written = schedule.operations * bytes_each + prepared
    broken = []
    if schedule.highest_rate > permission.max_rate:
        broken.append(
            f"{schedule.highest_rate:,.0f} operations a second are more than max_rate ({permission.max_rate:,.0f})"
        )
    if lasting > permission.max_seconds.total_seconds():
        broken.append(f"{lasting:,.0f} s are longer than max_seconds ({permission.max_seconds.total_seconds():,.0f})")
    if written > permission.max_bytes:
        broken.append(f"{written:,.0f} bytes are more than max_bytes ({permission.max_bytes:,.0f})")
    if broken:
        raise Refused(
            f"the inventory does not allow this load on {target}: {'; '.join(broken)}",
            hint="make the test smaller, or have the target's `load` raised in the inventory",
        )


def tripped(permission: LoadPermission, readings: Sequence[Reading]) -> str:
    """Say which guard has tripped, in one sentence; nothing when all hold.

    A guard whose metric was not read has tripped: nobody can say that production does not suffer.
    """
    for metric, guard in permission.guards.items():
        found = [reading for reading in readings if reading.metric == metric]
        if not found:
            return f"{metric} was not read"
        for reading in found:
            if math.isnan(reading.value):
                return f"{metric} was not read"
            labels = ", ".join(f"{key} {value}" for key, value in reading.labels.items())
            what = f"{metric}{f' ({labels})' if labels else ''} is {reading.value:,.6g} {reading.unit}"
            if guard.above is not None and reading.value > guard.above:
                return f"{what}, above {guard.above:,.6g}"
            if guard.below is not None and reading.value < guard.below:
                return f"{what}, below {guard.below:,.6g}"
    return ""
