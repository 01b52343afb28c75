"""The mirror's trigger and operators, on a real Connect worker: what waits survives its triggerer, and sees a dead task."""

from __future__ import annotations

from tests import airflow_env  # isort: skip  # before the first import of Airflow

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.engine.errors import PermanentError, Refused
from include.engine.systems.kafka.connect import Connect
from include.engine.systems.kafka.connect_server import ConnectWorker
from include.engine.systems.kafka.mirror import KafkaMirror
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.topology import connector_name
from mainstay.operators.failover import FailoverOperator, PlanFailoverOperator
from mainstay.operators.mirror import (
    ApplyMirrorOperator,
    PlanMirrorOperator,
    ProveMirrorOperator,
    WaitForMirrorOperator,
)
from mainstay.triggers.mirror import CaughtUpTrigger
from tests.systems.kafka.stand import Stand, send

assert airflow_env.HOME.is_dir()
pytestmark = pytest.mark.integration


@pytest.fixture
def name(
    stand: Stand,
    mirror: KafkaMirror,
    dr: KafkaCluster,
    worker: ConnectWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The mirror as Airflow knows it: by an inventory and connections."""
    file = tmp_path / "inventory.yaml"
    file.write_text(
        "pipeline: test\nstore: {url: 'file:///nowhere'}\n"
        f"kafka: {{main: {{connection: kafka_main, mirrors: {{'{mirror.name}': {{connect: kafka_connect, to: kafka_dr, "
        f"topics: ['{stand.prefix}.*'], groups: ['{stand.prefix}.*'], replication_factor: 1, "
        f"source_alias: {mirror.settings.source_alias}}}}}}}}}\n"
    )
    monkeypatch.setenv("MAINSTAY_INVENTORY", str(file))
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_MAIN", f"kafka://{stand.cluster.bootstrap}")
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DR", f"kafka://{dr.bootstrap}")
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_CONNECT", f"http://127.0.0.1:{worker.port}")
    return f"kafka/main/{mirror.name}"


def context(run_type: str = "manual") -> Any:
    return {
        "dag_run": SimpleNamespace(run_after=datetime(2026, 11, 23, 2, 0, tzinfo=UTC), run_type=run_type),
        "params": {"reason": "the site is on fire"},
    }


def again(trigger: BaseTrigger) -> BaseTrigger:
    """Give what the next triggerer makes of what the last one has stored."""
    path, kwargs = trigger.serialize()
    assert path == "mainstay.triggers.mirror.CaughtUpTrigger"
    return CaughtUpTrigger(**kwargs)


async def event_of(trigger: BaseTrigger, within: float = 60.0) -> dict[str, Any]:
    async def first() -> TriggerEvent:
        async for event in trigger.run():
            return event
        raise AssertionError("the trigger ended without an event")

    payload = (await asyncio.wait_for(first(), within)).payload
    assert isinstance(payload, dict)
    return payload


def deferred(name: str, cut: Any) -> CaughtUpTrigger:
    with pytest.raises(TaskDeferred) as deferral:
        WaitForMirrorOperator(task_id="wait", mirror=name, cut=cut).execute(context())
    trigger = deferral.value.trigger
    assert isinstance(trigger, CaughtUpTrigger)
    return trigger


def test_the_steps_of_the_mirror_and_the_fail_over_hold_on_real_servers(
    stand: Stand, mirror: KafkaMirror, worker: ConnectWorker, dr: KafkaCluster, name: str
) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 300)
    group = stand.commit("g", {(topic, 0): 40})
    assert PlanMirrorOperator(task_id="plan", mirror=name).execute(context())["topics"] == 1
    cut = ApplyMirrorOperator(task_id="apply", mirror=name).execute(context())
    seen = asyncio.run(event_of(deferred(name, cut)))
    assert seen["caught_up"]
    wait = WaitForMirrorOperator(task_id="wait", mirror=name, cut=cut)
    assert wait.execute_complete(context(), seen) == seen
    proved = ProveMirrorOperator(task_id="prove", mirror=name, cut=cut, seen=seen).execute(context())
    assert (proved["verdict"], proved["problems"]) == ("PASS", [])

    # A triggerer dies while the mirror lags; the next one goes on with what was stored, and nothing else.
    connect = Connect(worker.connection())
    connect.stop(connector_name(mirror.name))
    _until_stopped(connect, mirror)
    send(producer := stand.producer(), topic, b"late", None, 0)
    producer.flush()
    trigger = deferred(name, mirror.cut(lambda: datetime.now(UTC)))

    async def dies_and_goes_on() -> dict[str, Any]:
        first = asyncio.create_task(event_of(trigger))
        await asyncio.sleep(2)
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.to_thread(connect.resume, connector_name(mirror.name))
        return await event_of(again(trigger))

    found = PlanFailoverOperator(task_id="plan", mirror=name).execute(context())
    assert (found["source_answers"], found["caught_up"], found["offsets"]) == (True, False, 1)
    assert "1 offsets" in found["page"]
    assert asyncio.run(dies_and_goes_on())["caught_up"]

    # And its patience ends: that is no error of the trigger, and no success.
    late = CaughtUpTrigger(mirror=name, cut={**cut, "high": {topic: [10**6] * 3}}, until=time.time() + 1)
    assert not asyncio.run(event_of(again(late)))["caught_up"]

    approval = {"responded_by_user": {"name": "a person"}}
    done = FailoverOperator(task_id="failover", mirror=name, approval=approval).execute(context())
    assert (done["verdict"], done["problems"], done["approved_by"]) == ("PASS", [], "a person")
    assert stand.next_record(group, topic, 0, cluster=dr) == stand.next_record(group, topic, 0)
    assert connect.status(connector_name(mirror.name)).connector == "STOPPED"

    # From now on the clock's runs are skipped, each with the next step; a person who runs it is refused.
    plan = PlanMirrorOperator(task_id="plan", mirror=name)
    with pytest.raises(AirflowSkipException, match=r"failed over at 20.*the site is on fire.*mirror-stopped\.md"):
        plan.execute(context("scheduled"))
    with pytest.raises(Refused, match="stopped, as a fail-over does"):
        plan.execute(context())


def test_a_connector_that_says_running_with_a_dead_task_ends_the_waiting(
    stand: Stand, mirror: KafkaMirror, worker: ConnectWorker, name: str
) -> None:
    stand.produce(stand.topic("t"), 30)
    connector = connector_name(mirror.name)
    mirror._wanted[connector] |= {
        "transforms": "broken",
        "transforms.broken.type": "org.apache.kafka.connect.transforms.Cast$Value",
        "transforms.broken.spec": "int8",
    }
    mirror.apply()
    cut = mirror.cut(lambda: datetime.now(UTC))
    seen = asyncio.run(event_of(deferred(name, cut)))
    assert seen["failed"]
    assert not seen["caught_up"]
    assert Connect(worker.connection()).status(connector).connector == "RUNNING"
    with pytest.raises(PermanentError, match="has failed"):
        WaitForMirrorOperator(task_id="wait", mirror=name, cut=cut).execute_complete(context(), seen)


def test_a_dead_source_fails_over_unverified_and_says_what_nobody_can_know(
    stand: Stand, mirror: KafkaMirror, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.produce(stand.topic("t"), 30)
    mirror.apply()
    monkeypatch.setattr("include.engine.systems.kafka.client.open_admin.__wrapped__.__kwdefaults__", {"patience": 1.0})
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_MAIN", "kafka://127.0.0.1:1")
    found = PlanFailoverOperator(task_id="plan", mirror=name).execute(context())
    assert not found["source_answers"]
    assert "does not answer" in found["page"]
    approval = {"responded_by_user": {"name": "a person"}}
    done = FailoverOperator(task_id="failover", mirror=name, approval=approval).execute(context())
    assert (done["verdict"], done["source_answered"]) == ("UNVERIFIED", False)
    assert any("what is missing" in problem for problem in done["problems"])


def _until_stopped(connect: Connect, mirror: KafkaMirror) -> None:
    deadline = time.monotonic() + 60
    while connect.status(connector_name(mirror.name)).tasks:
        assert time.monotonic() < deadline
        time.sleep(0.1)
