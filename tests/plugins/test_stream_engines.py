"""The stream's operators on Kubernetes and EMR Serverless, through the providers' real hooks and FAKES behind them: one HTTP
server that keeps pods and runs none, and moto.  Kafka is a script, and the journal a directory."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest

from tests.plugins.conftest import context  # isort: skip  # sets Airflow up

from airflow.sdk.exceptions import TaskDeferred
from moto import mock_aws

from include.engine.errors import Misconfigured
from include.engine.store.bucket import Bucket
from include.engine.streaming import Life
from include.engine.systems.spark import emr_serverless, kubernetes, positions
from include.engine.systems.spark import stream as streams
from include.engine.systems.spark.journal import FOLDER, Journal
from include.engine.systems.spark.positions import Place
from include.engine.systems.spark.stream import SparkStream
from mainstay.hooks.mainstay import MainstayHook
from mainstay.operators import stream as operators
from mainstay.operators.stream import KeepStreamOperator, WishStreamOperator
from mainstay.triggers.stream import AtRestTrigger, StreamTrigger
from tests.systems.spark.fake_kubernetes import FakeKubernetes, fake_kubernetes

JOB = "spark/main"
SECRETS = ("kafka's secret", "cassandra's secret")
INVENTORY = """
pipeline: p
store: {{url: "file:///nowhere", connection: s}}
spark:
  main:
    engine: {engine}
    cluster: cluster
    checkpoint: s3://stream/main
    kafka: kafka
    cassandra: cassandra
    flows:
      users: {{shape: users, topic: users_created, table: spark_streams.created_users}}
