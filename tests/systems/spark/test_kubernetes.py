"""The engine `kubernetes`: what is submitted, and what it does with a FAKE of Kubernetes' API (``fake_kubernetes.py``)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Misconfigured, PermanentError, Refused, Unauthorized, Unreachable
from include.engine.streaming import Life
from include.engine.systems.spark import kubernetes
from include.engine.systems.spark.clients import ShellClusters, SparkSubmit, command, refused
from include.engine.systems.spark.kubernetes import KubernetesEngine, conf
from include.engine.systems.spark.submission import placed
from tests.systems.spark.fake_kubernetes import FakeKubernetes, fake_kubernetes
from tests.systems.spark.test_emr_serverless import NAME, PLACE, OneConnection, ready
from tests.systems.spark.test_submission import SECRETS

POD = placed(NAME, PLACE)
EXTRA = {"image": "registry/stream:1", "namespace": "pipeline", "service_account": "stream"}


class Submits(ShellClusters):
    """A FAKE of ``spark-submit``: it makes the driver's pod, as the real one does, and nothing else."""

    def __init__(self, connection: Connection, fake: FakeKubernetes) -> None:
        super().__init__(OneConnection(connection))
        self.fake = fake
        self.told: list[SparkSubmit] = []
        self.fails: MainstayError | None = None
        self.arrives = True

    def spark_submit(self, connection: str, told: SparkSubmit) -> None:
        self.told.append(told)
        labels = {
            key.rpartition(".")[2]: value
            for key, value in told.conf.items()
            if key.startswith("spark.kubernetes.driver.label.")
        }
        pod = {
            "metadata": {"name": told.conf["spark.kubernetes.driver.pod.name"], "labels": labels},
            "spec": {"containers": []},
        }
        if self.arrives:
            self.fake.answer("POST", "/api/v1/namespaces/pipeline/pods", pod)
        if self.fails:
            raise self.fails


@pytest.fixture
def fake() -> Iterator[FakeKubernetes]:
    with fake_kubernetes() as fake:
        yield fake


