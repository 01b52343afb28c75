"""Profiles are read strictly, and what the inventory does not allow is refused before anything begins."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from include.engine import load_wiring, wiring
from include.engine.errors import Misconfigured, NotFound, Refused
from include.engine.loading import profiles
from include.engine.loading.gates import needed
from include.engine.loading.naming import ours, prefix_of
from include.engine.loading.permission import LoadPermission, admit, tripped
from include.engine.loading.schedule import Schedule
from include.engine.model import Reading
from include.engine.systems.cassandra.workload import Workload as CassandraWorkload
from include.engine.systems.kafka.workload import Workload
from include.engine.systems.postgres.workload import Workload as PostgresWorkload
from include.engine.verbs.load import Wish, admitted
from tests.integration.sweeping import Known

WRONG = """\
system: kafka
description: ""
stages:
  - rate: -5
    lasts: 10
  - lasts: 10s
    speed: 3
gates:
  p98: 5
gates:
  p99: x
workload:
  acks: maybe
  payload_bytes: 200
  colour: red
"""


def test_a_profile_with_mistakes_tells_all_of_them_with_their_lines() -> None:
    with pytest.raises(Misconfigured) as told:
        profiles.parse(WRONG, {"kafka": Workload}, name="wrong")
    message = told.value.message
    for line, what in [
        (2, "description"),
        (4, "stages.0.rate"),
        (5, "stages.0.lasts: 10 is not a duration"),
        (6, "stages.1.rate: is required"),
        (7, "stages.1.speed: unknown key"),
        (10, "gates: given twice"),
        (11, "gates.p99"),
        (13, "workload.acks"),
        (15, "workload.colour: unknown key"),
    ]:
        assert any(one.strip().startswith(f"line {line}:") and what in one for one in message.splitlines()), (
            line,
            what,
            message,
        )
    assert "docs/load-tests.md" in told.value.hint


def test_a_system_that_is_none_and_a_profile_that_is_not_there() -> None:
    with pytest.raises(Misconfigured, match="'mysql' is none that can be loaded"):
        profiles.parse("system: mysql\ndescription: d\nstages: [{rate: 1, lasts: 5s}]", {"kafka": Workload}, name="p")
    with pytest.raises(NotFound, match="no load profile nothing"):
        load_wiring.load_profile("nothing")


@pytest.mark.parametrize("name", load_wiring.load_profiles())
def test_a_shipped_profile_is_right_and_long_enough_for_its_gates(name: str) -> None:
    profile = load_wiring.load_profile(name)
    schedule = profile.schedule()
    gates = profile.limits()
    assert gates.latencies
    assert schedule.count(schedule.warm_up, schedule.seconds) >= needed(gates, drawn=profile.workload.drawn)


@pytest.mark.parametrize("name", [name for name in load_wiring.load_profiles() if name.endswith(("steady", "brief"))])
@pytest.mark.parametrize("search", [False, True])
def test_what_a_dag_without_a_form_runs_is_allowed_when_the_inventory_says_no_more_than_that(
    name: str, search: bool
) -> None:
    profile = load_wiring.load_profile(name)
    if not search or name.endswith("steady"):
        wish = Wish(profile=profile, target="t", permission=LoadPermission(allowed=True), search=search)
        assert admitted(wish, profile.schedule()) <= 600


@pytest.mark.parametrize("name", [name for name in load_wiring.load_profiles() if name.endswith("steady")])
def test_each_rate_of_a_shipped_search_is_held_long_enough_for_its_gates_and_several_are_tried(name: str) -> None:
    profile = load_wiring.load_profile(name)
    least = needed(profile.limits(), drawn=profile.workload.drawn)
    plan = profile.plan(most=5000)
    elapsed = 0.0
    for tried in range(3):
        rate = plan.begin * plan.factor**tried
        schedule = Schedule.steady(rate, plan.seconds_at(rate), warm_up=plan.warm_up)
        assert schedule.count(schedule.warm_up, schedule.seconds) >= least
        elapsed += schedule.seconds
    assert elapsed < plan.limit / 2


def test_rate_and_duration_of_a_run_come_before_the_profiles() -> None:
    profile = load_wiring.load_profile("kafka-steady")
    schedule = profile.schedule(rate=50, seconds=4)
    assert (schedule.highest_rate, schedule.seconds) == (50, 4 + profile.warm_up.total_seconds())


LIMITS = LoadPermission.model_validate({"allowed": True, "max_rate": 100, "max_bytes": 10_000, "max_seconds": "20s"})


def test_nothing_is_allowed_that_the_inventory_does_not_allow() -> None:
    with pytest.raises(Refused, match="not allowed on kafka/main"):
        admit("kafka/main", LoadPermission(), Schedule.steady(1, 1), bytes_each=1)
    admit("kafka/main", LIMITS, Schedule.steady(100, 10), bytes_each=10)
    with pytest.raises(Refused) as told:
        admit("kafka/main", LIMITS, Schedule.steady(101, 21), bytes_each=10)
    assert all(limit in told.value.message for limit in ("max_rate", "max_bytes", "max_seconds"))


def test_what_is_written_before_the_load_counts_too() -> None:
    schedule = Schedule.steady(100, 10)
    with pytest.raises(Refused, match="max_bytes"):
        admit("kafka/main", LIMITS, schedule, bytes_each=10, prepared=1)
    postgres = PostgresWorkload.model_validate({"scale": 100, "script": "select-only"})
    assert (postgres.operation_bytes, postgres.prepared_bytes) == (0, 100 * 32 << 20)
    rows = {"rows": 1000, "payload_bytes": 60}
    assert CassandraWorkload.model_validate(rows | {"reads": 1}).prepared_bytes == 100_000
    assert CassandraWorkload.model_validate(rows).prepared_bytes == 0


def test_what_the_generator_tries_on_the_target_before_the_load_counts_too() -> None:
    workload = {"writes": 1, "payload_bytes": 60}
    stages = [{"rate": 400, "lasts": "10s"}]
    timing = {"warm_up": "0s", "grace": "0s", "stages": stages}
    document = {"system": "cassandra", "description": "d", **timing, "workload": workload}
    profile = profiles.parse(yaml.safe_dump(document), {"cassandra": CassandraWorkload}, name="p")
    whole = (4000 + 250) * 100  # 200 a second for a second and a quarter, and then the load

    def wish(**limits: object) -> Wish:
        allowed = {"allowed": True, "max_bytes": whole, "max_seconds": 11.25, **limits}
        allowed["max_seconds"] = f"{allowed['max_seconds']}s"
        return Wish(profile=profile, target="t", permission=LoadPermission.model_validate(allowed))

    assert admitted(wish(), profile.schedule()) == 11.25
    with pytest.raises(Refused, match="max_bytes"):
        admitted(wish(max_bytes=whole - 1), profile.schedule())
    with pytest.raises(Refused, match="max_seconds"):
        admitted(wish(max_seconds=11), profile.schedule())


def test_a_stream_is_guarded_by_the_probes_of_both_clusters_that_it_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flows = {"events": {"shape": "events", "topic": "t", "table": "k.t"}}
    stream = {"kafka": "one", "cassandra": "two", "checkpoint": "file:///tmp/none", "flows": flows}
    document = {
        "pipeline": "p",
        "store": {"url": f"file://{tmp_path}/bucket"},
        "kafka": {"main": {"connection": "one"}, "other": {"connection": "three"}},
        "cassandra": {"events": {"connection": "two"}},
        "spark": {"main": stream},
    }
    path = tmp_path / "inventory.yaml"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.setattr(wiring, "open_probes", lambda _inventory, _connections, target: [str(target)])
    found = load_wiring.load_probes(wiring.load_inventory(path), Known({}), "spark/main")
    assert [str(one) for one in found] == ["spark/main", "cassandra/events", "kafka/main"]


def test_a_guard_trips_at_its_limit_and_when_it_cannot_be_read() -> None:
    def reading(metric: str, value: float, **labels: str) -> Reading:
        return Reading(metric=metric, value=value, unit="s", at=datetime(2026, 1, 1, tzinfo=UTC), labels=labels)

    permission = LoadPermission.model_validate({"guards": {"load.canary": {"above": 1}, "disk": {"below": 0.1}}})
    well = [reading("load.canary", 1.0), reading("disk", 0.1, node="a"), reading("disk", 0.5, node="b")]
    assert tripped(permission, well) == ""
    assert tripped(permission, [*well, reading("disk", 0.05, node="c")]) == "disk (node c) is 0.05 s, below 0.1"
    assert tripped(permission, [reading("load.canary", 1.1), *well[1:]]) == "load.canary is 1.1 s, above 1"
    assert tripped(permission, well[:1]) == "disk was not read"
    assert tripped(permission, [reading("load.canary", math.nan), *well[1:]]) == "load.canary was not read"


def test_a_pipeline_knows_what_its_own_tests_have_left_and_leaves_the_rest() -> None:
    prefix = prefix_of("demo")
    of_this = ["mainstay_load_demo_20261123t020000z", "kafka:mainstay_load_demo_20261123t020000z.dead"]
    others = [
        *("mainstay_load_demo_2_20261123t020000z", "mainstay_load_demo", "mainstay_load_demo_notes"),
        *("kafka:orders", "x mainstay_load_demo_20261123t020000z", "mainstay_load_demo_20261123t020000z1"),
    ]
    assert ours(prefix, [*others, *of_this]) == of_this
    for one, other in [("demo", "Demo"), ("a-b", "a_b"), ("a" * 40, "a" * 41)]:
        assert prefix_of(one) != prefix_of(other)
    assert len(prefix_of("a" * 99) + "_20261123t020000z") <= 48