"""
# Stands where Spark's own is: what it is told, it makes a pod of.
SPARK_SUBMIT = """#!{python} -SE
# A FAKE of spark-submit: it makes the driver's pod, and starts nothing.
import json, os, sys, urllib.request
conf = dict(one.split("=", 1) for flag, one in zip(sys.argv, sys.argv[1:]) if flag == "--conf")
print("spark-submit as", " ".join(sys.argv[1:]), flush=True)
server = json.load(open(os.environ["KUBECONFIG"]))["clusters"][0]["cluster"]["server"]
assert sys.argv[sys.argv.index("--master") + 1] == "k8s://" + server
label = "spark.kubernetes.driver.label."
labels = {{key[len(label):]: value for key, value in conf.items() if key.startswith(label)}}
pod = {{"metadata": {{"name": conf["spark.kubernetes.driver.pod.name"], "labels": labels}}, "spec": {{"containers": []}}}}
path = "/api/v1/namespaces/" + conf["spark.kubernetes.namespace"] + "/pods"
urllib.request.urlopen(urllib.request.Request(server + path, json.dumps(pod).encode()))
"""


class World(Protocol):
    """An engine that is a fake."""

    def running(self) -> list[str]:
        """The names of what runs, or is starting."""
        ...

    def becomes(self, state: str) -> None:
        """Let the newest run or end: ``running`` or ``ended``."""
        ...

    def shown(self) -> str:
        """All that it was asked, its secrets apart."""
        ...


class Kubernetes:
    def __init__(self, fake: FakeKubernetes) -> None:
        self.fake = fake

    def running(self) -> list[str]:
        pods = [self.fake.pod(name) for name in self.fake.names("pods")]
        return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]

    def becomes(self, state: str) -> None:
        self.fake.becomes(self.fake.names("pods")[-1], "Running" if state == "running" else "Succeeded")

    def shown(self) -> str:
        return "".join(body for _, url, body in self.fake.asked if "/secrets" not in url)


class Emr:
    def __init__(self, runs: Any) -> None:
        self.runs = runs

    def running(self) -> list[str]:
        return [run.name for run in self.runs() if run.state not in ("SUCCESS", "FAILED", "CANCELLED")]

    def becomes(self, state: str) -> None:
        self.runs()[-1].state = "RUNNING" if state == "running" else "SUCCESS"

    def shown(self) -> str:
        return json.dumps([vars(run) for run in self.runs()], default=str)


def connection(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


@pytest.fixture
def on_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    home = tmp_path / "spark"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "spark-submit").write_text(SPARK_SUBMIT.format(python=sys.executable))
    (home / "bin" / "spark-submit").chmod(0o755)
    monkeypatch.setattr(streams, "spark_home", lambda shelf: home)
    monkeypatch.setattr(kubernetes, "_POLL", 0.01)
    with fake_kubernetes() as fake:
        config = str(fake.kubeconfig(tmp_path))
        extra = {"image": "registry/stream:1", "namespace": "pipeline", "kube_config_path": config}
        connection(
            monkeypatch, "cluster", conn_type="spark", host="k8s://http://127.0.0.1", port=fake.port, extra=extra
        )
        yield Kubernetes(fake)


@pytest.fixture
def on_emr(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    from moto.emrserverless.models import emrserverless_backends

    monkeypatch.setattr(emr_serverless, "_POLL", 0.01)
    monkeypatch.setattr("moto.emrserverless.models.JOB_STATUS", "SUBMITTED")  # moto's job runs end when they begin
    with mock_aws():
        client: Any = boto3.client(
            "emr-serverless", "eu-central-1", aws_access_key_id="key", aws_secret_access_key="secret"
        )
        made = client.create_application(name="streams", releaseLabel="emr-7.0.0", type="SPARK")["applicationId"]
        extra = {
            "application_id": made,
            "execution_role": "arn:aws:iam::123456789012:role/stream",
            "region_name": "eu-central-1",
        }
        connection(monkeypatch, "cluster", conn_type="aws", login="key", password="aws's secret", extra=extra)
        yield Emr(lambda: emrserverless_backends["123456789012"]["eu-central-1"].job_runs[made])


@pytest.fixture(params=["kubernetes", "emr-serverless"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(INVENTORY.format(engine=request.param))
    monkeypatch.setenv("MAINSTAY_INVENTORY", str(inventory))
    connection(monkeypatch, "kafka", conn_type="kafka", host="k1", login="stream", password=SECRETS[0])
    connection(monkeypatch, "cassandra", conn_type="cassandra", host="c1", login="stream", password=SECRETS[1])
    notes = tmp_path / "checkpoint"
    notes.mkdir()
    monkeypatch.setattr(Journal, "of", classmethod(lambda cls, settings, store: cls(Bucket.open(f"file://{notes}"))))
    waits = [Place(partition=0, low=0, end=10, committed=4, note={}, waits_since=time.time())]
    monkeypatch.setattr(positions, "read", lambda *_, **__: {"users_created": waits})
    found: World = request.getfixturevalue("on_kubernetes" if request.param == "kubernetes" else "on_emr")
    return found


def opened() -> SparkStream:
    found = MainstayHook().stream(JOB)
    assert isinstance(found, SparkStream)
    return found


def deferred(operator: Any, **params: Any) -> Any:
    with pytest.raises(TaskDeferred) as told:
        operator.execute(context(**params))
    return told.value.trigger


def note(kind: str, generation: int, document: dict[str, Any]) -> None:
    """Write what the job itself would: nothing runs here that could."""
    opened().journal.bucket.create(f"{FOLDER}/{kind}/{generation:06d}.json", json.dumps(document).encode())


async def test_a_stream_is_launched_once_kept_by_its_progress_and_drained(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # Absent: launched, and waited for without a worker.
    assert isinstance(deferred(KeepStreamOperator(task_id="keep", job=JOB)), StreamTrigger)
    first = world.running()
    assert len(first) == 1
    assert first[0].startswith("mainstay-main-1-")

    # Another task, as after a retry or on another worker: found by its name, also when its handle was not written down.
    world.becomes("running")
    note("runs", 1, {"application": "a", "flows": {}})
    deferred(KeepStreamOperator(task_id="keep", job=JOB))
    assert world.running() == first
    assert opened().engine.life("mainstay-main-1", None) is Life.RUNNING

    # It says that it runs, and has not moved for ten minutes: the same decision as everywhere ends it and launches another.
    keeper = KeepStreamOperator(task_id="keep", job=JOB)
    watched = {"flows": {"users": {"position": 4, "moved": time.time()}}}
    event = {"watched": watched, "until": time.time() + 600}
    later = datetime.fromtimestamp(time.time() + 600, UTC)
    monkeypatch.setattr(operators, "clock", lambda: later)
    with pytest.raises(TaskDeferred):
        keeper.execute_complete(context(), event)
    second = world.running()
    assert len(second) == 1
    assert second[0].startswith("mainstay-main-2-")

    # A person drains it; it rests when it has ended.
    world.becomes("running")
    drain = WishStreamOperator(task_id="wish", job=JOB)
    trigger = deferred(drain, action="drain", reason="a new cluster tonight")
    assert isinstance(trigger, AtRestTrigger)
    world.becomes("ended")
    note("ends", 2, {"kind": "drained", "reason": "all is written", "at": time.time()})
    async for told in trigger.run():
        assert told.payload["rests"]
        assert drain.execute_complete(context(action="drain"), told.payload)["end"] == "drained"
        break
    deferred(KeepStreamOperator(task_id="keep", job=JOB))
    assert world.running() == []  # who is wished to rest is not launched

    shown = world.shown() + caplog.text + "".join(capfd.readouterr())
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize("world", ["kubernetes"], indirect=True)  # the Amazon provider is always there
def test_a_provider_that_is_not_installed_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.cncf.kubernetes.hooks.kubernetes", None)
    with pytest.raises(Misconfigured) as told:
        opened().engine.life("mainstay-main-1", None)
    assert "apache-airflow-providers-cncf-kubernetes" in told.value.hint