@pytest.fixture
def submits(fake: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submits:
    monkeypatch.setattr(kubernetes, "_POLL", 0.01)
    extra = {**EXTRA, "kube_config_path": str(fake.kubeconfig(tmp_path))}
    return Submits(Connection(host="k8s://http://127.0.0.1", port=fake.port, extra=extra), fake)


@pytest.fixture
def engine(submits: Submits, tmp_path: Path) -> KubernetesEngine:
    connection = submits._connections.get("k8s")
    return KubernetesEngine("k8s", connection, submits, checkpoint=PLACE, spark=lambda: tmp_path)


def test_what_is_submitted_is_as_it_was() -> None:
    told = SparkSubmit(
        name=NAME,
        master="k8s://https://10.0.0.1:6443",
        conf=conf(ready(), POD, EXTRA, "pipeline"),
        application="local:///opt/mainstay/include/jobs/stream.py",
        environment={},
    )
    java = "-Dlog4j2.configurationFile=file:/opt/mainstay/include/jobs/log4j2.properties"
    login = "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider"
    assert command(told) == [
        *("spark-submit", "--master", "k8s://https://10.0.0.1:6443", "--deploy-mode", "cluster"),
        *("--name", "mainstay-main-7"),
        *("--conf", f"spark.driver.extraJavaOptions={java}"),
        *("--conf", "spark.driver.memory=1g"),
        *("--conf", "spark.dynamicAllocation.enabled=false"),
        *("--conf", "spark.executor.cores=2"),
        *("--conf", f"spark.executor.extraJavaOptions={java}"),
        *("--conf", "spark.executor.instances=1"),
        *("--conf", "spark.executor.memory=1g"),
        *("--conf", f"spark.hadoop.fs.s3a.aws.credentials.provider={login}"),
        *("--conf", "spark.hadoop.fs.s3a.connection.ssl.enabled=false"),
        *("--conf", "spark.hadoop.fs.s3a.endpoint=http://127.0.0.1:7000"),
        *("--conf", "spark.hadoop.fs.s3a.endpoint.region=us-east-1"),
        *("--conf", "spark.hadoop.fs.s3a.path.style.access=true"),
        *("--conf", "spark.kubernetes.authenticate.driver.serviceAccountName=stream"),
        *("--conf", "spark.kubernetes.container.image=registry/stream:1"),
        *("--conf", "spark.kubernetes.driver.label.mainstay-job=main"),
        *("--conf", "spark.kubernetes.driver.label.mainstay-launch=mainstay-main-7-c55589"),
        *("--conf", "spark.kubernetes.driver.pod.name=mainstay-main-7-c55589"),
        *("--conf", "spark.kubernetes.driver.secretKeyRef.AWS_ACCESS_KEY_ID=mainstay-main-7-c55589:AWS_ACCESS_KEY_ID"),
        *(
            "--conf",
            "spark.kubernetes.driver.secretKeyRef.AWS_SECRET_ACCESS_KEY=mainstay-main-7-c55589:AWS_SECRET_ACCESS_KEY",
        ),
        *("--conf", "spark.kubernetes.driver.secretKeyRef.MAINSTAY_STREAM=mainstay-main-7-c55589:MAINSTAY_STREAM"),
        *("--conf", "spark.kubernetes.driverEnv.PYTHONPATH=/opt/mainstay"),
        *("--conf", "spark.kubernetes.executor.label.mainstay-job=main"),
        *("--conf", "spark.kubernetes.executor.label.mainstay-launch=mainstay-main-7-c55589"),
        *("--conf", "spark.kubernetes.executor.podNamePrefix=mainstay-main-7-c55589"),
        *("--conf", "spark.kubernetes.namespace=pipeline"),
        *("--conf", "spark.kubernetes.submission.waitAppCompletion=false"),
        *("--conf", "spark.sql.session.timeZone=UTC"),
        *("--conf", "spark.sql.shuffle.partitions=4"),
        *("--conf", "spark.sql.streaming.metricsEnabled=true"),
        *("--conf", "spark.sql.streaming.minBatchesToRetain=1000"),
        *("--conf", "spark.ui.showConsoleProgress=false"),
        "local:///opt/mainstay/include/jobs/stream.py",
    ]


def test_no_password_is_submitted_and_all_are_in_the_launchs_secret(
    engine: KubernetesEngine, submits: Submits, fake: FakeKubernetes
) -> None:
    assert engine.launch(ready()) == f"pipeline/{POD}"
    told = submits.told[0]
    shown = json.dumps([command(told), dict(told.environment), repr(told)])
    assert not [secret for secret in SECRETS if secret in shown]
    kept = json.dumps(fake.held["secrets", POD]["stringData"])
    assert all(secret in kept for secret in SECRETS)
    # The secret goes with the pod, and the next launch takes the one before.
    assert fake.held["secrets", POD]["metadata"]["ownerReferences"][0]["uid"] == fake.pod(POD)["metadata"]["uid"]
    fake.becomes(POD, "Failed")
    engine.launch(ready(8))
    assert fake.names("secrets") == [placed("mainstay-main-8", PLACE)]


def test_it_is_found_by_its_name_and_is_what_its_pod_is(
    engine: KubernetesEngine, submits: Submits, fake: FakeKubernetes, tmp_path: Path
) -> None:
    assert engine.life(NAME, None) is Life.ABSENT
    assert "no pod" in engine.logs(NAME, None)
    engine.launch(ready())
    assert engine.life(NAME, None) is Life.STARTING
    fake.becomes(POD, "Pending", waits="ImagePullBackOff")
    assert engine.life(NAME, None) is Life.STARTING
    assert "ImagePullBackOff: no such image" in engine.logs(NAME, None)
    for phase, life in {
        "Running": Life.RUNNING,
        "Unknown": Life.RUNNING,  # its node is lost, and it may still write
        "Succeeded": Life.ABSENT,
        "Failed": Life.ABSENT,
    }.items():
        fake.becomes(POD, phase)
        assert engine.life(NAME, None) is life
    assert "last words" in engine.logs(NAME, None)
    connection = submits._connections.get("k8s")
    other = KubernetesEngine("k8s", connection, submits, checkpoint="s3://other", spark=lambda: tmp_path)
    assert other.life(NAME, None) is Life.ABSENT


def test_ending_it_waits_for_its_executors_and_leaves_nothing(
    engine: KubernetesEngine, fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.end(NAME, None)
    engine.launch(ready())
    fake.becomes(POD, "Running")
    executor = {"metadata": {"name": f"{POD}-exec-1", "labels": {"mainstay-launch": POD}}, "spec": {"containers": []}}
    fake.answer("POST", "/api/v1/namespaces/pipeline/pods", executor)
    monkeypatch.setattr(kubernetes, "_GONE_WITHIN", 0.0)
    with pytest.raises(Unreachable, match="exec-1 did not end"):
        engine.end(NAME, None)
    del fake.held["pods", f"{POD}-exec-1"]
    engine.end(NAME, None)
    assert fake.names("pods") == fake.names("secrets") == []
    engine.end(NAME, None)


def test_a_driver_on_a_lost_node_lets_nobody_launch(
    engine: KubernetesEngine, fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.launch(ready())
    fake.becomes(POD, "Unknown")
    fake.stubborn.add(POD)
    monkeypatch.setattr(kubernetes, "_GONE_WITHIN", 0.0)
    with pytest.raises(Unreachable, match="did not end"):
        engine.end(NAME, None, kill=True)
    graces = [url for method, url, _ in fake.asked if method == "DELETE" and "/pods/" in url]
    assert graces
    assert not [url for url in graces if "gracePeriodSeconds=0" in url]


def test_a_submission_whose_answer_was_lost_is_a_launch(
    engine: KubernetesEngine, submits: Submits, fake: FakeKubernetes
) -> None:
    submits.fails = Unreachable("the answer was lost", hint="look")
    engine.launch(ready())
    assert fake.names("pods") == fake.names("secrets") == [POD]


def test_a_submission_that_failed_leaves_no_secret(
    engine: KubernetesEngine, submits: Submits, fake: FakeKubernetes
) -> None:
    submits.fails, submits.arrives = refused(NAME, "pods is forbidden"), False
    with pytest.raises(PermanentError, match="forbidden"):
        engine.launch(ready())
    assert fake.held == {}
    assert isinstance(refused(NAME, "Caused by: java.net.ConnectException: refused"), Unreachable)


def test_an_emptied_checkpoint_does_not_meet_the_pods_of_its_earlier_life(
    engine: KubernetesEngine, fake: FakeKubernetes
) -> None:
    engine.launch(ready())
    fake.becomes(POD, "Running")
    with pytest.raises(Refused, match="nobody is noted"):
        engine.launch(ready())
    fake.becomes(POD, "Succeeded")
    engine.launch(ready())
    assert engine.life(NAME, None) is Life.STARTING


@pytest.mark.parametrize(("status", "kind"), [(403, Unauthorized), (500, Unreachable), (422, PermanentError)])
def test_what_the_api_refuses_is_said_and_no_secret_with_it(
    engine: KubernetesEngine, fake: FakeKubernetes, status: int, kind: type[MainstayError]
) -> None:
    fake.refuses = status
    with pytest.raises(kind) as told:
        engine.pods.keep_secret(POD, ready().environment, {})
    chain: list[Any] = [told.value, told.value.__cause__]
    assert not [secret for secret in SECRETS if secret in repr(chain)]


def test_silence_is_not_absence(submits: Submits, tmp_path: Path) -> None:
    away = submits.fake.kubeconfig(tmp_path)
    away.write_text(away.read_text().replace(str(submits.fake.port), "9"))
    connection = submits._connections.get("k8s")
    engine = KubernetesEngine("k8s", connection, submits, checkpoint=PLACE, spark=lambda: tmp_path)
    with pytest.raises(Unreachable, match="does not answer"):
        engine.life(NAME, None)


def test_what_is_missing_is_named_with_what_to_install(
    engine: KubernetesEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(Misconfigured) as told:
        engine.life(NAME, None)
    assert "apache-airflow-providers-cncf-kubernetes" in told.value.hint
    clusters = ShellClusters(OneConnection(Connection()))
    for connection, said in (
        (Connection(host="https://10.0.0.1", extra={"image": "i"}), "no Kubernetes"),
        (Connection(host="k8s://https://10.0.0.1"), "no image"),
    ):
        with pytest.raises(Misconfigured, match=said):
            KubernetesEngine("k8s", connection, clusters, checkpoint=PLACE, spark=lambda: tmp_path)


def test_names_fit_kubernetes_however_long_a_job_is_called() -> None:
    long = placed(f"mainstay-{'Orders_' * 12}-12345", PLACE)
    assert len(long) <= 47
    assert long.replace("-", "").isalnum()
    assert long == long.lower()
    assert placed("mainstay-a_b-1", PLACE) != placed("mainstay-a-b-1", PLACE)
